//! The chain of one partition's snapshots.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use cambium_engine::{Bug, Capture, bug};
use fail::fail_point;
use object_store::PutPayload;
use object_store::path::Path as Key;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::merge::Merge;
use crate::part::{Head, OfLaterRelease, Reader, Writer};
use crate::{Creation, Entry, Made, Store};

pub(crate) const JOURNAL: &str = "journal.json";
const JOURNAL_COPY: &str = "journal-copy.json";
const CREATIONS: &str = "topic.json";
const MADE: &str = "made.json";
const PURGED: &str = "purged.json";
/// So many changes are followed before they are merged into a full snapshot.
const MAX_CHAIN: usize = 8;
/// More were never written.
const LONGEST_CHAIN: usize = 1000;
/// So many users are merged before others have their turn.
const AT_A_TIME: usize = 1000;

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
    /// What was published last, as it was given.
    written: Option<String>,
    /// Users of whom nothing is to be left in any file, when the next snapshot is published.
    purges: Option<Vec<u64>>,
}

/// Users of whom nothing is left before a snapshot, nor in it.
#[derive(Serialize, Deserialize)]
struct Purged {
    users: Vec<u64>,
    newest: String,
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
    pub(crate) name: String,
}

impl Loaded {
    fn new(mut merge: Merge) -> Result<Loaded> {
        let mut users = Vec::new();
        while let Some(((app, user), state)) = merge.user()? {
            users.push((app, user, state.into()));
        }
        let head = merge.head();
        Ok(Loaded {
            epoch: head.epoch,
            position: head.position,
            head: head.state.clone(),
            users,
        })
    }
}

impl Snapshots {
    pub(crate) fn new(store: Store, key: Key, keep: usize) -> Self {
        Snapshots {
            store,
            key,
            keep,
            newest: None,
            chain: 0,
            written: None,
            purges: None,
        }
    }

    /// The same place, for the time that this one is busy elsewhere.
    pub fn placeholder(&self) -> Snapshots {
        Snapshots::new(self.store.clone(), self.key.clone(), self.keep)
    }

    /// Where they are, in the store.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The file that was published or loaded last.
    pub fn newest(&self) -> Option<&str> {
        self.newest.as_deref()
    }

