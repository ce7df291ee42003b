//! Bodies between the network, which is asynchronous, and the engine, which is not.

use std::io::{self, Read, Write};

use axum::body::Body;
use bytes::{Buf, Bytes};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::compression::{BlockReader, BlockWriter};

/// How many pieces may wait on either side.
const PIECES: usize = 4;

/// The request's body, as something that a thread may read.
pub struct Incoming {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Incoming {
    pub fn new(body: Body) -> Incoming {
        let (sender, pieces) = mpsc::channel(PIECES);
        tokio::spawn(async move {
            let mut stream = body.into_data_stream();
            while let Some(piece) = stream.next().await {
                if sender.send(piece.map_err(io::Error::other)).await.is_err() {
                    return;
                }
            }
        });
        Incoming {
            pieces,
            piece: Bytes::new(),
        }
    }

    pub fn of(bytes: Bytes) -> Incoming {
        let (_, pieces) = mpsc::channel(1);
        Incoming { pieces, piece: bytes }
    }
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// Undoes what the headers and `decompress=1` say was done to a body.
pub fn decoded(body: Incoming, encoding: &str, blocks: bool) -> io::Result<Box<dyn Read + Send>> {
    let plain: Box<dyn Read + Send> = match encoding {
        "" | "identity" => Box::new(body),
        "gzip" | "x-gzip" => Box::new(MultiGzDecoder::new(body)),
        "zstd" => Box::new(zstd::Decoder::new(body)?),
        "lz4" => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        other => {
            let message = format!("Content-Encoding {other} is not known; gzip, zstd and lz4 are");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
    };
    Ok(if blocks {
        Box::new(BlockReader::new(plain))
    } else {
        plain
    })
}

/// The answer's body, as something that a thread may write.
pub struct Outgoing {
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Outgoing {
    pub fn new() -> (Outgoing, Body) {
        let (pieces, receiver) = mpsc::channel(PIECES);
        (
            Outgoing { pieces },
            Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver)),
        )
    }

    /// Breaks the answer off, so that the reader cannot take it for whole.
    pub fn abort(self, message: &str) {
        let _ = self
            .pieces
            .blocking_send(Err(io::Error::other(message.to_owned())));
    }
}

impl Write for Outgoing {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let sent = self.pieces.blocking_send(Ok(Bytes::copy_from_slice(from)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How an answer is encoded: by `compress=1`, or by Accept-Encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Plain,
    Blocks,
    Gzip,
    Zstd,
    Lz4,
}

impl Encoding {
    pub fn header(self) -> Option<&'static str> {
        match self {
            Encoding::Plain | Encoding::Blocks => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::Zstd => Some("zstd"),
            Encoding::Lz4 => Some("lz4"),
        }
    }
}

pub enum Encoder {
    Plain(Outgoing),
    Blocks(BlockWriter<Outgoing>, mpsc::Sender<io::Result<Bytes>>),
    Gzip(GzEncoder<Outgoing>),
    Zstd(zstd::Encoder<'static, Outgoing>),
    Lz4(Box<lz4_flex::frame::FrameEncoder<Outgoing>>),
}

impl Encoder {
    pub fn new(encoding: Encoding, out: Outgoing) -> io::Result<Encoder> {
        Ok(match encoding {
            Encoding::Plain => Encoder::Plain(out),
            Encoding::Blocks => {
                let pieces = out.pieces.clone();
                Encoder::Blocks(BlockWriter::new(out), pieces)
            }
            Encoding::Gzip => Encoder::Gzip(GzEncoder::new(out, Compression::fast())),
            Encoding::Zstd => Encoder::Zstd(zstd::Encoder::new(out, 1)?),
            Encoding::Lz4 => Encoder::Lz4(Box::new(lz4_flex::frame::FrameEncoder::new(out))),
        })
    }

    /// Writes what is still held back, and gives the bare body.
    pub fn finish(self) -> io::Result<Outgoing> {
        match self {
            Encoder::Plain(out) => Ok(out),
            Encoder::Blocks(mut blocks, pieces) => {
                blocks.flush()?;
                Ok(Outgoing { pieces })
            }
            Encoder::Gzip(gzip) => gzip.finish(),
            Encoder::Zstd(zstd) => zstd.finish(),
            Encoder::Lz4(lz4) => lz4.finish().map_err(io::Error::other),
        }
    }
}

impl Write for Encoder {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Encoder::Plain(out) => out.write(from),
            Encoder::Blocks(blocks, _) => blocks.write(from),
            Encoder::Gzip(gzip) => gzip.write(from),
            Encoder::Zstd(zstd) => zstd.write(from),
            Encoder::Lz4(lz4) => lz4.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Encoder::Plain(out) => out.flush(),
            Encoder::Blocks(blocks, _) => blocks.flush(),
            Encoder::Gzip(gzip) => gzip.flush(),
            Encoder::Zstd(zstd) => zstd.flush(),
            Encoder::Lz4(lz4) => lz4.flush(),
        }
    }
}
