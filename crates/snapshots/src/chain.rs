//! The chain of one partition's snapshots.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use cambium_engine::Capture;
use fail::fail_point;
use object_store::PutPayload;
use object_store::path::Path as Key;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::part::Part;
use crate::{Creation, Entry, Store};

const JOURNAL: &str = "journal.json";
const CREATIONS: &str = "topic.json";
/// So many changes are followed before they are merged into a full snapshot.
const MAX_CHAIN: usize = 8;

/// A partition's state as it is read.
pub struct Loaded {
    pub epoch: u16,
    pub position: i64,
    pub head: Vec<u8>,
    pub users: Vec<(u32, u64, Box<[u8]>)>,
}

/// The snapshots of one partition.
pub struct Snapshots {
    store: Store,
    key: Key,
    keep: usize,
    /// The newest that was published or loaded here, and how many changes lie before it.
    newest: Option<String>,
    chain: usize,
}

/// A snapshot to be written; it may be tried again and again.
pub struct Publication {
    name: String,
    bytes: PutPayload,
    is_full: bool,
}

/// What a snapshot goes on from is lost: only a start finds one that is whole.
#[derive(Debug, thiserror::Error)]
#[error(
    "{name} cannot be read, which later snapshots go on from. Start again: counting goes on from an older one"
)]
pub struct Broken {
    name: String,
}

type Users = BTreeMap<(u32, u64), Vec<u8>>;

impl Snapshots {
    pub(crate) fn new(store: Store, key: Key, keep: usize) -> Self {
        Snapshots {
            store,
            key,
            keep,
            newest: None,
            chain: 0,
        }
    }

    /// The same place, for the time that this one is busy elsewhere.
    pub fn placeholder(&self) -> Snapshots {
        Snapshots::new(self.store.clone(), self.key.clone(), self.keep)
    }

    /// The newest snapshot that is whole, and what was passed over on the way to it.
    pub async fn load(&mut self) -> Result<(Option<Loaded>, Vec<String>)> {
        let mut passed_over = Vec::new();
        for name in self.names().await?.into_iter().rev() {
            match self.merge(&name).await {
                Ok((part, users, chain)) => {
                    self.newest = Some(name);
                    self.chain = chain;
                    let users = users
                        .into_iter()
                        .map(|((app, user), state)| (app, user, state.into()));
                    let loaded = Loaded {
                        epoch: part.epoch,
                        position: part.position,
                        head: part.head,
                        users: users.collect(),
                    };
                    return Ok((Some(loaded), passed_over));
                }
                Err(error) => passed_over.push(format!("{name}: {error:#}")),
            }
        }
        Ok((None, passed_over))
    }

    async fn names(&self) -> Result<Vec<String>> {
        let names = self.store.list(&self.key).await?;
        Ok(names
            .into_iter()
            .filter(|name| name.ends_with(".full") || name.ends_with(".delta"))
            .collect())
    }

    async fn part(&self, name: &str) -> Result<Part> {
        let bytes = self.store.get(&self.key.clone().join(name)).await?;
        let part = bytes
            .context("it is not there")
            .and_then(|bytes| Part::decode(&bytes));
        part.with_context(|| Broken {
            name: name.to_owned(),
        })
    }

    /// Whether nothing can be written at present.
    pub fn is_failing(&self) -> bool {
        self.store.is_failing()
    }

    /// A snapshot with all that it goes on from, merged.
    async fn merge(&self, name: &str) -> Result<(Part, Users, usize)> {
        let mut parts = vec![self.part(name).await?];
        while let Some(base) = parts[parts.len() - 1].base.clone() {
            if parts.len() > 1000 {
                bail!("the chain has no end");
            }
            parts.push(self.part(&base).await?);
        }
        let chain = parts.len() - 1;
        let mut users = Users::new();
        for part in parts.iter_mut().rev() {
            for (app, user, state) in std::mem::take(&mut part.users) {
                match state {
                    Some(state) => users.insert((app, user), state),
                    None => users.remove(&(app, user)),
                };
            }
        }
        Ok((parts.swap_remove(0), users, chain))
    }

    /// What changed since the last one, as it will be written.
    pub fn prepare(&self, capture: Capture) -> Result<Publication> {
        let part = Part::new(capture, self.newest.clone());
        Ok(Publication {
            name: part.name(),
            bytes: as_written(part.encode()?).into(),
            is_full: part.base.is_none(),
        })
    }

    /// Publishes what changed since the last one; every so often as a full snapshot, merged here,
    /// beside the partition. It can be tried again where it failed, unless the chain is [`Broken`].
    pub async fn publish(&mut self, publication: &Publication) -> Result<()> {
        let name = publication.name.as_str();
        self.store
            .put(&self.key.clone().join(name), publication.bytes.clone())
            .await?;
        fail_point!("after-snapshot");
        if self.newest.as_deref() != Some(name) {
            self.chain += usize::from(!publication.is_full);
            self.newest = Some(name.to_owned());
        }
        if self.chain >= MAX_CHAIN {
            self.make_full(name).await?;
            fail_point!("before-deleting");
            self.forget_old().await?;
        }
        Ok(())
    }

