//! Whose an event is that names a device alone.

use std::collections::BTreeMap;

use cambium_event::Event;

/// When which device was seen with a user.
#[derive(Debug)]
pub struct Links {
    link_within_ms: i64,
    /// By app and device, in the order of time: each user that it came to belong to, and when.
    by_device: BTreeMap<(String, String), Vec<(i64, String)>>,
}

/// Whose it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Owner<'l> {
    User(&'l str),
    /// A user came to the device, but too long after.
    LinkedTooLate,
    Nobody,
}

impl Links {
    pub fn new(link_within_ms: i64) -> Links {
        Links {
            link_within_ms,
            by_device: BTreeMap::new(),
        }
    }

    /// An event with both ids says that they are one.
    pub fn see(&mut self, event: &Event<'_>) {
        if !event.user_id.is_empty() && !event.anonymous_id.is_empty() {
            self.link((event.app, event.anonymous_id), (event.time, event.user_id));
        }
    }

    fn link(&mut self, (app, device): (&str, &str), (time, user): (i64, &str)) {
        let links = self.by_device.entry((app.to_owned(), device.to_owned()));
        let links = links.or_default();
        let at = links.partition_point(|(other, _)| *other <= time);
        // Of events with the same user that follow each other the first says all.
        if at > 0 && links[at - 1].1 == user {
            return;
        }
        match links.get_mut(at).filter(|(_, next)| next == user) {
            Some((first, _)) => *first = time,
            None => links.insert(at, (time, user.to_owned())),
        }
    }

    /// From a link on the device's events are the user's, up to the next one's; and those of up to `link_within` before the first.
    pub fn owner(&self, (app, device): (&str, &str), time: i64) -> Owner<'_> {
        let links = self.by_device.get(&(app.to_owned(), device.to_owned()));
        let Some(links) = links else {
            return Owner::Nobody;
        };
        let at = links.partition_point(|(since, _)| *since <= time);
        match (at.checked_sub(1), links.first()) {
            (Some(last), _) => Owner::User(&links[last].1),
            (None, Some((first, user))) if first - time <= self.link_within_ms => Owner::User(user),
            (None, _) => Owner::LinkedTooLate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_the_users_from_before_their_first_link_on() {
        let mut links = Links::new(100);
        // In any order.
        for (time, user) in [
            (500, "b"),
            (300, "a"),
            (310, "a"),
            (290, "a"),
            (700, "a"),
            (505, "b"),
        ] {
            links.link(("shop", "d"), (time, user));
        }
        let expected = [
            (189, Owner::LinkedTooLate),
            (190, Owner::User("a")),
            (290, Owner::User("a")),
            (499, Owner::User("a")),
            (500, Owner::User("b")),
            (699, Owner::User("b")),
            (9999, Owner::User("a")),
        ];
        for (time, owner) in expected {
            assert_eq!(links.owner(("shop", "d"), time), owner, "{time}");
        }
        assert_eq!(links.owner(("shop", "e"), 300), Owner::Nobody);
        assert_eq!(links.owner(("blog", "d"), 300), Owner::Nobody);
    }
}
