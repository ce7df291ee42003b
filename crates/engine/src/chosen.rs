//! Events of certain names that fit a filter, with what their names say worked out once a name.

use crate::{ByName, Input, Matcher};

/// A [`Matcher`] for every event: most are told by the number of their name alone.
#[derive(Debug)]
pub struct Chosen {
    matcher: Matcher,
    names: ByName<bool>,
}

impl From<Matcher> for Chosen {
    fn from(matcher: Matcher) -> Self {
        Chosen {
            matcher,
            names: ByName::default(),
        }
    }
}

impl Chosen {
    pub fn fits(&self, input: &Input<'_>) -> bool {
        let may_fit = self.names.get(input, |name| self.matcher.names(name));
        may_fit && self.matcher.fits_but_for_its_name(input.event)
    }
}