    /// The newest snapshot that is whole and fits, and what was passed over on the way to it.
    ///
    /// # Errors
    /// Where one was written by a later release, which this one cannot read.
    pub async fn load(
        &mut self,
        fits: impl Fn(&Loaded) -> Result<()>,
    ) -> Result<(Option<Loaded>, Vec<String>)> {
        let mut passed_over = Vec::new();
        for name in self.names().await?.into_iter().rev() {
            let chain = self.chain_of(&name).await;
            let loaded = chain.and_then(|(merge, chain)| Ok((Loaded::new(merge)?, chain)));
            match loaded.and_then(|(loaded, chain)| fits(&loaded).map(|()| (loaded, chain))) {
                Ok((loaded, chain)) => {
                    self.newest = Some(name);
                    self.chain = chain;
                    return Ok((Some(loaded), passed_over));
                }
                // An older one would be gone on from, and what the later release counted since would be forgotten.
                Err(error) if error.chain().any(|cause| cause.is::<OfLaterRelease>()) => return Err(error),
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

    /// The epoch and the position of the newest, whether or not it is whole; none: there is none.
    pub async fn reaches(&self) -> Result<Option<(u16, i64)>> {
        let newest = self.names().await?.pop();
        Ok(newest.and_then(|name| {
            let mut parts = name.split('-');
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        }))
    }

    /// Whether nothing can be written at present.
    pub fn is_failing(&self) -> bool {
        self.store.is_failing()
    }

    async fn put(&self, name: &str, bytes: impl Into<PutPayload>) -> Result<()> {
        self.store.put(&self.key.clone().join(name), bytes).await
    }

    async fn part(&self, name: &str) -> Result<Reader> {
        let file = self.store.file(&self.key.clone().join(name)).await?;
        let part = file.context("it is not there").and_then(Reader::open);
        part.with_context(|| Broken {
            name: name.to_owned(),
        })
    }

    /// A snapshot with all that it goes on from, and how many changes these are.
    async fn chain_of(&self, name: &str) -> Result<(Merge, usize)> {
        let mut parts = vec![(name.to_owned(), self.part(name).await?)];
        while let Some(base) = parts[parts.len() - 1].1.head.base.clone() {
            if parts.len() > LONGEST_CHAIN {
                bail!("the chain has no end");
            }
            let part = self.part(&base).await?;
            parts.push((base, part));
        }
        let changes = parts.len() - 1;
        Ok((Merge::new(parts)?, changes))
    }

    /// What changed since the last one, as it will be written.
    pub fn prepare(&self, capture: Capture) -> Result<Publication> {
        let head = Head {
            base: self.newest.clone(),
            epoch: capture.epoch,
            position: capture.position,
            state: capture.head,
        };
        let mut file = Writer::new(&head)?;
        for (app, user, state) in capture.users {
            file.user((app, user), state.as_deref())?;
        }
        let (name, bytes) = file.finish()?;
        Ok(Publication {
            name,
            bytes: as_written(bytes).into(),
            is_full: head.base.is_none(),
        })
    }

    /// Publishes what changed since the last one; every so often as a full snapshot, merged here,
    /// beside the partition. It can be tried again where it failed, unless the chain is [`Broken`].
    pub async fn publish(&mut self, publication: &Publication) -> Result<()> {
        let name = publication.name.as_str();
        // Tried again, it may be part of a full one already, and what it goes on from deleted.
        if self.written.as_deref() != Some(name) {
            self.put(name, publication.bytes.clone()).await?;
            fail_point!("after-snapshot");
            self.chain += usize::from(!publication.is_full);
            self.newest = Some(name.to_owned());
            self.written = self.newest.clone();
        }
        if self.purges.is_some() || self.chain >= MAX_CHAIN {
            if self.chain > 0 {
                self.make_full().await?;
            }
            fail_point!("before-deleting");
            self.delete_old().await?;
        }
        Ok(())
    }

    /// Deletes what is no longer kept.
    async fn delete_old(&mut self) -> Result<()> {
        let Some(users) = &self.purges else {
            return self.forget_old().await;
        };
        let newest = self.newest.clone().context("there is no snapshot")?;
        self.check_file(&newest).await?;
        self.retain(std::slice::from_ref(&newest)).await?;
        let users = users.clone();
        self.put(PURGED, encoded(&[Purged { users, newest }])?).await?;
        self.purges = None;
        Ok(())
    }

    /// The newest with all that it goes on from becomes one file.
    async fn make_full(&mut self) -> Result<()> {
        let newest = self.newest.as_deref().context("there is no snapshot")?;
        let (name, bytes) = self.merged(newest, &[]).await?;
        self.put(&name, bytes).await?;
        self.newest = Some(name);
        self.chain = 0;
        Ok(())
    }

    /// When the next snapshot is published, of a state that these users are no longer part of, it is made the only one.
    pub fn purge(&mut self, users: &[u64]) {
        self.purges = Some(users.to_vec());
    }

    /// In which snapshots a user has a state, and of how many bytes, of all apps together.
    pub async fn states_of(&self, user: u64) -> Result<Vec<(String, usize)>> {
        let mut states = Vec::new();
        for name in self.names().await? {
            // What cannot be read, nobody can.
            let Ok((mut merge, _)) = self.chain_of(&name).await else {
                continue;
            };
            let mut bytes = 0;
            while let Ok(Some(((_, one), state))) = merge.user() {
                bytes += if one == user { state.len() } else { 0 };
            }
            if bytes > 0 {
                states.push((name, bytes));
            }
        }
        Ok(states)
    }

    /// Whether nothing is left in any file of all of these users.
    pub async fn has_purged(&self, users: &[u64]) -> Result<bool> {
        let purged = self.purged().await?;
        Ok(users.iter().all(|user| purged.binary_search(user).is_ok()))
    }

    /// The users of whom nothing is left in any file. A list that is torn says nothing, nor does one that is not true any more.
    async fn purged(&self) -> Result<Vec<u64>> {
        let bytes = self.store.get(&self.key.clone().join(PURGED)).await?;
        let purged: Option<Purged> = bytes.and_then(|bytes| decoded(&bytes).ok()?.pop());
        let Some(Purged { users, newest }) = purged else {
            return Ok(Vec::new());
        };
        // One that was on its way when its owner ended may have come later.
        let place = |name: &str| {
            name.rsplit_once('-')
                .map_or(String::new(), |(place, _)| place.to_owned())
        };
        let names = self.names().await?;
        let is_stray = |name: &String| place(name) <= place(&newest) && *name != newest;
        Ok(if names.iter().any(is_stray) {
            Vec::new()
        } else {
            users
        })
    }

    /// Users who were purged come into snapshots again.
    pub async fn is_no_longer_purged(&self) -> Result<()> {
        self.store.delete(&self.key.clone().join(PURGED)).await
    }

    /// Deletes all snapshots but these.
    pub async fn retain(&self, stay: &[String]) -> Result<()> {
        // The newest first: what is left of a chain that is cut off is never taken for a whole one.
        let names = self.names().await?.into_iter().rev();
        for name in names.filter(|name| !stay.contains(name)) {
            self.store.delete(&self.key.clone().join(name)).await?;
        }
        Ok(())
    }

    /// The same snapshot without some users; gives the name of its file. None where it is not there, or not whole.
    ///
    /// # Errors
    /// Where it cannot be read again from where it was written.
    pub async fn without(&self, name: &str, users: &[u64]) -> Result<Option<String>> {
        let (name, bytes) = match self.merged(name, users).await {
            Err(error) if error.is::<Broken>() => return Ok(None),
            merged => merged?,
        };
        if self.check_file(&name).await.is_err() {
            self.put(&name, bytes).await?;
            self.check_file(&name).await?;
        }
        Ok(Some(name))
    }

    /// Whether a file is there and whole, with all that it goes on from.
    async fn check_file(&self, name: &str) -> Result<()> {
        let (mut merge, _) = self.chain_of(name).await?;
        while merge.user()?.is_some() {}
        Ok(())
    }

    /// The newest snapshot of another place becomes the newest of this one, whole; gives the name of its file.
    ///
    /// # Errors
    /// Where it cannot be read again from where it was written.
    pub async fn take_from(&mut self, other: &Snapshots) -> Result<String> {
        let newest = other.newest.as_deref().context("there is no snapshot")?;
        let (name, bytes) = other.merged(newest, &[]).await?;
        // One that is there and whole may be what a journal names: it is not put at risk.
        if self.check_file(&name).await.is_err() {
            self.put(&name, bytes).await?;
            self.check_file(&name).await?;
        }
        self.newest = Some(name.clone());
        self.chain = 0;
        self.forget_old().await?;
        Ok(name)
    }

    /// What a file holds, with all that it goes on from.
    pub async fn load_file(&self, name: &str) -> Result<Loaded> {
        let (merge, _) = self.chain_of(name).await?;
        Loaded::new(merge)
    }

    /// A snapshot with all that it goes on from, as one file; but for some users, who are sorted.
    async fn merged(&self, name: &str, without: &[u64]) -> Result<(String, Vec<u8>)> {
        // Each takes the memory of the file that it makes: one after the other.
        let _turn = self.store.turn_to_merge().await?;
        let (mut merge, _) = self.chain_of(name).await?;
        let mut file = Writer::new(&Head {
            base: None,
            ..merge.head().clone()
        })?;
        let mut merged = 0;
        while let Some((who, state)) = merge.user()? {
            if without.binary_search(&who.1).is_err() {
                file.user(who, Some(&state))?;
            }
            merged += 1;
            if merged % AT_A_TIME == 0 {
                tokio::task::yield_now().await;
            }
        }
        file.finish()
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
            self.store.delete(&self.key.clone().join(name)).await?;
        }
        Ok(())
    }

    /// Deletes all snapshots; the journal stays.
    pub async fn clear(&mut self) -> Result<()> {
        self.retain(&[]).await?;
        (self.newest, self.chain) = (None, 0);
        Ok(())
    }

    /// The setups and where each came into force.
    pub async fn journal(&self) -> Result<Vec<Entry>> {
        match self.read_journal(JOURNAL).await? {
            // Where it was never written, its copy was never used.
            None => Ok(Vec::new()),
            Some(Ok(entries)) => Ok(entries),
            Some(Err(error)) => match self.read_journal(JOURNAL_COPY).await? {
                Some(Ok(entries)) => Ok(entries),
                _ => Err(error),
            },
        }
    }

    /// None where there is nothing.
    async fn read_journal(&self, name: &str) -> Result<Option<Result<Vec<Entry>>>> {
        let bytes = self.store.get(&self.key.clone().join(name)).await?;
        let read = |bytes: Bytes| {
            decoded(&bytes).with_context(|| format!("the journal {}/{name} cannot be read", self.key))
        };
        Ok(bytes.map(read))
    }

    /// Replaces the journal. It is read again before it counts as written: what is not in it must not be used, and what
    /// was used must be in it.
    pub async fn write_journal(&self, entries: &[Entry]) -> Result<()> {
        let bytes = encoded(entries)?;
        // One of the two is always whole.
        let is_torn = self
            .read_journal(JOURNAL)
            .await?
            .is_some_and(|read| read.is_err());
        let names = if is_torn {
            [JOURNAL, JOURNAL_COPY]
        } else {
            [JOURNAL_COPY, JOURNAL]
        };
        for name in names {
            self.put(name, bytes.clone()).await?;
            let found = self.store.get(&self.key.clone().join(name)).await?;
            ensure!(
                found.as_deref() == Some(bytes.as_slice()) || bug(Bug::JournalNotReadAgain),
                "the journal {}/{name} is not what was written to it",
                self.key
            );
        }
        Ok(())
    }

    /// Which creation of its topic was counted in each epoch. A list that is torn says nothing: then records tell.
    pub async fn creations(&self) -> Result<Vec<Creation>> {
        let bytes = self.store.get(&self.key.clone().join(CREATIONS)).await?;
        Ok(bytes.and_then(|bytes| decoded(&bytes).ok()).unwrap_or_default())
    }

    pub async fn write_creations(&self, creations: &[Creation]) -> Result<()> {
        self.put(CREATIONS, encoded(creations)?).await
    }

    /// What was counted here to be taken over, when it is complete.
    pub async fn made(&self) -> Result<Option<Made>> {
        let bytes = self.store.get(&self.key.clone().join(MADE)).await?;
        Ok(bytes.and_then(|bytes| decoded(&bytes).ok()?.pop()))
    }

    /// Says that it is complete; or, with nothing, that it is not.
    pub async fn write_made(&self, made: Option<&Made>) -> Result<()> {
        match made {
            Some(made) => self.put(MADE, encoded(std::slice::from_ref(made))?).await,
            None => self.store.delete(&self.key.clone().join(MADE)).await,
        }
    }
}

/// What is left of a file whose writer dies in the middle, where the tests want that.
fn as_written(bytes: Vec<u8>) -> Vec<u8> {
    fail_point!("torn-snapshot", |_| bytes[..bytes.len() / 2].to_vec());
    bytes
}

/// JSON, and behind it on a line of its own a checksum.
pub(crate) fn encoded<T: Serialize>(list: &[T]) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(list).context("the journal cannot be encoded")?;
    let checksum = xxh3_64(&bytes);
    bytes.extend(format!("\n{checksum:016x}").into_bytes());
    Ok(bytes)
}

/// One without a checksum is of an earlier release.
pub(crate) fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>> {
    let (json, checksum) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
        None => (bytes, None),
    };
    let expected = format!("{:016x}", xxh3_64(json));
    ensure!(
        checksum.is_none_or(|checksum| checksum == expected.as_bytes()),
        "its checksum does not match: torn or damaged"
    );
    Ok(serde_json::from_slice(json)?)
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

