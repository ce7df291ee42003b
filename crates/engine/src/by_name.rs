//! What follows from an event's name alone, worked out once a name.

use std::cell::RefCell;

use crate::Input;
use crate::names::is_one_name;

/// Something that an event's name decides, by the name's number: comparing texts with every event would be most of
/// what a definition costs that counts a few names.
#[derive(Debug)]
pub struct ByName<T>(RefCell<Vec<Option<T>>>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        ByName(RefCell::default())
    }
}

impl<T: Copy> ByName<T> {
    /// What `work_out` makes of the event's name.
    pub fn get(&self, input: &Input<'_>, work_out: impl FnOnce(&str) -> T) -> T {
        // Beyond the limit of names one number stands for many.
        if !is_one_name(input.name) {
            return work_out(input.event.event);
        }
        let mut known = self.0.borrow_mut();
        let index = input.name as usize;
        if known.len() <= index {
            known.resize(index + 1, None);
        }
        *known[index].get_or_insert_with(|| work_out(input.event.event))
    }
}
