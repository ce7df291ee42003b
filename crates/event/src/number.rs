//! Numbers keep the text they came with: an id of twenty digits stays itself, and a time in
//! seconds with a fraction loses nothing to binary rounding.

use std::borrow::Cow;
use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number<'a> {
    Int(i64),
    Float(f64),
    /// Digits beyond 64 bits, or a fraction: the text, as JSON writes numbers.
    Text(&'a str),
}

impl<'a> Number<'a> {
    pub fn new(text: &'a str) -> Self {
        match text.parse::<i64>() {
            Ok(int) => Number::Int(int),
            Err(_) => Number::Text(text),
        }
    }

    pub fn as_f64(&self) -> f64 {
        match self {
            Number::Int(int) => *int as f64,
            Number::Float(float) => *float,
            Number::Text(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// Exact between integers; otherwise as 64-bit floats.
    pub fn compare(&self, other: &Number<'_>) -> Option<Ordering> {
        match (self, other) {
            (Number::Int(left), Number::Int(right)) => Some(left.cmp(right)),
            _ => self.as_f64().partial_cmp(&other.as_f64()),
        }
    }

    /// The shortest decimal text: `10`, `12.5`; whole numbers keep every digit they were written with.
    pub fn decimal(&self) -> Cow<'a, str> {
        match self {
            Number::Int(int) => Cow::Owned(int.to_string()),
            Number::Text(text) if is_whole(text) => Cow::Borrowed(text),
            _ => {
                let float = self.as_f64();
                Cow::Owned(if float == 0.0 {
                    "0".to_owned()
                } else {
                    float.to_string()
                })
            }
        }
    }

    /// Milliseconds since 1970 of a time in units of 10^-`unit_digits` seconds; fractions of a
    /// millisecond are cut off. None where that lies far outside of any calendar.
    pub fn to_ms(&self, unit_digits: u32) -> Option<i64> {
        match self {
            Number::Int(int) => match unit_digits.checked_sub(3) {
                Some(finer) => Some(int.div_euclid(10i64.checked_pow(finer)?)),
                None => int.checked_mul(10i64.checked_pow(3 - unit_digits)?),
            },
            Number::Float(float) => decimal_to_ms(&float.to_string(), unit_digits),
            Number::Text(text) => decimal_to_ms(text, unit_digits),
        }
    }
}

fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// `text` × 10^(3 − unit_digits), rounded down, worked out on the decimal digits.
pub fn decimal_to_ms(text: &str, unit_digits: u32) -> Option<i64> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let point = (whole.len() as i64)
        .checked_add(exponent)?
        .checked_add(3 - i64::from(unit_digits))?;
    let digits = whole.bytes().chain(fraction.bytes());
    let mut ms: i64 = 0;
    let mut cut = false;
    for (position, digit) in digits.enumerate() {
        if !digit.is_ascii_digit() {
            return None;
        }
        if (position as i64) < point {
            ms = ms.checked_mul(10)?.checked_add(i64::from(digit - b'0'))?;
        } else {
            cut |= digit != b'0';
        }
    }
    let written = (whole.len() + fraction.len()) as i64;
    for _ in written..point.min(written + 20) {
        ms = ms.checked_mul(10)?;
    }
    Some(if negative { -ms - i64::from(cut) } else { ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_cut_on_their_decimal_digits() {
        for (text, digits, ms) in [
            ("1511539200000", 3, Some(1511539200000)),
            ("1511539200000.9", 3, Some(1511539200000)),
            ("1511539200.123", 0, Some(1511539200123)),
            ("1.5115392e9", 0, Some(1511539200000)),
            ("1511539200123456", 6, Some(1511539200123)),
            ("1511539200123456789", 9, Some(1511539200123)),
            ("-0.5", 3, Some(-1)),
            ("1e400", 3, None),
            ("0e400", 3, Some(0)),
            ("7", 9, Some(0)),
        ] {
            assert_eq!(decimal_to_ms(text, digits), ms, "{text}");
        }
    }

    #[test]
    fn numbers_have_one_shortest_text() {
        for (text, decimal) in [
            ("10", "10"),
            ("10.0", "10"),
            ("12.50", "12.5"),
            ("1e2", "100"),
            ("-0.0", "0"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("-12345678901234567890123", "-12345678901234567890123"),
        ] {
            assert_eq!(Number::new(text).decimal(), decimal);
        }
    }
}
