//! ClickHouse's native compressed blocks: 16 bytes CityHash128 (1.0.2), a byte for the method, the
//! compressed and the plain size with 4 bytes each, and the data.

use std::io::{self, Read, Write};

use cityhash_rs::cityhash_102_128;

const LZ4: u8 = 0x82;
const ZSTD: u8 = 0x90;
const NONE: u8 = 0x02;
const CHECKSUM_BYTES: usize = 16;
const HEADER_BYTES: usize = 9;
/// As ClickHouse's own limit for what a block may claim to be.
const MAX_BLOCK_BYTES: usize = 1 << 30;
/// What is gathered before it is compressed.
const BLOCK_BYTES: usize = 1 << 20;

/// Reads compressed blocks as plain bytes.
pub struct BlockReader<R> {
    inner: R,
    block: Vec<u8>,
    read: usize,
}

impl<R: Read> BlockReader<R> {
    pub fn new(inner: R) -> Self {
        BlockReader {
            inner,
            block: Vec::new(),
            read: 0,
        }
    }

    /// Whether there was another block.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut checksum = [0; CHECKSUM_BYTES];
        if self.inner.read(&mut checksum[..1])? == 0 {
            return Ok(false);
        }
        self.inner.read_exact(&mut checksum[1..])?;
        let mut header = [0; HEADER_BYTES];
        self.inner.read_exact(&mut header)?;
        let size = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
        };
        let (compressed, plain) = (size(1), size(5));
        if !(HEADER_BYTES..=MAX_BLOCK_BYTES).contains(&compressed) || plain > MAX_BLOCK_BYTES {
            return Err(invalid("a compressed block claims an impossible size"));
        }
        let mut data = header.to_vec();
        self.inner
            .by_ref()
            .take((compressed - HEADER_BYTES) as u64)
            .read_to_end(&mut data)?;
        if data.len() != compressed {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if checksum_of(&data) != checksum {
            return Err(invalid("a compressed block's checksum does not match its data"));
        }
        let data = &data[HEADER_BYTES..];
        self.block = match header[0] {
            LZ4 => lz4_flex::block::decompress(data, plain).map_err(|error| invalid(&error.to_string()))?,
            ZSTD => zstd::bulk::decompress(data, plain)?,
            NONE => data.to_vec(),
            method => {
                return Err(invalid(&format!(
                    "compression method 0x{method:02x} is not known"
                )));
            }
        };
        self.read = 0;
        Ok(true)
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.read == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let length = into.len().min(self.block.len() - self.read);
        into[..length].copy_from_slice(&self.block[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}

/// Writes plain bytes as LZ4 blocks.
pub struct BlockWriter<W> {
    inner: W,
    block: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    pub fn new(inner: W) -> Self {
        BlockWriter {
            inner,
            block: Vec::new(),
        }
    }
}

impl<W: Write> Write for BlockWriter<W> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.block.extend_from_slice(from);
        if self.block.len() >= BLOCK_BYTES {
            self.flush()?;
        }
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let compressed = lz4_flex::block::compress(&self.block);
        let mut data = vec![LZ4];
        data.extend(((compressed.len() + HEADER_BYTES) as u32).to_le_bytes());
        data.extend((self.block.len() as u32).to_le_bytes());
        data.extend(compressed);
        self.inner.write_all(&checksum_of(&data))?;
        self.inner.write_all(&data)?;
        self.block.clear();
        self.inner.flush()
    }
}

fn checksum_of(data: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = cityhash_102_128(data);
    // The two halves, the first one first.
    let mut bytes = [0; CHECKSUM_BYTES];
    bytes[..8].copy_from_slice(&((hash >> 64) as u64).to_le_bytes());
    bytes[8..].copy_from_slice(&(hash as u64).to_le_bytes());
    bytes
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}