    async fn make_full(&mut self, name: &str) -> Result<()> {
        let (part, users, _) = self.merge(name).await?;
        let users = users
            .into_iter()
            .map(|((app, user), state)| (app, user, Some(state)))
            .collect();
        let full = Part {
            base: None,
            users,
            ..part
        };
        self.store
            .put(&self.key.clone().join(full.name()), full.encode()?)
            .await?;
        self.newest = Some(full.name());
        self.chain = 0;
        Ok(())
    }

    /// Deletes what lies before the last full ones that are kept.
    async fn forget_old(&self) -> Result<()> {
        let names = self.names().await?;
        let full: Vec<&String> = names.iter().filter(|name| name.ends_with(".full")).collect();
        let Some(oldest) = full.len().checked_sub(self.keep).map(|at| full[at].clone()) else {
            return Ok(());
        };
        for name in names.into_iter().filter(|name| *name < oldest) {
            fail_point!("while-deleting");
            // The change at the same position as the full one sorts before it, and is not needed.
            self.store.delete(&self.key.clone().join(name)).await?;
        }
        Ok(())
    }

    /// Deletes all snapshots; the journal stays.
    pub async fn clear(&mut self) -> Result<()> {
        // The newest first: what is left of a chain that is cut off is never taken for a whole one.
        for name in self.names().await?.into_iter().rev() {
            self.store.delete(&self.key.clone().join(name)).await?;
        }
        (self.newest, self.chain) = (None, 0);
        Ok(())
    }

    /// The setups and where each came into force.
    pub async fn journal(&self) -> Result<Vec<Entry>> {
        self.list(JOURNAL).await
    }

    pub async fn write_journal(&self, entries: &[Entry]) -> Result<()> {
        self.write_list(JOURNAL, entries).await
    }

    /// Which creation of its topic was counted in each epoch.
    pub async fn creations(&self) -> Result<Vec<Creation>> {
        self.list(CREATIONS).await
    }

    pub async fn write_creations(&self, creations: &[Creation]) -> Result<()> {
        self.write_list(CREATIONS, creations).await
    }

    async fn list<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>> {
        match self.store.get(&self.key.clone().join(name)).await? {
            None => Ok(Vec::new()),
            Some(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{}/{name} cannot be read", self.key))
            }
        }
    }

    async fn write_list<T: Serialize>(&self, name: &str, list: &[T]) -> Result<()> {
        let bytes = serde_json::to_vec(list).with_context(|| format!("{name} cannot be encoded"))?;
        self.store.put(&self.key.clone().join(name), bytes).await
    }
}

/// What is left of a file whose writer dies in the middle, where the tests want that.
fn as_written(bytes: Vec<u8>) -> Vec<u8> {
    fail_point!("torn-snapshot", |_| bytes[..bytes.len() / 2].to_vec());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use cambium_engine::Topic;

    fn capture(position: i64, users: &[(u64, Option<u8>)]) -> Capture {
        let users = users
            .iter()
            .map(|(user, state)| (0, *user, state.map(|state| vec![state])))
            .collect();
        Capture {
            position,
            epoch: 0,
            head: vec![position as u8],
            users,
        }
    }

    async fn states(store: &Store, topic: &Topic) -> (i64, Vec<(u64, u8)>, usize) {
        let (loaded, passed_over) = store.partition(topic, 2).load().await.unwrap();
        let loaded = loaded.unwrap();
        (
            loaded.position,
            loaded
                .users
                .iter()
                .map(|(_, user, state)| (*user, state[0]))
                .collect(),
            passed_over.len(),
        )
    }

    #[tokio::test]
    async fn the_newest_whole_chain_wins() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::directory(directory.path()).unwrap();
        let topic = Topic {
            name: "events".to_owned(),
            partition: 3,
        };
        let mut snapshots = store.partition(&topic, 2);
        assert!(snapshots.load().await.unwrap().0.is_none());
        for position in 1..=30 {
            let gone = (position > 20)
                .then_some(())
                .map_or(Some(position as u8), |()| None);
            let users = [(position as u64 % 3, gone), (7, Some(position as u8))];
            let publication = snapshots.prepare(capture(position, &users)).unwrap();
            snapshots.publish(&publication).await.unwrap();
        }
        assert_eq!(states(&store, &topic).await, (30, vec![(7, 30)], 0));

        let newest = directory
            .path()
            .join("events/3")
            .join(format!("00000-{:020}.delta", 30));
        let bytes = std::fs::read(&newest).unwrap();
        std::fs::write(&newest, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(states(&store, &topic).await, (29, vec![(7, 29)], 1));
        let mut flipped = bytes.clone();
        flipped[30] ^= 1;
        std::fs::write(&newest, &flipped).unwrap();
        assert_eq!(states(&store, &topic).await, (29, vec![(7, 29)], 1));
    }
}
