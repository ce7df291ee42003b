//! Processes that are held for longer than a session lasts, and that come and go.

use std::time::{Duration, Instant};

use super::Place;
use super::shop::Measured;

/// The session of the group lasts six seconds.
const LONGER_THAN_A_SESSION: Duration = Duration::from_secs(12);

/// Stopped until another has taken over and gone on; then it wakes up, and believes that its partitions are still its
/// own.
pub async fn stopped_and_woken(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(500);
    let sleeper = shop.counts();
    shop.has_begun().await;
    let heir = shop.counts();
    shop.sells_for(3).await;
    sleeper.signal("-STOP");
    let over = Instant::now();
    shop.sells_for(LONGER_THAN_A_SESSION.as_secs() as usize).await;
    shop.is_counted().await;
    // What was published while it was stopped was there within a second of its session's end.
    let taken_over = over.elapsed().saturating_sub(LONGER_THAN_A_SESSION);
    sleeper.signal("-CONT");
    shop.sells_for(3).await;
    let measured = shop.measured(Instant::now()).await;
    sleeper.ends().await;
    heir.ends().await;
    Measured {
        recovery: taken_over + measured.recovery,
        ..measured
    }
}

/// Ten come and go, one behind the other, while one stays.
pub async fn joins_and_leaves(place: Place) -> Measured {
    let mut shop = place.shop(4).await;
    shop.sells(500);
    let stays = shop.counts();
    for _ in 0..10 {
        let comes = shop.counts();
        shop.sells_for(2).await;
        comes.ends().await;
    }
    let over = Instant::now();
    let measured = shop.measured(over).await;
    stays.ends().await;
    measured
}