    async fn publish(snapshots: &mut Snapshots, capture: Capture) {
        let publication = snapshots.prepare(capture).unwrap();
        snapshots.publish(&publication).await.unwrap();
    }

    async fn states(store: &Store, topic: &Topic) -> (i64, Vec<(u64, u8)>, usize) {
        let (loaded, passed_over) = store.partition(topic, 2).load(|_| Ok(())).await.unwrap();
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
        assert!(snapshots.load(|_| Ok(())).await.unwrap().0.is_none());
        for position in 1..=30 {
            let gone = (position > 20)
                .then_some(())
                .map_or(Some(position as u8), |()| None);
            let users = [(position as u64 % 3, gone), (7, Some(position as u8))];
            publish(&mut snapshots, capture(position, &users)).await;
        }
        assert_eq!(states(&store, &topic).await, (30, vec![(7, 30)], 0));

        let mut files: Vec<_> = std::fs::read_dir(directory.path().join("events/3"))
            .unwrap()
            .collect();
        files.sort_by_key(|file| file.as_ref().unwrap().file_name());
        let is_full = |file: &&std::io::Result<std::fs::DirEntry>| {
            file.as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|kind| kind == "full")
        };
        // The last two that are full are kept, and the changes since.
        assert_eq!((files.iter().filter(is_full).count(), files.len()), (2, 15));
        let newest = files.pop().unwrap().unwrap().path();
        let bytes = std::fs::read(&newest).unwrap();
        std::fs::write(&newest, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(states(&store, &topic).await, (29, vec![(7, 29)], 1));
        let mut flipped = bytes.clone();
        flipped[30] ^= 1;
        std::fs::write(&newest, &flipped).unwrap();
        assert_eq!(states(&store, &topic).await, (29, vec![(7, 29)], 1));
    }

