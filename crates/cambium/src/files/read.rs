//! The records of a file: JSON lines or an Avro container, plain, gzip or zstd; standard input is spooled first.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cambium_event::{SchemaText, Schemas};
use sha2::{Digest, Sha256};

use super::log::KnownFile;

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

/// Avro's container files begin so.
const AVRO: &[u8] = b"Obj\x01";

/// One record of a file.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Of an Avro container: the number of its schema.
    pub schema: Option<u32>,
    pub bytes: Vec<u8>,
}

impl Input {
    /// As it is noted in the log.
    pub fn known(&self) -> KnownFile {
        KnownFile {
            digest: self.digest.clone(),
            name: self.name.clone(),
        }
    }

    /// Hands over every record, in the file's order; the schemas that they are written in are noted.
    pub fn each(
        self,
        schemas: &mut Schemas,
        mut take: impl FnMut(&Schemas, Entry) -> Result<()>,
    ) -> Result<()> {
        let name = self.name.clone();
        let mut content = self.content().with_context(|| format!("cannot read {name}"))?;
        let cannot = || format!("cannot read {name}");
        if content.fill_buf().with_context(cannot)?.starts_with(AVRO) {
            let container = apache_avro::Reader::new(content).with_context(cannot)?;
            let schema = container.writer_schema().clone();
            let text = serde_json::to_string(&schema).with_context(cannot)?;
            let id = schema_id(&text);
            let text = SchemaText {
                schema: text,
                references: Vec::new(),
            };
            schemas.insert(id, Some(text));
            for value in container {
                let bytes = apache_avro::to_avro_datum(&schema, value.with_context(cannot)?);
                let entry = Entry {
                    schema: Some(id),
                    bytes: bytes.with_context(cannot)?,
                };
                take(schemas, entry)?;
            }
            return Ok(());
        }
        loop {
            let mut bytes = Vec::new();
            if content.read_until(b'\n', &mut bytes).with_context(cannot)? == 0 {
                return Ok(());
            }
            while matches!(bytes.last(), Some(b'\n' | b'\r')) {
                bytes.pop();
            }
            if !bytes.is_empty() {
                take(schemas, Entry { schema: None, bytes })?;
            }
        }
    }

    /// The content, unpacked.
    fn content(self) -> Result<Box<dyn BufRead>> {
        let mut packed = BufReader::new(self.file);
        let start = packed.fill_buf()?.to_vec();
        let plain: Box<dyn Read> = if start.starts_with(&[0x1f, 0x8b]) {
            Box::new(flate2::read::MultiGzDecoder::new(packed))
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Box::new(zstd::Decoder::new(packed)?)
        } else {
            Box::new(packed)
        };
        Ok(Box::new(BufReader::with_capacity(1 << 16, plain)))
    }
}

/// The number that stands for a schema in the log of files: the beginning of its digest.
fn schema_id(text: &str) -> u32 {
    let digest = Sha256::digest(text.as_bytes());
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}
