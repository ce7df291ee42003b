//! Clocks that are set back.

use std::time::Instant;

use super::Place;
use super::shop::Measured;

const IS_OF_NOW: &str = "SELECT count() > 0 AND max(flushed_at) < now() + INTERVAL 1 MINUTE FROM progress";

/// A process whose clock is a day ahead; the next one has the right time.
pub async fn of_the_process(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(300);
    let ahead = shop.counts_with(&[], "clock=return(86400000)");
    shop.is_counted().await;
    shop.shows(IS_OF_NOW, 0).await;
    ahead.kill();
    let over = Instant::now();
    let next = shop.counts();
    // Also where no record comes.
    shop.shows(IS_OF_NOW, 1).await;
    shop.sells(300);
    let measured = shop.measured(over).await;
    next.ends().await;
    measured
}

/// ClickHouse's clock was a day ahead when it was written down that a definition is not shown; now it is configured.
pub async fn of_clickhouse(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(300);
    let first = shop.counts();
    shop.is_counted().await;
    first.ends().await;
    let hide = "INSERT INTO definition_states SELECT id, toUnixTimestamp64Milli(now64(3)) + 86400000, false FROM definitions";
    shop.client.execute(hide).await.unwrap();
    shop.shows("SELECT countIf(shown) FROM definitions", 0).await;
    let over = Instant::now();
    let next = shop.counts();
    shop.shows("SELECT countIf(NOT shown) FROM definitions", 0).await;
    let measured = shop.measured(over).await;
    next.ends().await;
    measured
}