    #[tokio::test]
    async fn two_owners_at_one_position_do_not_mix() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::directory(directory.path()).unwrap();
        let topic = Topic {
            name: "events".to_owned(),
            partition: 3,
        };
        let (mut one, mut other) = (store.partition(&topic, 2), store.partition(&topic, 2));
        publish(&mut one, capture(1, &[(1, Some(1))])).await;
        publish(&mut one, capture(2, &[(2, Some(1))])).await;
        publish(&mut other, capture(2, &[(2, Some(9)), (3, Some(9))])).await;
        publish(&mut one, capture(3, &[(4, Some(1))])).await;
        assert_eq!(states(&store, &topic).await, (3, vec![(1, 1), (2, 1), (4, 1)], 0));
    }

    #[tokio::test]
    async fn a_journal_that_is_torn_has_a_copy() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::directory(directory.path()).unwrap();
        let topic = Topic {
            name: "events".to_owned(),
            partition: 3,
        };
        let snapshots = store.partition(&topic, 2);
        let entry = |offset| Entry {
            offset,
            epoch: 0,
            change: crate::Change::Schema { id: 1, schema: None },
        };
        assert_eq!(snapshots.journal().await.unwrap(), []);
        snapshots.write_journal(&[entry(1)]).await.unwrap();
        snapshots.write_journal(&[entry(1), entry(2)]).await.unwrap();
        let file = |name| directory.path().join("events/3").join(name);
        let whole = std::fs::read(file(JOURNAL)).unwrap();
        for place in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 1;
            std::fs::write(file(JOURNAL), &flipped).unwrap();
            assert_eq!(snapshots.journal().await.unwrap(), [entry(1), entry(2)]);
        }
        std::fs::write(file(JOURNAL), "[{").unwrap();
        assert_eq!(snapshots.journal().await.unwrap(), [entry(1), entry(2)]);
        std::fs::write(file(JOURNAL_COPY), "[{").unwrap();
        snapshots.journal().await.unwrap_err();
    }
}
