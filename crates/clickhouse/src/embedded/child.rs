//! The engine as a child process of a program that needs it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child as Process, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// `cambium clickhouse` on a free port. It ends when this is dropped, and when this process is gone:
/// it watches the pipe that is its standard input.
pub struct Child {
    process: Process,
    url: String,
}

impl Child {
    /// Starts `executable clickhouse` on a directory and waits until it answers.
    pub fn start(executable: &Path, data: &Path) -> Result<Child> {
        let mut process = Command::new(executable)
            .args([
                "clickhouse",
                "--listen",
                "127.0.0.1:0",
                "--until-stdin-closes",
                "--data",
            ])
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {} clickhouse", executable.display()))?;
        let stdout = process
            .stdout
            .take()
            .context("the embedded ClickHouse has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("the embedded ClickHouse cannot be read")?;
        // It says where it listens as soon as it does.
        match line.trim().strip_prefix("listening on ") {
            Some(url) => Ok(Child {
                process,
                url: url.to_owned(),
            }),
            None => {
                let status = process.wait().context("the embedded ClickHouse did not start")?;
                bail!("the embedded ClickHouse did not start ({status}); what it said stands above")
            }
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        for _ in 0..100 {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
