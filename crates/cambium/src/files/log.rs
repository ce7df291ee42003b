//! Which files make up the log of a directory, in which order. Written before their first event is applied.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cambium_engine::Found;
use cambium_event::Fields;
use cambium_pipeline::Log;
use serde::{Deserialize, Serialize};

/// A file of the log: known by its content, named for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownFile {
    pub digest: String,
    pub name: String,
}

/// The files of one command, sorted together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub files: Vec<KnownFile>,
    pub as_is: bool,
    /// Where the time was found that they were sorted by.
    pub fields: Fields,
    /// In milliseconds.
    pub taken_in_at: i64,
    pub start: i64,
    pub end: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Written {
    id: String,
    commands: Vec<Command>,
    /// What was counted is being thrown away, to be counted anew.
    count_anew: bool,
}

pub struct FileLog {
    path: PathBuf,
    written: Written,
}

impl FileLog {
    /// The log of a directory; its id is made once.
    pub fn open(data: &Path, new_id: impl FnOnce() -> String) -> Result<FileLog> {
        fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
        let path = data.join("files.json");
        let written = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("{} cannot be read", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Written {
                id: new_id(),
                commands: Vec::new(),
                count_anew: false,
            },
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(FileLog { path, written })
    }

    pub fn topic(&self) -> String {
        format!("file-{}", self.written.id)
    }

    pub fn commands(&self) -> &[Command] {
        &self.written.commands
    }

    pub fn end(&self) -> i64 {
        self.written.commands.last().map_or(0, |command| command.end)
    }

    /// What it holds, for a start.
    pub fn bounds(&self) -> Log<'static> {
        Log {
            earliest: 0,
            end: self.end(),
            first: 0,
            // Its files are known by their digests.
            id: None,
            partitions: 1,
            look: &|_| Ok(Found::Unknown),
        }
    }

    pub fn has(&self, digest: &str) -> bool {
        self.written
            .commands
            .iter()
            .any(|command| command.files.iter().any(|known| known.digest == digest))
    }

    /// Takes the files of a new command in, behind all others.
    pub fn add(&mut self, command: Command) -> Result<()> {
        self.written.commands.push(command);
        self.write()
    }

    /// Whether counting anew was begun, and what was counted is not to be trusted.
    pub fn is_counted_anew(&self) -> bool {
        self.written.count_anew
    }

    pub fn set_counted_anew(&mut self, count_anew: bool) -> Result<()> {
        self.written.count_anew = count_anew;
        self.write()
    }

    fn write(&self) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(&self.written)?;
        let scratch = self.path.with_extension("json.new");
        let written = fs::write(&scratch, bytes)
            .and_then(|()| fs::File::open(&scratch)?.sync_all())
            .and_then(|()| fs::rename(&scratch, &self.path));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}
