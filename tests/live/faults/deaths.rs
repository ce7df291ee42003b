//! Killed at every named point of a flush, a snapshot, a start and a hand-over.

use std::time::Instant;

use super::Place;
use super::shop::{Counting, Measured, Shop};

/// Dies at a point while events come, some seconds after its start; another goes on.
pub async fn while_counting(place: Place, point: &'static str) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(500);
    let doomed = shop.counts_with(&[], point);
    sells_until_it_dies(&mut shop, doomed).await;
    goes_on(shop).await
}

/// Dies at its very first start, before it has read anything.
pub async fn at_the_start(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(500);
    shop.counts_with(&[], "after-journaling=1*off->panic")
        .dies()
        .await;
    goes_on(shop).await
}

/// Dies when it has to give a partition to one that joins.
pub async fn handing_over(place: Place, point: &'static str) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(500);
    let doomed = shop.counts_with(&[], point);
    shop.has_begun().await;
    let heir = shop.counts();
    sells_until_it_dies(&mut shop, doomed).await;
    let over = Instant::now();
    let measured = shop.measured(over).await;
    heir.ends().await;
    measured
}

async fn sells_until_it_dies(shop: &mut Shop, doomed: Counting) {
    let dies = doomed.dies();
    tokio::pin!(dies);
    loop {
        tokio::select! {
            () = &mut dies => return,
            () = shop.sells_for(1) => {}
        }
    }
}

async fn goes_on(mut shop: Shop) -> Measured {
    let over = Instant::now();
    let next = shop.counts();
    shop.sells(200);
    let measured = shop.measured(over).await;
    next.ends().await;
    measured
}
