//! A definition's past: what another partition of the same log has counted of it is taken over.

use cambium_event::Record;

use super::{Partition, link};
use crate::{List, Map, Renames, Rows, Setup, SnapshotError};

impl<L: List> Partition<L> {
    /// Nothing that was ever a record lies between the position and `offset`: all before that is in the state.
    pub fn pass_to(&mut self, offset: i64) {
        self.position = self.position.max(offset);
    }

    /// Takes a record of before the log, which has the position for its offset and leaves it as it is. All rows that come of
    /// such have one version, and of two of one key the later one holds: they must be written in their order, and before any
    /// that come of the log.
    pub fn apply_in_front(&mut self, record: &Record<'_>) -> Result<(), SnapshotError> {
        let position = self.position;
        self.is_in_front = true;
        self.apply(record)?;
        self.position = position;
        Ok(())
    }

    /// All rows that come of what lies in front of the log, and were not left yet; behind it comes the log.
    pub fn flush_front(&mut self) -> Result<Rows, SnapshotError> {
        let rows = self.flush()?;
        self.is_in_front = false;
        Ok(rows)
    }

    /// From the present position on, another setup holds, as with [`Partition::change_setup`]; those of its definitions
    /// that `other` counts begin with what that has counted, where it began. What rows `other` still had to leave are
    /// left with the next flush. The two are at one place of one log, or what lies between is lost to both.
    pub fn take_over(&mut self, setup: Setup, mut other: Partition<L>) -> Result<(), SnapshotError> {
        self.settled.append(other.flush()?);
        self.enter_setup(setup)?;
        let watermark = self.watermark.or(other.watermark);
        let renames = Renames::new(
            (&mut self.names, &self.properties),
            (&other.names, &other.properties),
        );
        for theirs in &mut other.apps {
            let number = self.find_or_add_app(&theirs.name)?;
            let app = &mut self.apps[number];
            let rested = app.rested(watermark.unwrap_or(0));
            let mut slots = Map::default();
            let instances = std::mem::take(&mut theirs.instances);
            L::take_over(&mut app.instances, instances, &renames, &mut slots);
            let mut users = theirs.users.drain().collect::<Result<Vec<_>, _>>()?;
            users.sort_unstable_by_key(|(id, _)| *id);
            for (id, user) in users {
                let (captures, instances) = (&mut self.captures, &mut app.instances);
                app.users.change(id, rested, |mine| {
                    captures.change(number as u32, id, mine)?;
                    if mine.is_new() {
                        (mine.last_seen, mine.recent) = (user.last_seen, user.recent);
                    }
                    let own = link::known_before::<L>(instances, &mut mine.parts)?;
                    L::take_over_parts(instances, &mut mine.parts, user.parts, &renames, &slots);
                    link::join_before::<L>(instances, &mut mine.parts, own, &renames, &slots)
                })?;
            }
        }
        self.watermark = watermark;
        self.forget_users()?;
        self.put_all_definitions();
        Ok(())
    }
}
