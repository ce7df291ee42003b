//! Snapshots that cannot be written, that are lost or torn. They only bound a replay, so counting goes on where the log
//! is whole.

use std::fs;
use std::time::Instant;

use super::Place;
use super::shop::{Counting, Measured, Shop};
use super::topics::forget_before;

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
    let sign = shop.path().join("full");
    let counting = is_counting(&mut shop, &format!("disk-full=return({})", sign.display())).await;
    shop.is_saved(2).await;
    fs::write(&sign, "").unwrap();
    shop.sells_for(2).await;
    counting.answers_ready(NOT_READY).await;
    shop.is_counted().await;
    fs::remove_file(&sign).unwrap();
    let over = Instant::now();
    shop.sells_for(1).await;
    counting.is_ready().await;
    let measured = shop.measured(over).await;
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

/// Three hundred events are counted, and nobody counts any more.
async fn was_counted(place: &Place, partitions: i32) -> Shop {
    let mut shop = place.shop(partitions).await;
    shop.sells(300);
    let counting = shop.counts();
    shop.is_counted().await;
    counting.ends().await;
    shop
}

async fn goes_on(mut shop: Shop, says: &str) -> Measured {
    let over = Instant::now();
    let counting = shop.counts();
    shop.sells(100);
    let measured = shop.measured(over).await;
    assert!(counting.said().contains(says), "{}", counting.said());
    counting.ends().await;
    measured
}

pub async fn lost(place: Place) -> Measured {
    let shop = was_counted(&place, 2).await;
    fs::remove_dir_all(shop.snapshots()).unwrap();
    goes_on(shop, "counts again from where counting began").await
}

/// The newest of each partition is cut in half, as by a disk that lied.
pub async fn torn(place: Place) -> Measured {
    let shop = was_counted(&place, 2).await;
    for partition in ["0", "1"] {
        let files = fs::read_dir(shop.snapshots().join(partition)).unwrap();
        let names = files.map(|file| file.unwrap().path());
        let newest = names
            .filter(|path| path.extension().is_some_and(|kind| kind != "json"))
            .max()
            .unwrap();
        let bytes = fs::read(&newest).unwrap();
        fs::write(newest, &bytes[..bytes.len() / 2]).unwrap();
    }
    goes_on(shop, "a snapshot is passed over").await
}

/// The log's beginning too: what was counted cannot be counted again.
pub async fn lost_with_the_beginning(place: Place) -> Measured {
    let mut shop = was_counted(&place, 1).await;
    let counted = shop.truth().events.len();
    fs::remove_dir_all(shop.snapshots()).unwrap();
    forget_before(&shop, 0, 300).await;
    shop.sells(100);
    shop.counts()
        .stops(&["no readable snapshot", "the log begins at 300", "--accept-gap"])
        .await;
    let over = Instant::now();
    let counting = shop.counts_with(&["--accept-gap"], "");
    shop.shows("SELECT sum(offset) FROM progress", 400).await;
    let recovery = over.elapsed();
    // A new beginning: what it knows of users is what came since.
    let exact = (counted + shop.truth().events.len()) as u64;
    let shown = shop.number("SELECT sum(events) FROM event_counts").await.unwrap() as u64;
    counting.ends().await;
    Measured {
        lost: exact.saturating_sub(shown),
        twice: shown.saturating_sub(exact),
        recovery,
    }
}
