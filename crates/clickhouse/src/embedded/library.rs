//! Where the engine's library comes from: fetched once a user by npm, checked, and cached.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

const PACKAGE: &str = "@chdb/lib-linux-x64-gnu";
const VERSION: &str = "26.7.3-stable.1";
/// Of the package as npm delivers it.
const SHA256: &str = "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad";
/// Names a library of one's own.
const SETTING: &str = "CAMBIUM_LIBCHDB";

/// A library that is there.
#[derive(Clone, Debug)]
pub struct Library {
    pub path: PathBuf,
}

impl Library {
    /// Finds the library, or fetches it. Two processes that start at once fetch it once.
    pub fn obtain() -> Result<Library> {
        if let Some(path) = std::env::var_os(SETTING) {
            let path = PathBuf::from(path);
            if !path.is_file() {
                bail!("{SETTING} names {}, where there is no file", path.display());
            }
            return Ok(Library { path });
        }
        if !cfg!(all(
            target_os = "linux",
            target_arch = "x86_64",
            target_env = "gnu"
        )) {
            bail!(
                "the embedded ClickHouse comes as a package for Linux on x86-64 only. Give the address of a \
                 ClickHouse server ([clickhouse] url, or `demo --clickhouse URL`), or the path of a libchdb.so \
                 of your own in {SETTING}"
            );
        }
        let directory = cache_directory()?.join(format!("libchdb-{VERSION}"));
        let path = directory.join("libchdb.so");
        if !path.is_file() {
            fetch_once(&directory, &path)?;
        }
        Ok(Library { path })
    }
}

fn cache_directory() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    let directory = base.join("cambium");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

fn fetch_once(directory: &Path, path: &Path) -> Result<()> {
    let lock_path = directory.with_extension("lock");
    let lock = File::create(&lock_path).with_context(|| format!("cannot create {}", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("cannot lock {}", lock_path.display()))?;
    if path.is_file() {
        return Ok(());
    }
    let parent = directory.parent().context("the cache directory has no parent")?;
    let scratch = tempfile::tempdir_in(parent).context("cannot create a directory in the cache")?;
    let package = fetch(scratch.path())?;
    check(&package)?;
    unpack(&package, scratch.path())?;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    fs::rename(scratch.path().join("package/libchdb.so"), path)
        .with_context(|| format!("cannot move the library to {}", path.display()))
}

fn fetch(scratch: &Path) -> Result<PathBuf> {
    let progress = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        progress.set_style(style);
    }
    progress.enable_steady_tick(std::time::Duration::from_millis(100));
    progress.set_message("fetching the ClickHouse engine, 178 MB, once");
    let output = Command::new("npm")
        .args(["pack", "--silent", &format!("{PACKAGE}@{VERSION}")])
        .current_dir(scratch)
        .stdin(Stdio::null())
        .output()
        .context("cannot run npm, which fetches the ClickHouse engine; install Node.js with npm")?;
    progress.finish_and_clear();
    if !output.status.success() {
        bail!(
            "npm could not fetch {PACKAGE}@{VERSION}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let name = String::from_utf8_lossy(&output.stdout);
    let name = name.lines().last().unwrap_or_default().trim().to_owned();
    Ok(scratch.join(name))
}

fn check(package: &Path) -> Result<()> {
    let mut file = File::open(package).with_context(|| format!("cannot read {}", package.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file
            .read(&mut buffer)
            .context("cannot read the fetched package")?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
    }
    let found: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found != SHA256 {
        bail!(
            "the fetched {PACKAGE}@{VERSION} has the digest {found}, {SHA256} was expected; it is not used"
        );
    }
    Ok(())
}

fn unpack(package: &Path, into: &Path) -> Result<()> {
    let status = Command::new("tar")
        .arg("xzf")
        .arg(package)
        .arg("-C")
        .arg(into)
        .arg("package/libchdb.so")
        .status()
        .context("cannot run tar")?;
    if !status.success() {
        bail!("tar could not unpack the ClickHouse engine; is the disk full?");
    }
    Ok(())
}
