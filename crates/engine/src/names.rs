//! Names as integers. Each kind of name keeps its first values, up to a limit and so many bytes; what comes after
//! is `(other)`, so that a field filled with ids or whole pages by mistake costs a bounded amount of memory.

use cambium_event::{IN_ENDS, ends};
use serde::{Deserialize, Serialize};

use crate::Map;

/// The texts of one kind together take so much at most: ten thousand of 1.6 kB, or sixteen as long as a record may be.
const MAX_TEXT_BYTES: usize = 16 << 20;
/// The text of values beyond the limit.
pub const OTHER: &str = "(other)";
/// The number of what is missing.
pub(crate) const NONE: u32 = 0;
const OTHER_ID: u32 = 1;

/// What a name names; each kind is numbered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    App,
    Event,
    /// Of `cambium_event::DIMENSIONS`, by its place.
    Dimension(usize),
    /// By the slot of its path.
    Property(usize),
    /// A page's path.
    Page,
}

impl Kind {
    pub(crate) fn index(self) -> usize {
        match self {
            Kind::App => 0,
            Kind::Event => 1,
            Kind::Page => 2,
            Kind::Dimension(place) => 3 + place,
            Kind::Property(slot) => 8 + slot,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Dictionary {
    #[serde(skip)]
    ids: Map<Box<str>, u32>,
    /// In the order of their numbers.
    texts: Vec<Box<str>>,
    /// All of them together.
    #[serde(skip)]
    text_bytes: usize,
    #[serde(skip)]
    lately: Lately,
}

impl Dictionary {
    fn add(&mut self, text: &str) -> u32 {
        self.text_bytes += text.len();
        let id = OTHER_ID + 1 + self.texts.len() as u32;
        self.texts.push(text.into());
        self.ids.insert(text.into(), id);
        id
    }
}

/// The short texts that were asked for lately: nearly all of what events bring are a few of them, again and again.
#[derive(Clone, Debug, Default)]
struct Lately(Vec<Short>);

/// A text that is told by its length and its ends, and its number.
#[derive(Clone, Copy, Debug, Default)]
struct Short {
    ends: [u64; 2],
    length: u32,
    id: u32,
}

/// Places, each for the last text that fell on it: a power of two.
const PLACES: usize = 64;

impl Lately {
    fn place(ends: [u64; 2]) -> usize {
        let mixed = (ends[0] ^ ends[1].rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> (u64::BITS - PLACES.trailing_zeros())) as usize
    }

    fn get(&self, ends: [u64; 2], text: &str) -> Option<u32> {
        let short = self.0.get(Lately::place(ends))?;
        let is_it = short.id != NONE && short.ends == ends && short.length as usize == text.len();
        is_it.then_some(short.id)
    }

    fn put(&mut self, ends: [u64; 2], text: &str, id: u32) {
        if text.len() <= IN_ENDS {
            self.0.resize(PLACES, Short::default());
            self.0[Lately::place(ends)] = Short {
                ends,
                length: text.len() as u32,
                id,
            };
        }
    }
}

/// Whether a number stands for one text.
pub(crate) fn is_one_name(id: u32) -> bool {
    id != OTHER_ID
}

/// All names of a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Names {
    dictionaries: Vec<Dictionary>,
    limit: usize,
    /// How often a value was taken as `(other)`.
    overflow: u64,
}

impl Names {
    pub fn new(limit: usize) -> Self {
        Names {
            dictionaries: Vec::new(),
            limit,
            overflow: 0,
        }
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(crate) fn overflow(&self) -> u64 {
        self.overflow
    }

    /// The number of a text; '' of anything but a property is "missing".
    pub fn intern(&mut self, kind: Kind, text: Option<&str>) -> u32 {
        let index = kind.index();
        let text = match text {
            None => return NONE,
            Some("") if !matches!(kind, Kind::Property(_)) => return NONE,
            Some(text) => text,
        };
        if self.dictionaries.len() <= index {
            self.dictionaries.resize_with(index + 1, Dictionary::default);
        }
        let dictionary = &mut self.dictionaries[index];
        let ends = ends(text.as_bytes());
        if let Some(id) = dictionary.lately.get(ends, text) {
            return id;
        }
        if let Some(id) = dictionary.ids.get(text) {
            dictionary.lately.put(ends, text, *id);
            return *id;
        }
        let is_full =
            dictionary.texts.len() >= self.limit || dictionary.text_bytes + text.len() > MAX_TEXT_BYTES;
        if is_full {
            self.overflow += 1;
            return OTHER_ID;
        }
        dictionary.add(text)
    }

    /// The number of each name that another partition has of a kind, by its number there. What is missing, and `(other)`,
    /// have the same number everywhere. No limit holds: the names are there already.
    pub(crate) fn take_over(&mut self, kind: Kind, (other, there): (&Names, Kind)) -> Vec<u32> {
        let mut numbers = vec![NONE, OTHER_ID];
        let Some(dictionary) = other.dictionaries.get(there.index()) else {
            return numbers;
        };
        let index = kind.index();
        if self.dictionaries.len() <= index {
            self.dictionaries.resize_with(index + 1, Dictionary::default);
        }
        let mine = &mut self.dictionaries[index];
        numbers.extend(dictionary.texts.iter().map(|text| match mine.ids.get(text) {
            Some(id) => *id,
            None => mine.add(text),
        }));
        numbers
    }

    pub fn text(&self, kind: Kind, id: u32) -> &str {
        match id {
            NONE => "",
            OTHER_ID => OTHER,
            _ => &self.dictionaries[kind.index()].texts[(id - OTHER_ID - 1) as usize],
        }
    }

    /// The numbers again from the texts, after reading.
    pub(crate) fn restore(&mut self) {
        for dictionary in &mut self.dictionaries {
            let numbered = dictionary.texts.iter().cloned().zip(OTHER_ID + 1..);
            dictionary.ids.extend(numbered);
            dictionary.text_bytes = dictionary.texts.iter().map(|text| text.len()).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts that look alike at their ends, asked for again and again, with a limit.
    #[test]
    fn each_text_keeps_its_number() {
        let texts: Vec<String> = (0..200)
            .map(|number| match number % 4 {
                0 => "a".repeat(number / 4),
                1 => format!("{number}"),
                2 => format!("long enough to {number} lie in no ends"),
                _ => format!("\0{}", "\0".repeat(number % 9)),
            })
            .collect();
        let (mut names, mut dice) = (Names::new(60), fastrand::Rng::with_seed(1));
        // An empty property is a text like others.
        let mut truth = std::collections::BTreeMap::new();
        for _ in 0..10_000 {
            let text = &texts[dice.usize(..texts.len())];
            let next = OTHER_ID + 1 + truth.len() as u32;
            let expected = match truth.get(text) {
                Some(id) => *id,
                None if truth.len() >= 60 => OTHER_ID,
                None => *truth.entry(text.clone()).or_insert(next),
            };
            assert_eq!(names.intern(Kind::Property(0), Some(text)), expected, "{text:?}");
            if expected > OTHER_ID {
                assert_eq!(names.text(Kind::Property(0), expected), text);
            }
        }
        assert_eq!(names.text(Kind::Property(0), OTHER_ID), OTHER);
    }

    #[test]
    fn each_kind_is_numbered_by_itself() {
        let kinds = [Kind::App, Kind::Event, Kind::Page].into_iter();
        let kinds = kinds
            .chain((0..5).map(Kind::Dimension))
            .chain((0..20).map(Kind::Property));
        let mut names = Names::new(1);
        for (number, kind) in kinds.enumerate() {
            let text = number.to_string();
            let id = names.intern(kind, Some(&text));
            assert_eq!(names.text(kind, id), text, "{kind:?}");
        }
        assert_eq!(names.overflow(), 0);
    }

    #[test]
    fn a_limit_that_is_raised_lets_more_in() {
        let mut names = Names::new(1);
        let mut intern = |text: &str, limit: usize| {
            names.set_limit(limit);
            names.intern(Kind::Event, Some(text))
        };
        assert!(intern("a", 1) > OTHER_ID);
        assert_eq!(intern("b", 1), OTHER_ID);
        assert!(intern("b", 2) > OTHER_ID);
    }

    /// Sixteen of a megabyte are kept, and short ones beside them as long as there is room; read again, it is the same.
    #[test]
    fn long_texts_take_no_more_room_than_there_is() {
        let long = |number: usize| number.to_string().repeat(1 << 20);
        let mut names = Names::new(10_000);
        let kept =
            |names: &mut Names, number: usize| is_one_name(names.intern(Kind::Event, Some(&long(number))));
        assert!((0..9).all(|number| kept(&mut names, number)));
        let mut again: Names = postcard::from_bytes(&postcard::to_stdvec(&names).unwrap()).unwrap();
        again.restore();
        for names in [&mut names, &mut again] {
            // Two bytes a digit: three more fit.
            let fit: Vec<bool> = (10..15).map(|number| kept(names, number)).collect();
            assert_eq!(fit, [true, true, true, false, false]);
            assert!(kept(names, 7) && is_one_name(names.intern(Kind::Event, Some("short"))));
            assert_eq!(names.overflow(), 2);
        }
    }
}
