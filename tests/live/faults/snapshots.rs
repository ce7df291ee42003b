//! Snapshots that cannot be written. They only bound a replay, so counting goes on.

use std::fs;
use std::time::Instant;

use super::Place;
use super::shop::{Counting, Measured, Shop};

const NOT_READY: &str = "snapshots cannot be written";

async fn is_counting(shop: &mut Shop, failpoints: &str) -> Counting {
    shop.sells(500);
    let counting = shop.counts_with(&[], failpoints);
    shop.is_counted().await;
    counting
}

/// The disk is full for some seconds.
pub async fn full(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    let counting = is_counting(&mut shop, "disk-full=6*off->6*return").await;
    shop.sells_for(3).await;
    counting.answers_ready(NOT_READY).await;
    shop.is_counted().await;
    let over = Instant::now();
    shop.sells_for(3).await;
    let measured = shop.measured(over).await;
    counting.is_ready().await;
    counting.kill();
    measured
}

/// Nothing can be written from some moment on, to the end of the process; the next one finds what was written before.
pub async fn read_only(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    let counting = is_counting(&mut shop, "").await;
    counting.is_ready().await;
    shop.is_saved(2).await;
    // Whoever runs the tests may write wherever they like: a file is in the directory's place.
    let (there, aside) = (shop.snapshots(), shop.path().join("aside"));
    fs::rename(&there, &aside).unwrap();
    fs::write(&there, "").unwrap();
    shop.sells_for(3).await;
    counting.answers_ready(NOT_READY).await;
    shop.is_counted().await;
    counting.ends().await;
    fs::remove_file(&there).unwrap();
    fs::rename(&aside, &there).unwrap();
    let over = Instant::now();
    let next = shop.counts();
    shop.sells(100);
    let measured = shop.measured(over).await;
    assert!(
        next.said().contains("goes on from its snapshot"),
        "{}",
        next.said()
    );
    next.ends().await;
    measured
}
