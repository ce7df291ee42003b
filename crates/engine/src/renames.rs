//! The numbers of names as another partition has them, when what it counted is taken over.

use crate::names::{Kind, Names};
use crate::processor::PropertyTable;

/// From another partition's number of a name to this one's.
pub struct Renames {
    /// By kind as this partition has it, then by the other's number.
    numbers: Vec<Vec<u32>>,
}

impl Renames {
    /// Names that this partition does not know yet become known, beyond the limit too: two names must not become one.
    pub(crate) fn new(
        (mine, paths): (&mut Names, &PropertyTable),
        (other, other_paths): (&Names, &PropertyTable),
    ) -> Renames {
        let mut kinds = vec![Kind::App, Kind::Event, Kind::Page];
        kinds.extend((0..5).map(Kind::Dimension));
        let mut numbers: Vec<Vec<u32>> = kinds
            .into_iter()
            .map(|kind| mine.take_over(kind, (other, kind)))
            .collect();
        // Properties lie in other slots there, each under its path.
        for (slot, path) in paths.paths().iter().enumerate() {
            let there = other_paths.paths().iter().position(|other| other == path);
            numbers.push(there.map_or_else(Vec::new, |there| {
                mine.take_over(Kind::Property(slot), (other, Kind::Property(there)))
            }));
        }
        Renames { numbers }
    }

    /// This partition's number of what the other has under `number`.
    pub fn number(&self, kind: Kind, number: u32) -> u32 {
        let of_kind = self.numbers.get(kind.index());
        let renamed = of_kind.and_then(|numbers| numbers.get(number as usize));
        renamed.copied().unwrap_or(number)
    }
}
