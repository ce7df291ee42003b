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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use cambium_event::Event;

    use super::*;
    use crate::Names;

    /// Lengths of names, and how often one was worked out. The third and fourth share a number.
    #[test]
    fn each_name_is_worked_out_once_but_for_those_beyond_the_limit() {
        let (mut names, by_name, worked_out) = (Names::new(2), ByName::default(), Cell::new(0));
        let mut length = |name: &str| {
            let event = Event {
                message_id: "",
                app: "",
                event: name,
                user_id: "",
                anonymous_id: "",
                time: 0,
                session_id: "",
                dimensions: [""; 5],
                properties: &[],
                all_properties: "",
            };
            let input = Input::new(&mut names, &event, (0, 0), (0, 0));
            by_name.get(&input, |name| {
                worked_out.set(worked_out.get() + 1);
                name.len()
            })
        };
        for (name, times) in [
            ("a", 1),
            ("bb", 2),
            ("a", 2),
            ("bb", 2),
            ("ccc", 3),
            ("dddd", 4),
            ("ccc", 5),
        ] {
            assert_eq!(length(name), name.len(), "{name}");
            assert_eq!(worked_out.get(), times, "{name}");
        }
    }
}
