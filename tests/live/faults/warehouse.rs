//! ClickHouse that is away, hangs, fails, or does what it is asked without saying so.

use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::{Process, program};
use super::Place;
use super::proxy::Mood;
use super::shop::Measured;

/// A question waits for five seconds, and not for a minute as usual.
const IMPATIENT: &str = "patience=return(5000)";
const NOT_READY: &str = "ClickHouse does not take rows";

/// In a mood for some seconds, while events come.
pub async fn in_a_mood(place: Place, mood: Mood) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(500);
    let counting = shop.counts_with(&[], IMPATIENT);
    shop.is_counted().await;
    counting.is_ready().await;
    shop.clickhouse.turns(mood);
    shop.sells_for(2).await;
    counting.answers_ready(NOT_READY).await;
    shop.sells_for(2).await;
    shop.clickhouse.turns(Mood::Passes);
    let over = Instant::now();
    let measured = shop.measured(over).await;
    counting.is_ready().await;
    counting.ends().await;
    measured
}

/// In a mood when a process starts: it waits.
pub async fn in_a_mood_at_the_start(place: Place, mood: Mood) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(500);
    shop.clickhouse.turns(mood);
    let counting = shop.counts_with(&[], IMPATIENT);
    counting.answers_ready("ClickHouse is waited for").await;
    tokio::time::sleep(Duration::from_secs(8)).await;
    shop.clickhouse.turns(Mood::Passes);
    let over = Instant::now();
    let measured = shop.measured(over).await;
    counting.ends().await;
    measured
}

/// A ClickHouse that may be killed.
pub struct Server {
    listen: String,
    directory: TempDir,
    process: Option<Process>,
}

impl Server {
    pub fn start() -> Server {
        let mut server = Server {
            listen: format!("127.0.0.1:{}", cambium_kafka::free_port().unwrap()),
            directory: tempfile::tempdir().unwrap(),
            process: None,
        };
        server.serves_again();
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// On the same data.
    pub fn serves_again(&mut self) {
        let mut command = Command::new(program());
        command
            .args(["clickhouse", "--listen", &self.listen, "--data"])
            .arg(self.directory.path());
        self.process = Some(Process::start(&mut command));
    }
}

/// Killed, and started again after some seconds.
pub async fn killed(place: Place) -> Measured {
    let mut server = Server::start();
    let mut shop = place.shop_on(&server.url(), 2).await;
    shop.sells(500);
    let counting = shop.counts();
    shop.is_counted().await;
    shop.sells(100);
    server.kill();
    shop.sells_for(2).await;
    counting.answers_ready(NOT_READY).await;
    let over = Instant::now();
    server.serves_again();
    let measured = shop.measured(over).await;
    counting.ends().await;
    measured
}
