//! Text that is told to be UTF-8 by a few instructions: names and keys are short and ASCII most often, and std's check
//! takes some ninety for one of four bytes, half of what reading an Avro record takes.
#![allow(unsafe_code)]

use crate::keys::{IN_ENDS, ends};

const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);

/// The text that these bytes are, if they are UTF-8.
#[inline]
pub(crate) fn utf8(bytes: &[u8]) -> Option<&str> {
    if is_short_ascii(bytes) {
        // SAFETY: every byte is ASCII, and ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).ok()
}

#[inline]
fn is_short_ascii(bytes: &[u8]) -> bool {
    let [first, last] = ends(bytes);
    bytes.len() <= IN_ENDS && (first | last) & HIGHS == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte, at every place of every length.
    #[test]
    fn what_is_utf8_is_what_std_says() {
        for length in 0..40 {
            let plain = vec![b'a'; length];
            assert_eq!(utf8(&plain), std::str::from_utf8(&plain).ok());
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = plain.clone();
                    bytes[at] = byte;
                    assert_eq!(utf8(&bytes), std::str::from_utf8(&bytes).ok(), "{bytes:?}");
                }
            }
        }
        assert_eq!(utf8("né".as_bytes()), Some("né"));
    }
}
