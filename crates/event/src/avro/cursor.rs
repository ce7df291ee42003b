//! The primitives of Avro's binary encoding, read from borrowed bytes.

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes }
    }

    #[inline]
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| "it ends too early".to_owned())?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "it ends too early".to_owned())
    }

    /// A zigzag integer of at most ten bytes.
    #[inline]
    pub fn varint(&mut self) -> Result<i64, String> {
        // Lengths and branches are one byte most often.
        if let [byte @ 0..=0x7f, rest @ ..] = self.bytes {
            self.bytes = rest;
            let value = i64::from(*byte);
            return Ok((value >> 1) ^ -(value & 1));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<i64, String> {
        let mut value: u64 = 0;
        for (index, byte) in self.bytes.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[index + 1..];
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(if self.bytes.len() < 10 {
            "it ends too early".to_owned()
        } else {
            "an integer of more than 64 bits".to_owned()
        })
    }

    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], String> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| format!("a length of {length}"))?;
        self.take(length)
    }

    #[inline]
    pub fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "text that is not UTF-8".to_owned())
    }

    /// The number of a branch or symbol, of so many.
    #[inline]
    pub fn index(&mut self, of: usize) -> Result<usize, String> {
        let index = self.varint()?;
        usize::try_from(index)
            .ok()
            .filter(|index| *index < of)
            .ok_or_else(|| format!("choice {index} of {of}"))
    }

    /// The number of items of the next block, and its bytes where they are given; none at the end.
    fn block(&mut self) -> Result<Option<(u64, Option<usize>)>, String> {
        match self.varint()? {
            0 => Ok(None),
            count @ 1.. => Ok(Some((count.unsigned_abs(), None))),
            count => {
                let size = self.varint()?;
                let size = usize::try_from(size).map_err(|_| format!("a block of {size} bytes"))?;
                Ok(Some((count.unsigned_abs(), Some(size))))
            }
        }
    }

    /// Reads every item of a list of blocks. An item takes bytes, so that they end.
    pub fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), String>) -> Result<(), String> {
        while let Some((count, _)) = self.block()? {
            for _ in 0..count {
                item(self)?;
            }
        }
        Ok(())
    }

    /// Passes over a list of blocks; at once where their sizes are given.
    pub fn skip_blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        while let Some((count, size)) = self.block()? {
            match size {
                Some(size) => {
                    self.take(size)?;
                }
                None => {
                    for _ in 0..count {
                        item(self)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Passes over a list of items that take no bytes.
    pub fn empty_blocks(&mut self) -> Result<(), String> {
        while let Some((_, size)) = self.block()? {
            self.take(size.unwrap_or(0))?;
        }
        Ok(())
    }
}
