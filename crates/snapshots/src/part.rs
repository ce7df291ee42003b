//! One file of a chain: which one it goes on from, the state's head, and the users that changed.
//! Compressed, with a checksum in front.

use anyhow::{Context, Result, bail, ensure};
use cambium_engine::{Bug, Capture, bug};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"cambium1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// The file that this one goes on from; none: it is full.
    pub base: Option<String>,
    pub epoch: u16,
    pub position: i64,
    pub head: Vec<u8>,
    pub users: Vec<(u32, u64, Option<Vec<u8>>)>,
}

impl Part {
    pub fn new(capture: Capture, base: Option<String>) -> Part {
        Part {
            base,
            epoch: capture.epoch,
            position: capture.position,
            head: capture.head,
            users: capture.users,
        }
    }

    /// Its name and its bytes. Names sort as positions do, and are of one content each: two owners may be at one
    /// position, and who goes on from the file of one never meets that of the other.
    pub fn file(&self) -> Result<(String, Vec<u8>)> {
        let bytes = self.encode()?;
        let kind = if self.base.is_some() { "delta" } else { "full" };
        let content = xxh3_64(&bytes) as u32;
        let name = format!("{:05}-{:020}-{content:08x}.{kind}", self.epoch, self.position);
        Ok((name, bytes))
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let plain = postcard::to_stdvec(self).context("the snapshot cannot be encoded")?;
        let body = zstd::bulk::compress(&plain, 1).context("the snapshot cannot be compressed")?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend((plain.len() as u64).to_le_bytes());
        bytes.extend(xxh3_64(&body).to_le_bytes());
        bytes.extend(body);
        Ok(bytes)
    }

    pub fn decode(bytes: &[u8]) -> Result<Part> {
        ensure!(bytes.len() >= 24, "it is {} bytes long: torn", bytes.len());
        if &bytes[..8] != MAGIC {
            bail!("it does not begin as a snapshot of this release does");
        }
        let number = |at: usize| {
            bytes[at..at + 8]
                .iter()
                .rev()
                .fold(0, |number, byte| (number << 8) | u64::from(*byte))
        };
        let (length, checksum, body) = (number(8), number(16), &bytes[24..]);
        ensure!(
            xxh3_64(body) == checksum || bug(Bug::DamageNotSeen),
            "its checksum does not match: torn or damaged"
        );
        // The checksum is of the body alone: a damaged length would be asked of memory.
        let held = zstd::zstd_safe::get_frame_content_size(body);
        ensure!(
            matches!(held, Ok(Some(held)) if held == length),
            "its length does not match: torn or damaged"
        );
        let plain = zstd::bulk::decompress(body, length as usize).context("it cannot be decompressed")?;
        postcard::from_bytes(&plain).context("it cannot be decoded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whichever bit flips and wherever it is cut: it is seen, and nothing is asked of memory for it.
    #[test]
    fn damage_anywhere_is_seen() {
        let part = Part {
            base: Some("00000-1.full".to_owned()),
            epoch: 1,
            position: 7,
            head: (0..200).collect(),
            users: vec![(0, 1, Some(vec![1, 2, 3])), (0, 2, None)],
        };
        let bytes = part.encode().unwrap();
        assert_eq!(Part::decode(&bytes).unwrap(), part);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Part::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Part::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
    }
}
