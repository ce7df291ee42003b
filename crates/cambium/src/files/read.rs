//! The lines of a file, plain, gzip or zstd; standard input is spooled first.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// A file of events, with the digest of its content.
pub struct Input {
    pub name: String,
    pub digest: String,
    pub bytes: u64,
    file: File,
}

/// Opens files, `-` being standard input, and digests them.
pub fn open(paths: &[PathBuf]) -> Result<Vec<Input>> {
    paths
        .iter()
        .map(|path| input(path).with_context(|| format!("cannot read {}", path.display())))
        .collect()
}

fn input(path: &Path) -> Result<Input> {
    let mut file = if path == Path::new("-") {
        let mut spool = tempfile::tempfile()?;
        io::copy(&mut io::stdin().lock(), &mut spool)?;
        spool
    } else {
        File::open(path)?
    };
    file.rewind()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        bytes += length as u64;
    }
    file.rewind()?;
    let digest = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Input {
        name: path.display().to_string(),
        digest,
        bytes,
        file,
    })
}

impl Input {
    /// The content, unpacked.
    pub fn lines(self) -> Result<impl BufRead> {
        let mut packed = BufReader::new(self.file);
        let start = packed.fill_buf()?.to_vec();
        let plain: Box<dyn Read> = if start.starts_with(&[0x1f, 0x8b]) {
            Box::new(flate2::read::MultiGzDecoder::new(packed))
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Box::new(zstd::Decoder::new(packed)?)
        } else {
            Box::new(packed)
        };
        Ok(BufReader::with_capacity(1 << 16, plain))
    }
}
