//! JSON as producers write it, read straight off its bytes.
//!
//! Whatever is read here, serde_json reads too, and as the same. What is rare is left to it by giving up (`None`):
//! keys with escapes, deep nesting, and all that is no JSON. A text with an escape is handed to it alone.

use serde::de::IgnoredAny;

use crate::plan::Node;
use crate::slots::{Slot, Slots};
use crate::text::utf8;
use crate::{Number, Value};

/// Objects and lists in each other, at most.
const MAX_DEPTH: usize = 32;
/// So many digits fit into 64 bits.
const MAX_DIGITS: usize = 18;
/// Whole numbers of so many digits are floats of their own, as are these powers of ten: their quotient is rounded once,
/// and so is the float nearest to what is written.
const EXACT_DIGITS: usize = 15;
const POWERS_OF_TEN: [f64; EXACT_DIGITS + 1] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];
/// Above it not every whole number is a float of its own.
const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;

/// Reads a record of UTF-8.
pub(super) fn read<'a>(payload: &'a [u8], root: &Node, slots: &mut Slots<'a>) -> Option<()> {
    let mut scanner = Scanner { rest: payload };
    scanner.expect(b'{')?;
    scanner = scanner.object(root, slots, 0)?;
    if root.keeps_text {
        slots.all_properties = utf8(payload)?;
    }
    scanner.skip_whitespace();
    scanner.rest.is_empty().then_some(())
}

