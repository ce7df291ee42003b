//! One file of a chain: which one it goes on from, the state's head, and the users that changed, in order.
//! Compressed, with a checksum in front. It is written and read one user after the other: there are millions.

use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail, ensure};
use cambium_engine::{Bug, bug};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};
use zstd::stream::{read, write};

const MAGIC: &[u8; 8] = b"cambium2";
/// The magic and the checksum.
const FRONT: usize = 16;
/// So much is read at a time.
const READ: usize = 1 << 16;

/// Who, in the order in which a file has them: an app's number, and a user of it.
pub(crate) type Who = (u32, u64);

/// A file's beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The file that this one goes on from; none: it is full.
    pub base: Option<String>,
    pub epoch: u16,
    pub position: i64,
    pub state: Vec<u8>,
}

/// Who, and their state; none: forgotten.
type User = (Who, Option<Vec<u8>>);

/// What stands before a user's state; behind the last user stands none.
#[derive(Serialize, Deserialize)]
struct Mark {
    who: Who,
    /// So many bytes of state follow; none: the user was forgotten.
    length: Option<u64>,
}

/// A file as it is written.
pub(crate) struct Writer {
    name: String,
    extension: &'static str,
    body: write::Encoder<'static, Vec<u8>>,
}

impl Writer {
    pub fn new(head: &Head) -> Result<Writer> {
        let mut front = MAGIC.to_vec();
        front.resize(FRONT, 0);
        let mut body = write::Encoder::new(front, 1).context("the snapshot cannot be compressed")?;
        let encoded = postcard::to_stdvec(head).context("the snapshot cannot be encoded")?;
        put(&mut body, &(encoded.len() as u64))?;
        body.write_all(&encoded)
            .context("the snapshot cannot be compressed")?;
        Ok(Writer {
            name: format!("{:05}-{:020}", head.epoch, head.position),
            extension: if head.base.is_some() { "delta" } else { "full" },
            body,
        })
    }

    /// The next user, and their state; none: forgotten.
    pub fn user(&mut self, who: Who, state: Option<&[u8]>) -> Result<()> {
        let length = state.map(|state| state.len() as u64);
        put(&mut self.body, &Some(Mark { who, length }))?;
        self.body
            .write_all(state.unwrap_or_default())
            .context("the snapshot cannot be compressed")
    }

    /// The file's name and its bytes. Names sort as positions do, and are of one content each: two owners may be at one
    /// position, and who goes on from the file of one never meets that of the other.
    pub fn finish(mut self) -> Result<(String, Vec<u8>)> {
        put(&mut self.body, &None::<Mark>)?;
        let mut bytes = self.body.finish().context("the snapshot cannot be compressed")?;
        let checksum = xxh3_64(&bytes[FRONT..]);
        bytes[MAGIC.len()..FRONT].copy_from_slice(&checksum.to_le_bytes());
        let content = xxh3_64(&bytes) as u32;
        Ok((format!("{}-{content:08x}.{}", self.name, self.extension), bytes))
    }
}

fn put<T: Serialize>(body: &mut impl Write, what: &T) -> Result<()> {
    postcard::to_io(what, body).context("the snapshot cannot be encoded")?;
    Ok(())
}

/// Where a file's bytes are: on disk, where they are many.
pub(crate) trait Held: Read + Seek + Send {}
impl<T: Read + Seek + Send> Held for T {}

/// A file as it is read.
pub(crate) struct Reader {
    pub head: Head,
    body: BufReader<read::Decoder<'static, BufReader<Box<dyn Held>>>>,
    last: Option<Who>,
}

impl Reader {
    /// Reads it once to see whether it is whole, and then again.
    pub fn open(mut file: Box<dyn Held>) -> Result<Reader> {
        let mut front = Vec::new();
        file.by_ref().take(FRONT as u64).read_to_end(&mut front)?;
        ensure!(front.len() == FRONT, "it is {} bytes long: torn", front.len());
        if &front[..MAGIC.len()] != MAGIC {
            bail!("it does not begin as a snapshot of this release does");
        }
        ensure!(
            front[MAGIC.len()..] == checksum_of(&mut file)?.to_le_bytes() || bug(Bug::DamageNotSeen),
            "its checksum does not match: torn or damaged"
        );
        file.seek(SeekFrom::Start(FRONT as u64))?;
        let body = read::Decoder::new(file).context("it cannot be decompressed")?;
        let mut body = BufReader::new(body);
        let length = take(&mut body)?;
        let head = postcard::from_bytes(&bytes_of(&mut body, length)?).context("it cannot be decoded")?;
        Ok(Reader {
            head,
            body,
            last: None,
        })
    }

    /// The next user, and their state; none: forgotten. Nothing behind the last one.
    pub fn user(&mut self) -> Result<Option<User>> {
        let Some(Mark { who, length }) = take(&mut self.body)? else {
            return Ok(None);
        };
        ensure!(self.last < Some(who), "its users are not in order");
        self.last = Some(who);
        let state = length.map(|length| bytes_of(&mut self.body, length));
        Ok(Some((who, state.transpose()?)))
    }
}

/// So many bytes. Where there are fewer than the file says, nothing is asked of memory for them.
fn bytes_of(body: &mut impl Read, length: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut some = body.take(length);
    some.read_to_end(&mut bytes)
        .context("it cannot be decompressed")?;
    ensure!(bytes.len() as u64 == length, "it is cut off");
    Ok(bytes)
}

fn checksum_of(rest: &mut impl Read) -> Result<u64> {
    let (mut checksum, mut some) = (Xxh3::new(), vec![0; READ]);
    loop {
        match rest.read(&mut some)? {
            0 => return Ok(checksum.digest()),
            read => checksum.update(&some[..read]),
        }
    }
}

fn take<T: for<'de> Deserialize<'de>>(body: &mut impl Read) -> Result<T> {
    let (what, _) = postcard::from_io((body, &mut [])).context("it cannot be decoded")?;
    Ok(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(users: &[(Who, Option<&[u8]>)]) -> Vec<u8> {
        let head = Head {
            base: Some("00000-1.full".to_owned()),
            epoch: 1,
            position: 7,
            state: (0..200).collect(),
        };
        let mut writer = Writer::new(&head).unwrap();
        for (who, state) in users {
            writer.user(*who, *state).unwrap();
        }
        writer.finish().unwrap().1
    }

    fn read(bytes: &[u8]) -> Result<(Head, Vec<User>)> {
        let mut reader = Reader::open(Box::new(std::io::Cursor::new(bytes.to_vec())))?;
        let mut users = Vec::new();
        while let Some(user) = reader.user()? {
            users.push(user);
        }
        Ok((reader.head, users))
    }

    /// Whichever bit flips and wherever it is cut: it is seen, and nothing is asked of memory for it.
    #[test]
    fn damage_anywhere_is_seen() {
        let bytes = written(&[((0, 1), Some(&[1, 2, 3])), ((0, 2), None), ((1, 0), Some(&[]))]);
        let (head, users) = read(&bytes).unwrap();
        assert_eq!((head.position, head.state.len()), (7, 200));
        let expected = [
            ((0, 1), Some(vec![1, 2, 3])),
            ((0, 2), None),
            ((1, 0), Some(vec![])),
        ];
        assert_eq!(users, expected);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn users_are_in_order() {
        read(&written(&[((0, 2), None), ((0, 2), None)])).unwrap_err();
        read(&written(&[((1, 0), None), ((0, 2), None)])).unwrap_err();
    }
}
