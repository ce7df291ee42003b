//! The primitives of Avro's binary encoding, read from borrowed bytes.

use crate::text::utf8;

/// Why bytes are not what the schema says. No more than a number, so that reading is not slowed by it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Broken {
    EndsEarly,
    EndsLate,
    TooManyBits,
    Length,
    Choice,
    NotUtf8,
    Boolean,
    NestedTooDeep,
}

impl Broken {
    pub fn text(self) -> &'static str {
        match self {
            Broken::EndsEarly => "it ends too early",
            Broken::EndsLate => "there are more bytes than the schema says",
            Broken::TooManyBits => "an integer of more than 64 bits",
            Broken::Length => "a length below zero",
            Broken::Choice => "a branch or symbol that the schema does not have",
            Broken::NotUtf8 => "text that is not UTF-8",
            Broken::Boolean => "a boolean that is neither 0 nor 1",
            Broken::NestedTooDeep => "records nested too deep",
        }
    }
}

/// Bytes that are read from their beginning. It is handed on by value, and what is done at each value is inlined, so
/// that it stays in registers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes }
    }

    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    #[inline(always)]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Broken> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Broken::EndsEarly)?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline(always)]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(Broken::EndsEarly)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// An integer as it is encoded: of at most ten bytes, its sign the lowest bit.
    #[inline(always)]
    pub fn encoded(&mut self) -> Result<u64, Broken> {
        let (first, rest) = self.bytes.split_first().ok_or(Broken::EndsEarly)?;
        let mut value = u64::from(*first);
        // Lengths and branches are one byte most often.
        if value < 0x80 {
            self.bytes = rest;
        } else {
            (value, *self) = self.long()?;
        }
        Ok(value)
    }

    #[inline(never)]
    fn long(self) -> Result<(u64, Cursor<'a>), Broken> {
        let Some(chunk) = self.bytes.first_chunk() else {
            return self.byte_by_byte();
        };
        let word = u64::from_le_bytes(*chunk);
        let last = !word & 0x8080_8080_8080_8080;
        if last == 0 {
            return self.byte_by_byte();
        }
        let bytes = &self.bytes[last.trailing_zeros() as usize / 8 + 1..];
        // All bits up to the one that says which byte is the last.
        Ok((seven_of_eight(word & (last ^ (last - 1))), Cursor { bytes }))
    }

    fn byte_by_byte(self) -> Result<(u64, Cursor<'a>), Broken> {
        let mut value: u64 = 0;
        for (index, byte) in self.bytes.iter().enumerate().take(10) {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                let bytes = &self.bytes[index + 1..];
                return Ok((value, Cursor { bytes }));
            }
        }
        Err(if self.bytes.len() < 10 {
            Broken::EndsEarly
        } else {
            Broken::TooManyBits
        })
    }

    #[inline(always)]
    pub fn integer(&mut self) -> Result<i64, Broken> {
        Ok(decoded(self.encoded()?))
    }

    #[inline(always)]
    pub fn bytes(&mut self) -> Result<&'a [u8], Broken> {
        let encoded = self.encoded()?;
        if encoded & 1 == 1 {
            return Err(Broken::Length);
        }
        self.take((encoded >> 1) as usize)
    }

    #[inline(always)]
    pub fn text(&mut self) -> Result<&'a str, Broken> {
        utf8(self.bytes()?).ok_or(Broken::NotUtf8)
    }

    /// What is chosen by the number that comes next: a branch or a symbol.
    #[inline(always)]
    pub fn choice<'c, T>(&mut self, among: &'c [T]) -> Result<&'c T, Broken> {
        // One below zero lies beyond any list.
        among.get(self.integer()? as usize).ok_or(Broken::Choice)
    }

    /// The number of items of the next block, and its bytes where they are given; no items at the end.
    #[inline(always)]
    pub fn block(&mut self) -> Result<(u64, Option<usize>), Broken> {
        let count = self.integer()?;
        if count >= 0 {
            return Ok((count as u64, None));
        }
        let size = self.integer()?;
        let bytes = usize::try_from(size).map_err(|_| Broken::Length)?;
        Ok((count.unsigned_abs(), Some(bytes)))
    }
}

/// The integer of an encoded one: 0, -1, 1, -2 …
#[inline(always)]
fn decoded(encoded: u64) -> i64 {
    (encoded >> 1) as i64 ^ -((encoded & 1) as i64)
}

/// The lower seven bits of each byte, next to each other.
#[inline]
fn seven_of_eight(word: u64) -> u64 {
    let pairs = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (pairs & 0x0000_3fff_0000_3fff) | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    (fours & 0x0000_0000_0fff_ffff) | (fours & 0x0fff_ffff_0000_0000) >> 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: i64) -> Vec<u8> {
        let mut rest = (value << 1 ^ value >> 63) as u64;
        let mut bytes = Vec::new();
        while rest > 0x7f {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    /// Of every length, with and without bytes behind them.
    #[test]
    fn integers_are_read_as_they_were_written() {
        let edges = (0..63).flat_map(|bits| [(1i64 << bits) - 1, 1 << bits, (1 << bits) + 1]);
        for value in edges.chain([i64::MAX, 0x0123_4567_89ab_cdef]) {
            for value in [value, -value, !value] {
                for behind in [0, 1, 8] {
                    let bytes = [written(value), vec![0xff; behind]].concat();
                    let mut cursor = Cursor::new(&bytes);
                    assert_eq!(cursor.integer(), Ok(value));
                    assert_eq!(cursor.left(), behind);
                }
            }
        }
        for (bytes, why) in [
            ([[0xff; 9].as_slice(), &[2]].concat(), Broken::TooManyBits),
            (vec![0xff; 9], Broken::EndsEarly),
            (Vec::new(), Broken::EndsEarly),
        ] {
            assert_eq!(Cursor::new(&bytes).integer(), Err(why));
        }
    }
}