/// Bytes that are read from their beginning. It is handed on by value, and what is done at each value is inlined, so
/// that it stays in registers.
#[derive(Clone, Copy)]
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    #[inline(always)]
    fn skip_whitespace(&mut self) {
        if let [0..=b' ', ..] = self.rest {
            *self = self.behind_whitespace();
        }
    }

    #[inline(never)]
    fn behind_whitespace(mut self) -> Self {
        while let [b' ' | b'\n' | b'\r' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
        self
    }

    /// What comes next and is no white space.
    #[inline(always)]
    fn peek(&mut self) -> Option<u8> {
        self.skip_whitespace();
        self.rest.first().copied()
    }

    #[inline(always)]
    fn next(&mut self) -> Option<u8> {
        self.skip_whitespace();
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// What lies between this place and one behind it.
    #[inline(always)]
    fn until(self, end: Scanner<'a>) -> Option<&'a [u8]> {
        self.rest.get(..self.rest.len().checked_sub(end.rest.len())?)
    }

    /// The wanted members of an object, behind its brace.
    fn object(mut self, node: &Node, slots: &mut Slots<'a>, depth: usize) -> Option<Self> {
        if self.peek()? == b'}' {
            return self.behind(1);
        }
        loop {
            let key = self.plain_text()?;
            self.expect(b':')?;
            self = match node.children.get(key) {
                Some(child) => self.member(child, slots, depth)?,
                None => self.skip(depth)?,
            };
            if !self.goes_on(b'}')? {
                return Some(self);
            }
        }
    }

    /// Whether an object or a list goes on behind an item, or ends.
    #[inline(always)]
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        match self.next()? {
            b',' => {
                self.skip_whitespace();
                Some(true)
            }
            byte => (byte == end).then_some(false),
        }
    }

    /// A member that is wanted. One that is repeated counts as its last, whole.
    #[inline(always)]
    fn member(mut self, node: &Node, slots: &mut Slots<'a>, depth: usize) -> Option<Self> {
        let first = self.peek()?;
        let end = if node.children.is_empty() {
            self.scalar(first, &node.slots, slots, depth)?
        } else {
            slots.clear(&node.below);
            self.inner(first, node, slots, depth)?
        };
        if node.keeps_text {
            slots.all_properties = utf8(self.until(end)?)?;
        }
        Some(end)
    }

    /// A member of which members are wanted, and sometimes itself.
    fn inner(self, first: u8, node: &Node, slots: &mut Slots<'a>, depth: usize) -> Option<Self> {
        match first {
            b'{' if depth < MAX_DEPTH => self.behind(1)?.object(node, slots, depth + 1),
            b'[' | b'n' | b't' | b'f' => self.scalar(first, &node.slots, slots, depth),
            // Of a text or number in an object's place the library is stricter than of others.
            _ => None,
        }
    }

    /// A scalar that is wanted; what is none is as missing.
    #[inline(always)]
    fn scalar(mut self, first: u8, wanted: &[Slot], slots: &mut Slots<'a>, depth: usize) -> Option<Self> {
        if first == b'"' {
            let begin = self;
            return match self.plain_text() {
                Some(text) => {
                    slots.put_text(utf8(text)?, wanted);
                    Some(self)
                }
                None => begin.escaped_text(Some((wanted, slots))),
            };
        }
        self.other_scalar(first, wanted, slots, depth)
    }

    #[inline(never)]
    fn other_scalar(self, first: u8, wanted: &[Slot], slots: &mut Slots<'a>, depth: usize) -> Option<Self> {
        if let b'-' | b'0'..=b'9' = first {
            let (written, end) = self.number()?;
            let text = utf8(self.until(end)?)?;
            slots.put_number(text, written.number(text), wanted);
            return Some(end);
        }
        let value = match first {
            b't' => Value::Bool(true),
            b'f' => Value::Bool(false),
            b'n' => Value::Null,
            _ => Value::Missing,
        };
        slots.put(value, wanted);
        self.skip(depth)
    }

    /// Passes over any value.
    fn skip(mut self, depth: usize) -> Option<Self> {
        match self.peek()? {
            b'"' => self.skip_text(),
            b'-' | b'0'..=b'9' => self.number().map(|(_, end)| end),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            b'{' if depth < MAX_DEPTH => self.behind(1)?.skip_object(depth + 1),
            b'[' if depth < MAX_DEPTH => self.behind(1)?.skip_list(depth + 1),
            _ => None,
        }
    }

    fn skip_object(mut self, depth: usize) -> Option<Self> {
        if self.peek()? == b'}' {
            return self.behind(1);
        }
        loop {
            self = self.skip_text()?;
            self.expect(b':')?;
            self = self.skip(depth)?;
            if !self.goes_on(b'}')? {
                return Some(self);
            }
        }
    }

    fn skip_list(mut self, depth: usize) -> Option<Self> {
        if self.peek()? == b']' {
            return self.behind(1);
        }
        loop {
            self = self.skip(depth)?;
            if !self.goes_on(b']')? {
                return Some(self);
            }
        }
    }

    #[inline(always)]
    fn behind(self, length: usize) -> Option<Self> {
        let rest = self.rest.get(length..)?;
        Some(Scanner { rest })
    }

    fn literal(self, word: &[u8]) -> Option<Self> {
        let rest = self.rest.strip_prefix(word)?;
        Some(Scanner { rest })
    }

    #[inline(always)]
    fn skip_text(self) -> Option<Self> {
        let mut end = self;
        match end.plain_text() {
            Some(_) => Some(end),
            None => self.escaped_text(None),
        }
    }

    /// Passes over a text, and gives what lies between its quotes; none, and nothing is passed over, where it has an
    /// escape or no end.
    #[inline(always)]
    fn plain_text(&mut self) -> Option<&'a [u8]> {
        let [b'"', rest @ ..] = self.rest else {
            return None;
        };
        let (text, rest) = rest.split_at_checked(plain_length(rest))?;
        let [b'"', rest @ ..] = rest else {
            return None;
        };
        self.rest = rest;
        Some(text)
    }

    /// Passes over a text with escapes, quotes included, if it is one; and takes what it says where that is wanted.
    #[cold]
    fn escaped_text(self, wanted: Option<(&[Slot], &mut Slots<'a>)>) -> Option<Self> {
        let [b'"', rest @ ..] = self.rest else {
            return None;
        };
        let mut end = Scanner { rest };
        while !matches!(end.rest, [b'"', ..]) {
            // What is escaped may be a quote; whether it may be escaped, the library says.
            end = match end.rest {
                [b'\\', ..] => end.behind(2)?,
                _ => end.behind(plain_length(end.rest).max(1))?,
            };
        }
        end = end.behind(1)?;
        let raw = utf8(self.until(end)?)?;
        serde_json::from_str::<IgnoredAny>(raw).ok()?;
        if let Some((wanted, slots)) = wanted {
            slots.put(Value::from_json(raw), wanted);
        }
        Some(end)
    }

    /// Passes over a number.
    fn number(mut self) -> Option<(Written, Self)> {
        let is_negative = matches!(self.rest, [b'-', ..]);
        if is_negative {
            self = self.behind(1)?;
        }
        let (digits, mut end) = self.digits(0)?;
        let whole = self.rest.len() - end.rest.len();
        if whole > 1 && matches!(self.rest, [b'0', ..]) {
            return None;
        }
        let mut written = Written {
            is_negative,
            digits,
            whole,
            fraction: 0,
            has_exponent: false,
        };
        if let [b'.', rest @ ..] = end.rest {
            (written.digits, end) = Scanner { rest }.digits(digits)?;
            written.fraction = rest.len() - end.rest.len();
        }
        if let [b'e' | b'E', rest @ ..] = end.rest {
            let rest = match rest {
                [b'+' | b'-', rest @ ..] => rest,
                rest => rest,
            };
            (_, end) = Scanner { rest }.digits(0)?;
            written.has_exponent = true;
        }
        Some((written, end))
    }

    /// At least one digit; and what they say behind those before them, if they are not too many.
    #[inline(always)]
    fn digits(self, before: i64) -> Option<(i64, Self)> {
        let mut end = self;
        let mut said = before;
        while let [digit @ b'0'..=b'9', rest @ ..] = end.rest {
            said = said.wrapping_mul(10).wrapping_add(i64::from(digit - b'0'));
            end.rest = rest;
        }
        (end.rest.len() < self.rest.len()).then_some((said, end))
    }
}

/// A number as it is written.
struct Written {
    is_negative: bool,
    /// All digits, as a whole number, if they are not too many.
    digits: i64,
    /// How many there are before the point, and behind it.
    whole: usize,
    fraction: usize,
    has_exponent: bool,
}

impl Written {
    /// The number: as a float where that says the same as the text.
    #[inline]
    fn number<'a>(&self, text: &'a str) -> Number<'a> {
        let sign = if self.is_negative { -1 } else { 1 };
        let digits = self.whole + self.fraction;
        if self.fraction == 0 && !self.has_exponent && digits <= MAX_DIGITS {
            return Number::Int(self.digits * sign);
        }
        if digits <= EXACT_DIGITS && !self.has_exponent {
            return Number::Float(self.digits as f64 * sign as f64 / POWERS_OF_TEN[self.fraction]);
        }
        match text.parse::<f64>() {
            Ok(float) if float.abs() < LARGEST_EXACT => Number::Float(float),
            _ => Number::new(text),
        }
    }
}

const ONES: u64 = u64::from_le_bytes([1; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);

/// How far a text goes without a quote, an escape or a control character: eight bytes at a time.
#[inline(always)]
fn plain_length(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((chunk, more)) = rest.split_first_chunk() {
        let found = ends_text(u64::from_le_bytes(*chunk));
        if found != 0 {
            return bytes.len() - rest.len() + found.trailing_zeros() as usize / 8;
        }
        rest = more;
    }
    while let [b' '..=b'!' | b'#'..=b'[' | b']'.., more @ ..] = rest {
        rest = more;
    }
    bytes.len() - rest.len()
}

/// The high bits of bytes that are a quote, a backslash or a control character. A bit above the lowest may be wrong: a
/// difference borrows from the bytes above it.
#[inline(always)]
fn ends_text(word: u64) -> u64 {
    // Control characters and the quote, 0x22, are those below 0x21 when the bit of 2 is turned.
    let quotes_and_controls = (word ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
    let backslashes = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (quotes_and_controls | backslashes) & !word & HIGHS
}
