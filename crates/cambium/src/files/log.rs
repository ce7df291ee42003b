//! Which files make up the log of a directory, in which order. Written before their first event is applied.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The files of one command, sorted together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub digests: Vec<String>,
    pub as_is: bool,
    pub start: i64,
    pub end: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Written {
    id: String,
    commands: Vec<Command>,
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
            },
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        Ok(FileLog { path, written })
    }

    pub fn topic(&self) -> String {
        format!("file-{}", self.written.id)
    }

    pub fn end(&self) -> i64 {
        self.written.commands.last().map_or(0, |command| command.end)
    }

    pub fn has(&self, digest: &str) -> bool {
        self.written
            .commands
            .iter()
            .any(|command| command.digests.iter().any(|known| known == digest))
    }

    /// The command that had exactly these files.
    pub fn command(&self, digests: &[String], as_is: bool) -> Option<&Command> {
        self.written
            .commands
            .iter()
            .find(|command| command.digests == digests && command.as_is == as_is)
    }

    /// Takes the files of a new command in, behind all others.
    pub fn add(&mut self, digests: Vec<String>, as_is: bool, records: i64) -> Result<Command> {
        let start = self.end();
        let command = Command {
            digests,
            as_is,
            start,
            end: start + records,
        };
        self.written.commands.push(command.clone());
        let bytes = serde_json::to_vec_pretty(&self.written)?;
        let scratch = self.path.with_extension("json.new");
        let written = fs::write(&scratch, bytes)
            .and_then(|()| fs::File::open(&scratch)?.sync_all())
            .and_then(|()| fs::rename(&scratch, &self.path));
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok(command)
    }
}
