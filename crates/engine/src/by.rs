//! Slices: one combination of the values that a definition's `by` names.

use std::hash::{Hash, Hasher};

use cambium_event::{DIMENSIONS, Field};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::names::NONE;
use crate::processor::{Compiler, Input};
use crate::{DefinitionError, Kind, Names, Renames, Row};

/// The most properties that one `by` may name.
const MAX_PROPERTIES: usize = 4;

/// The numbers of a slice's values, in the order of `by`.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Slice(pub SmallVec<[u32; 4]>);

impl Clone for Slice {
    fn clone(&self) -> Self {
        // Copied, and not item by item.
        Slice(SmallVec::from_slice(&self.0))
    }
}

impl Hash for Slice {
    /// Two values at a time; slices that are compared are of one `by`, and as long as each other.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut pairs = self.0.chunks_exact(2);
        for pair in &mut pairs {
            state.write_u64(u64::from(pair[0]) << 32 | u64::from(pair[1]));
        }
        if let [last] = pairs.remainder() {
            state.write_u32(*last);
        }
    }
}

/// A compiled `by`.
#[derive(Clone, Debug, Default)]
pub struct By {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    /// As the user wrote it, without `properties.`.
    name: String,
    kind: Kind,
}

impl By {
    pub fn new(names: &[String], compiler: &mut Compiler<'_>) -> Result<By, DefinitionError> {
        let mut by = By::default();
        for name in names {
            let kind = match Field::from_name(name) {
                Some(field) => Kind::Dimension(dimension(field, name)?),
                None => Kind::Property(compiler.property(name)?),
            };
            if by.parts.iter().any(|part| part.kind == kind) {
                return Err(DefinitionError::new(format!("by: '{name}' is named twice")));
            }
            by.parts.push(Part {
                name: compiler.property_name(name),
                kind,
            });
        }
        let properties = by
            .parts
            .iter()
            .filter(|part| matches!(part.kind, Kind::Property(_)))
            .count();
        if properties > MAX_PROPERTIES {
            return Err(DefinitionError::new(format!(
                "by: names {properties} properties, at most {MAX_PROPERTIES} are kept"
            )));
        }
        Ok(by)
    }

    pub fn len(&self) -> usize {
        self.parts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub fn slice(&self, input: &Input<'_>, names: &mut Names) -> Slice {
        Slice(
            self.parts
                .iter()
                .map(|part| value(part.kind, input, names))
                .collect(),
        )
    }

    /// A slice that another partition numbered.
    pub fn rename(&self, slice: &mut Slice, renames: &Renames) {
        for (part, number) in self.parts.iter().zip(&mut slice.0) {
            *number = renames.number(part.kind, *number);
        }
    }

    /// The kind of one part's values.
    pub fn kind(&self, part: usize) -> Option<Kind> {
        self.parts.get(part).map(|part| part.kind)
    }

    /// The five dimensions and the map of properties, as every view has them.
    pub fn write<'r>(&self, slice: &Slice, names: &Names, mut row: Row<'r>) -> Row<'r> {
        for place in 0..DIMENSIONS.len() {
            let part = self
                .parts
                .iter()
                .position(|part| part.kind == Kind::Dimension(place));
            row = row.text(part.map_or("", |part| names.text(Kind::Dimension(place), slice.0[part])));
        }
        let parts = self.parts.iter().zip(&slice.0);
        let properties = parts.filter(|(part, id)| is_property(part) && **id != NONE);
        row.map(properties.map(|(part, id)| (part.name.as_str(), names.text(part.kind, *id))))
    }

    /// The name of one part.
    pub fn name(&self, part: usize) -> &str {
        &self.parts[part].name
    }

    /// The name and text of one part's value; none where the value is missing.
    pub fn value<'n>(&'n self, part: usize, id: u32, names: &'n Names) -> Option<(&'n str, &'n str)> {
        let part = &self.parts[part];
        (id != NONE).then(|| (part.name.as_str(), names.text(part.kind, id)))
    }
}

fn is_property(part: &Part) -> bool {
    matches!(part.kind, Kind::Property(_))
}

fn dimension(field: Field, name: &str) -> Result<usize, DefinitionError> {
    DIMENSIONS.iter().position(|dimension| *dimension == field).ok_or_else(|| {
        DefinitionError::new(format!(
            "by: '{name}' is no dimension; platform, app_version, channel, campaign, country and properties are"
        ))
    })
}

fn value(kind: Kind, input: &Input<'_>, names: &mut Names) -> u32 {
    match kind {
        Kind::Dimension(place) => input.dimensions[place],
        Kind::Property(slot) => {
            let text = input
                .event
                .properties
                .get(slot)
                .and_then(|value| value.slice_text());
            names.intern(kind, text.as_deref())
        }
        Kind::App | Kind::Event | Kind::Page => NONE,
    }
}
