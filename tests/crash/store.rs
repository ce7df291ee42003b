//! A place for snapshots that tears, loses and damages what is written, refuses it, and forgets to list it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What becomes of one write.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Refused,
    WrittenButFailed,
    Slow,
    Torn,
    Flipped,
    Lost,
}

const FATES: [Fate; 6] = [
    Fate::Refused,
    Fate::WrittenButFailed,
    Fate::Slow,
    Fate::Torn,
    Fate::Flipped,
    Fate::Lost,
];

/// How what is there is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lists {
    Prompt,
    /// Without the newest.
    Stale,
    Slow,
}

#[derive(Debug)]
pub struct Mood {
    random: Rng,
    /// Out of 100 writes so many do not simply succeed.
    troubled: u8,
    pub lists: Lists,
    digest: DefaultHasher,
}

#[derive(Clone, Debug)]
pub struct Objects {
    inner: Arc<InMemory>,
    mood: Arc<Mutex<Mood>>,
}

impl Objects {
    pub fn new() -> Objects {
        Objects {
            inner: Arc::default(),
            mood: Arc::new(Mutex::new(Mood {
                random: Rng::with_seed(0),
                troubled: 0,
                lists: Lists::Prompt,
                digest: DefaultHasher::new(),
            })),
        }
    }

    /// The names of the files in a directory.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let listed = self.inner.list(Some(&Path::from(directory)));
        let listed = futures::executor::block_on(listed.try_collect::<Vec<_>>());
        let listed = listed.unwrap_or_default().into_iter();
        let names = listed.filter_map(|one| one.location.filename().map(str::to_owned));
        names.collect()
    }

    pub fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Mood {
    pub fn trouble(&mut self, troubled: u8, seed: u64) {
        self.random = Rng::with_seed(seed);
        self.troubled = troubled;
    }

    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }

    fn fate(&mut self) -> Option<Fate> {
        let is_troubled = self.random.u8(..100) < self.troubled;
        is_troubled.then(|| FATES[self.random.usize(..FATES.len())])
    }

    fn spoil(&mut self, fate: Fate, bytes: &mut Vec<u8>) {
        match fate {
            Fate::Torn => bytes.truncate(self.random.usize(..bytes.len())),
            Fate::Flipped => {
                let at = self.random.usize(..bytes.len());
                bytes[at] ^= 1 << self.random.u8(..8);
            }
            _ => {}
        }
    }
}

impl std::fmt::Display for Objects {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("objects in memory")
    }
}

fn failed() -> object_store::Error {
    object_store::Error::Generic {
        store: "objects in memory",
        source: "the write failed".into(),
    }
}

#[async_trait]
impl ObjectStore for Objects {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let mut bytes: Vec<u8> = payload.iter().flat_map(|part| part.to_vec()).collect();
        let fate = {
            let mut mood = self.mood();
            (location.as_ref(), &bytes).hash(&mut mood.digest);
            let fate = mood.fate();
            fate.inspect(|fate| mood.spoil(*fate, &mut bytes))
        };
        tokio::time::sleep(Duration::from_millis(if matches!(fate, Some(Fate::Slow)) {
            2000
        } else {
            1
        }))
        .await;
        match fate {
            Some(Fate::Refused) => Err(failed()),
            Some(Fate::Lost) => Ok(PutResult {
                e_tag: None,
                version: None,
                extensions: Default::default(),
            }),
            Some(Fate::WrittenButFailed) => {
                self.inner.put_opts(location, bytes.into(), options).await?;
                Err(failed())
            }
            _ => self.inner.put_opts(location, bytes.into(), options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list(prefix);
        let lists = self.mood().lists;
        if lists == Lists::Prompt {
            return listed;
        }
        let listed = async move {
            let mut all: Vec<ObjectMeta> = listed.try_collect().await?;
            if lists == Lists::Slow {
                tokio::time::sleep(Duration::from_secs(5)).await;
            } else {
                all.sort_by(|one, other| one.location.cmp(&other.location));
                all.truncate(all.len().saturating_sub(2));
            }
            Ok::<_, object_store::Error>(futures::stream::iter(all.into_iter().map(Ok)))
        };
        futures::stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
