//! Names as integers. Each kind of name keeps its first values, up to a limit; what comes after
//! is `(other)`, so that a field filled with ids by mistake costs a bounded amount of memory.

use serde::{Deserialize, Serialize};

use crate::Map;

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
    fn index(self) -> usize {
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
    ids: Map<Box<str>, u32>,
    #[serde(skip)]
    texts: Vec<Box<str>>,
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
    pub overflow: u64,
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
        if let Some(id) = dictionary.ids.get(text) {
            return *id;
        }
        if dictionary.texts.len() >= self.limit {
            self.overflow += 1;
            return OTHER_ID;
        }
        let id = OTHER_ID + 1 + dictionary.texts.len() as u32;
        dictionary.texts.push(text.into());
        dictionary.ids.insert(text.into(), id);
        id
    }

    pub fn text(&self, kind: Kind, id: u32) -> &str {
        match id {
            NONE => "",
            OTHER_ID => OTHER,
            _ => &self.dictionaries[kind.index()].texts[(id - OTHER_ID - 1) as usize],
        }
    }

    /// The texts again from the numbers, after reading.
    pub(crate) fn restore(&mut self) {
        for dictionary in &mut self.dictionaries {
            let mut texts: Vec<_> = dictionary
                .ids
                .iter()
                .map(|(text, id)| (*id, text.clone()))
                .collect();
            texts.sort_unstable();
            dictionary.texts = texts.into_iter().map(|(_, text)| text).collect();
        }
    }
}
