//! One file of a chain: which one it goes on from, the state's head, and the users that changed, in order.
//! Compressed, with a checksum in front. It is written and read one user after the other: there are millions.

use std::io::{BufReader, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail, ensure};
use cambium_engine::{Bug, bug};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed};
use zstd::stream::{read, write};

/// What each file begins with, and behind it the number of its form.
const MAGIC: &[u8] = b"cambium";
/// The form that is written. In every form from this one on, behind the number stands a checksum of the number and of all that
/// follows, so that a later form is told from damage. The one before, which is read too, had its length beside the checksum,
/// and the number of its users in front of them in the place of an end behind.
const FORM: u8 = b'2';
const FORM_BEFORE: u8 = b'1';
/// The magic, the form and the checksum.
const FRONT: usize = 16;
/// Names are not longer.
const NAME: usize = 256;
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
        front.push(FORM);
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
        let checksum = xxh3_64_with_seed(&bytes[FRONT..], FORM.into());
        bytes[MAGIC.len() + 1..FRONT].copy_from_slice(&checksum.to_le_bytes());
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
    /// How many users there are to come, where that is said in front of them.
    left: Option<u64>,
}

/// A snapshot that another release wrote, and this one cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is of a later release, in form {0}: start that release, or a later one")]
pub struct OfLaterRelease(char);

impl Reader {
    /// Reads it once to see whether it is whole, and then again.
    pub fn open(mut file: Box<dyn Held>) -> Result<Reader> {
        let mut front = Vec::new();
        file.by_ref().take(FRONT as u64).read_to_end(&mut front)?;
        ensure!(front.len() == FRONT, "it is {} bytes long: torn", front.len());
        if &front[..MAGIC.len()] != MAGIC {
            bail!("it does not begin as a snapshot does");
        }
        let form = front[MAGIC.len()];
        if form == FORM_BEFORE {
            // The length, which says nothing that the rest does not; then the checksum.
            file.by_ref().take(8).read_to_end(&mut front)?;
        }
        let begins = file.stream_position()?;
        let seed = if form == FORM_BEFORE { 0 } else { form.into() };
        ensure!(
            front.ends_with(&checksum_of(&mut file, seed)?.to_le_bytes()) || bug(Bug::DamageNotSeen),
            "its checksum does not match: torn or damaged"
        );
        ensure!(form <= FORM, OfLaterRelease(char::from(form)));
        file.seek(SeekFrom::Start(begins))?;
        let body = read::Decoder::new(file).context("it cannot be decompressed")?;
        let mut body = BufReader::new(body);
        let (head, left) = if form == FORM_BEFORE {
            let head = take(&mut body)?;
            (head, Some(take(&mut body)?))
        } else {
            let length = take(&mut body)?;
            let head = bytes_of(&mut body, length)?;
            (postcard::from_bytes(&head).context("it cannot be decoded")?, None)
        };
        Ok(Reader {
            head,
            body,
            last: None,
            left,
        })
    }

    /// The next user, and their state; none: forgotten. Nothing behind the last one.
    pub fn user(&mut self) -> Result<Option<User>> {
        let mark = match &mut self.left {
            Some(0) => None,
            Some(left) => {
                *left -= 1;
                Some(take(&mut self.body)?)
            }
            None => take(&mut self.body)?,
        };
        let Some(Mark { who, length }) = mark else {
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

fn checksum_of(rest: &mut impl Read, seed: u64) -> Result<u64> {
    let (mut checksum, mut some) = (Xxh3::with_seed(seed), vec![0; READ]);
    loop {
        match rest.read(&mut some)? {
            0 => return Ok(checksum.digest()),
            read => checksum.update(&some[..read]),
        }
    }
}

fn take<T: for<'de> Deserialize<'de>>(body: &mut impl Read) -> Result<T> {
    let (what, _) = postcard::from_io((body, &mut [0; NAME])).context("it cannot be decoded")?;
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

    /// Whole, and of a form that is not known: it is no damage, and never passed over.
    #[test]
    fn a_later_release_is_told() {
        let mut bytes = written(&[((0, 1), None)]);
        bytes[MAGIC.len()] = b'7';
        let checksum = xxh3_64_with_seed(&bytes[FRONT..], b'7'.into());
        bytes[MAGIC.len() + 1..FRONT].copy_from_slice(&checksum.to_le_bytes());
        let error = read(&bytes).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&OfLaterRelease('7')));
    }

    #[test]
    fn users_are_in_order() {
        read(&written(&[((0, 2), None), ((0, 2), None)])).unwrap_err();
        read(&written(&[((1, 0), None), ((0, 2), None)])).unwrap_err();
    }
}
