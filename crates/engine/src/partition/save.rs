//! A partition's state as bytes, and back.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Account, App, Partition, Topic};
use crate::instance::SavedInstance;
use crate::processor::PropertyTable;
use crate::snapshot::{FORMAT, OLDEST_FORMAT};
use crate::users::Users;
use crate::{HashKey, List, Mark, Names, Setup, SnapshotError};

/// All of the state but the users.
#[derive(Serialize, Deserialize)]
struct Head<'h> {
    topic: Topic,
    epoch: u16,
    start: i64,
    position: i64,
    last: Option<Mark>,
    watermark: Option<i64>,
    account: Account,
    names: Cow<'h, Names>,
    properties: Cow<'h, PropertyTable>,
    /// As JSON: it holds values of any form.
    setup: String,
    schemas: String,
    apps: Vec<SavedApp>,
    next_slot: u32,
}

#[derive(Serialize, Deserialize)]
struct SavedApp {
    name: Box<str>,
    instances: Vec<SavedInstance>,
}

/// The first form that has it.
const LATE_BEFORE_SAVED: u32 = 6;

/// The setup under which a state was saved.
pub fn saved_setup(head: &[u8]) -> Result<Setup, SnapshotError> {
    let (head, _) = decoded(head)?;
    serde_json::from_str(&head.setup).map_err(|error| SnapshotError::Head(error.to_string()))
}

/// The head, and since when events of each app were late before its lateness became longer.
fn decoded(head: &[u8]) -> Result<(Head<'_>, Vec<i64>), SnapshotError> {
    let unreadable = |error: postcard::Error| SnapshotError::Head(error.to_string());
    let (format, head) = postcard::take_from_bytes::<u32>(head).map_err(unreadable)?;
    if !(OLDEST_FORMAT..=FORMAT).contains(&format) {
        return Err(SnapshotError::Format(format));
    }
    let (head, behind) = postcard::take_from_bytes(head).map_err(unreadable)?;
    let late_before = if format < LATE_BEFORE_SAVED {
        Vec::new()
    } else {
        postcard::from_bytes(behind).map_err(unreadable)?
    };
    Ok((head, late_before))
}

impl<L: List> Partition<L> {
    /// All of the state but the users, as bytes.
    pub(super) fn encoded_head(&self) -> Result<Vec<u8>, SnapshotError> {
        let late_before: Vec<i64> = self.apps.iter().map(|app| app.late_before).collect();
        let head = postcard::to_stdvec(&(FORMAT, self.head()?, late_before));
        head.map_err(|error| SnapshotError::Head(error.to_string()))
    }

    fn head(&self) -> Result<Head<'_>, SnapshotError> {
        let mut apps = Vec::with_capacity(self.apps.len());
        for app in &self.apps {
            let mut instances = Vec::new();
            L::save(&app.instances, &mut instances)?;
            apps.push(SavedApp {
                name: app.name.clone(),
                instances,
            });
        }
        Ok(Head {
            topic: self.topic.clone(),
            epoch: self.epoch,
            start: self.start as i64,
            position: self.position,
            last: self.last,
            watermark: self.watermark,
            account: self.account,
            names: Cow::Borrowed(&self.names),
            properties: Cow::Borrowed(&self.properties),
            setup: serde_json::to_string(&self.setup)
                .map_err(|error| SnapshotError::Head(error.to_string()))?,
            schemas: serde_json::to_string(&self.schemas)
                .map_err(|error| SnapshotError::Head(error.to_string()))?,
            apps,
            next_slot: self.next_slot,
        })
    }

    /// The state again, from a head and all users.
    pub fn restore(
        head: &[u8],
        users: impl IntoIterator<Item = (u32, u64, Box<[u8]>)>,
        key: HashKey,
    ) -> Result<Self, SnapshotError> {
        let (mut head, late_before) = decoded(head)?;
        head.names.to_mut().restore();
        let setup: Setup =
            serde_json::from_str(&head.setup).map_err(|error| SnapshotError::Head(error.to_string()))?;
        let mut partition = Partition::new(head.topic, head.position, head.epoch, setup, key)?;
        partition.start = head.start as u64;
        partition.last = head.last;
        partition.watermark = head.watermark;
        partition.account = head.account;
        partition.names = head.names.into_owned();
        partition.properties = head.properties.into_owned();
        partition.next_slot = head.next_slot;
        partition.schemas =
            serde_json::from_str(&head.schemas).map_err(|error| SnapshotError::Head(error.to_string()))?;
        partition.compile()?;
        for app in head.apps {
            partition.restore_app(app)?;
        }
        for (app, late_before) in partition.apps.iter_mut().zip(late_before) {
            app.late_before = late_before;
        }
        let watermark = partition.watermark.unwrap_or(0);
        let rested: Vec<_> = partition.apps.iter().map(|app| app.rested(watermark)).collect();
        for (app, id, bytes) in users {
            let number = app as usize;
            let app = partition.apps.get_mut(number).ok_or(SnapshotError::User)?;
            app.users.restore(id, bytes, rested[number]);
        }
        Ok(partition)
    }

    fn restore_app(&mut self, saved: SavedApp) -> Result<(), SnapshotError> {
        let instances = self.build(&saved.name, saved.instances, self.version())?;
        let time = self.setup.time(&saved.name);
        let link_within_ms = self.setup.link_within_ms(&saved.name);
        self.app_index.insert(saved.name.clone(), self.apps.len());
        self.apps.push(App {
            name: saved.name,
            time,
            late_before: i64::MIN,
            link_within_ms,
            instances,
            users: Users::default(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cambium_event::Record;

    use super::*;
    use crate::setup::tests::setup;

    #[test]
    fn the_last_record_is_remembered() {
        let topic = Topic {
            name: "t".to_owned(),
            partition: 0,
        };
        let mut partition: Partition<()> = Partition::new(topic, 5, 0, setup(), HashKey::default()).unwrap();
        let empty = partition.capture().unwrap();
        let record = Record {
            offset: 7,
            payload: Some(b"no event"),
            ..Record::default()
        };
        partition.apply(&record).unwrap();
        partition.mark(&record);
        let capture = partition.capture().unwrap();
        let last = |head: &[u8]| {
            let restored: Partition<()> = Partition::restore(head, [], HashKey::default()).unwrap();
            assert_eq!(restored.start, 5);
            restored.last()
        };
        assert_eq!(last(&empty.head), None);
        assert_eq!(last(&capture.head), Some(Mark::of(&record)));
    }
}
