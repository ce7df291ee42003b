//! `cambium clickhouse`: the embedded engine over ClickHouse's HTTP interface.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cambium_clickhouse::embedded::{Options, serve};
use clap::Args;

use crate::config::{ConfigError, in_file};

/// Serve the embedded ClickHouse engine over HTTP.
///
/// Example: cambium clickhouse --data ./cambium-data/clickhouse --listen 127.0.0.1:8123
#[derive(Args, Debug)]
pub struct Arguments {
    /// Where its data lie
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8123")]
    listen: SocketAddr,
    /// A file that holds the password to ask clients for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// End when standard input closes: with the process that started this one
    #[arg(long, hide = true)]
    until_stdin_closes: bool,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let password = match &arguments.password_file {
        None => None,
        Some(path) => Some(in_file("--password-file", path, Path::new("."))?),
    };
    let options = Options {
        data: arguments.data,
        listen: arguments.listen,
        password,
    };
    let checked = options.check();
    checked.map_err(|error| ConfigError::new(format!("{error:#}")))?;
    let (closed, until_closed) = tokio::sync::oneshot::channel();
    let watches = arguments.until_stdin_closes;
    // A thread of its own: one that the runtime waits for would keep the process alive.
    std::thread::spawn(move || {
        if watches {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = closed.send(());
        } else {
            std::mem::forget(closed);
        }
    });
    let shutdown = async move {
        if watches {
            // A terminal's Ctrl-C, and a manager that ends a whole group, reach this process too. Its parent
            // decides when it ends: it has rows to write first.
            let _ = until_closed.await;
        } else {
            super::interrupted().await;
        }
    };
    #[cfg(unix)]
    if watches {
        use tokio::signal::unix::{SignalKind, signal};
        for kind in [
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
        ] {
            // From here on it no longer ends the process.
            let _taken = signal(kind).context("signals cannot be taken")?;
        }
    }
    serve(
        options,
        |address| {
            println!("listening on http://{address}");
            let _ = std::io::stdout().flush();
        },
        shutdown,
    )
    .await
}
