//! A partition's state as bytes, and back.

use serde::{Deserialize, Serialize};

use super::{Account, App, Partition, Topic};
use crate::instance::SavedInstance;
use crate::processor::PropertyTable;
use crate::snapshot::{Capture, FORMAT};
use crate::users::Users;
use crate::{HashKey, List, Names, Setup, SnapshotError};

/// All of the state but the users.
#[derive(Serialize, Deserialize)]
struct Head {
    topic: Topic,
    epoch: u16,
    start: i64,
    position: i64,
    watermark: Option<i64>,
    account: Account,
    names: Names,
    properties: PropertyTable,
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

impl<L: List> Partition<L> {
    /// What changed since the last capture. To be taken together with a flush, and published when
    /// ClickHouse has acknowledged that flush.
    pub fn capture(&mut self) -> Result<Capture, SnapshotError> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        let mut users = Vec::with_capacity(changed.len());
        for (number, id) in changed {
            let app = &mut self.apps[number as usize].users;
            if let Some(user) = app.hot(id) {
                user.touched.since_capture = false;
            }
            users.push((number, id, app.encoded(id)?));
        }
        let head = postcard::to_stdvec(&(FORMAT, self.head()?));
        let head = head.map_err(|error| SnapshotError::Head(error.to_string()))?;
        Ok(Capture {
            position: self.position,
            epoch: self.epoch,
            head,
            users,
        })
    }

    fn head(&self) -> Result<Head, SnapshotError> {
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
            start: self.start,
            position: self.position,
            watermark: self.watermark,
            account: self.account,
            names: self.names.clone(),
            properties: self.properties.clone(),
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
        let unreadable = |error: postcard::Error| SnapshotError::Head(error.to_string());
        let (format, head) = postcard::take_from_bytes::<u32>(head).map_err(unreadable)?;
        if format != FORMAT {
            return Err(SnapshotError::Format(format));
        }
        let mut head: Head = postcard::from_bytes(head).map_err(unreadable)?;
        head.names.restore();
        let setup: Setup =
            serde_json::from_str(&head.setup).map_err(|error| SnapshotError::Head(error.to_string()))?;
        let mut partition = Partition::new(head.topic, head.start, head.epoch, setup, key)?;
        partition.position = head.position;
        partition.watermark = head.watermark;
        partition.account = head.account;
        partition.names = head.names;
        partition.properties = head.properties;
        partition.next_slot = head.next_slot;
        partition.schemas =
            serde_json::from_str(&head.schemas).map_err(|error| SnapshotError::Head(error.to_string()))?;
        partition.compile()?;
        for app in head.apps {
            partition.restore_app(app)?;
        }
        for (app, id, bytes) in users {
            let app = partition.apps.get_mut(app as usize).ok_or(SnapshotError::User)?;
            app.users.restore(id, bytes);
        }
        Ok(partition)
    }

    fn restore_app(&mut self, saved: SavedApp) -> Result<(), SnapshotError> {
        let instances = self.build(&saved.name, saved.instances, self.position)?;
        let time = self.setup.time(&saved.name);
        self.app_index.insert(saved.name.clone(), self.apps.len());
        self.apps.push(App {
            name: saved.name,
            time,
            instances,
            users: Users::default(),
        });
        Ok(())
    }
}
