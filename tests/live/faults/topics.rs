//! Topics that are another, grow, or lose records under what was counted of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cambium_kafka::create_topic;
use cambium_simulate::Record;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use super::super::cambium;
use super::Place;
use super::shop::{Measured, Shop};

const CREATED_AGAIN: &[&str] = &["was created again", "--accept-gap"];
const HAS_GROWN: &[&str] = &["3 partitions", "had 2", "cambium rekey", "cambium replay"];

fn admin(shop: &Shop) -> AdminClient<DefaultClientContext> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &shop.brokers).create().unwrap()
}

async fn delete(shop: &Shop) {
    let options = AdminOptions::new();
    admin(shop).delete_topics(&[&shop.name], &options).await.unwrap();
}

async fn create_again(shop: &Shop, partitions: i32) {
    let begun = Instant::now();
    // A name is free again a moment after its topic is gone.
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let settings = BTreeMap::new();
        let created = create_topic(&shop.brokers, &settings, &shop.name, partitions).await;
        if created.is_ok() && is_empty(shop) {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{} is not deleted",
            shop.name
        );
    }
}

/// A topic that is about to be deleted is still there.
fn is_empty(shop: &Shop) -> bool {
    tokio::task::block_in_place(|| cambium_kafka::read_all(&shop.brokers, &shop.name))
        .is_ok_and(|records| records.is_empty())
}

async fn grow(shop: &Shop, partitions: usize) {
    let new = NewPartitions::new(&shop.name, partitions);
    admin(shop)
        .create_partitions(&[new], &AdminOptions::new())
        .await
        .unwrap();
}

/// As retention does: the log of a partition begins at `offset` from now on.
pub async fn forget_before(shop: &Shop, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&shop.name, partition, Offset::Offset(offset))
        .unwrap();
    admin(shop)
        .delete_records(&list, &AdminOptions::new())
        .await
        .unwrap();
}

/// Deleted and created again under a process that reads it; the new topic is longer than the old one was.
pub async fn created_again_while_it_is_read(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(300);
    let counting = shop.counts();
    shop.is_counted().await;
    let old = shop.log();
    delete(&shop).await;
    counting.answers_ready("does not exist any more").await;
    create_again(&shop, 2).await;
    shop.sells(600);
    counting.stops(CREATED_AGAIN).await;
    refused_then_accepted(shop, old, CREATED_AGAIN).await
}

/// The same between two runs, with a topic that is shorter.
pub async fn created_again_between_runs(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(300);
    let counting = shop.counts();
    shop.is_counted().await;
    counting.ends().await;
    let old = shop.log();
    delete(&shop).await;
    create_again(&shop, 2).await;
    shop.sells(100);
    refused_then_accepted(shop, old, CREATED_AGAIN).await
}

/// Records that were not read yet are deleted while a process is held.
pub async fn records_are_deleted(place: Place) -> Measured {
    let mut shop = place.shop(1).await;
    shop.sells(300);
    let counting = shop.counts();
    shop.is_counted().await;
    shop.is_saved(1).await;
    let old = shop.log();
    counting.signal("-STOP");
    shop.sells(300);
    forget_before(&shop, 0, 450).await;
    counting.signal("-CONT");
    // Whichever it notices first: what it is given, or what lies there when it is given the partition again.
    counting.stops(&["offset", "300"]).await;
    refused_then_accepted(shop, old, &["offsets 300 to 450 are lost", "--accept-gap"]).await
}

/// Refused, with the ways; accepted, what the old log held and what the new one holds is counted, each once.
async fn refused_then_accepted(mut shop: Shop, old: Vec<Record>, says: &[&str]) -> Measured {
    shop.counts().stops(says).await;
    let over = Instant::now();
    let counting = shop.counts_with(&["--accept-gap"], "");
    let read = old.len() + shop.log().len();
    shop.before = old;
    shop.shows("SELECT sum(read) FROM records", read as i64).await;
    shop.shows("SELECT count() > 0 FROM gaps", 1).await;
    let recovery = over.elapsed();
    // What is shown last, `progress` says.
    counting.ends().await;
    Measured {
        recovery,
        ..shop.compared().await
    }
}

/// Partitions are added under a process that reads the topic. It says the way out, and that way leads out.
pub async fn grows_while_it_is_read(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(300);
    let counting = shop.counts();
    shop.is_counted().await;
    grow(&shop, 3).await;
    counting.stops(HAS_GROWN).await;
    shop.counts().stops(HAS_GROWN).await;
    let stopped = shop.compared().await;
    assert_eq!((stopped.lost, stopped.twice), (0, 0));

    let over = Instant::now();
    let config = shop.path().join("1.toml");
    let larger = format!("{}_larger", shop.name);
    let rekey = [
        "rekey",
        "--config",
        config.to_str().unwrap(),
        "--from",
        &shop.name,
    ];
    let to = ["--to", &larger, "--partitions", "3"];
    let output = tokio::task::block_in_place(|| cambium(shop.path(), &[&rekey[..], &to[..]].concat()));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut larger = place.shop_named(&larger);
    let counting = larger.counts();
    let measured = larger.measured(over).await;
    assert_eq!(larger.log().len(), 300);
    counting.ends().await;
    measured
}

/// Partitions are added between two runs.
pub async fn grows_between_runs(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(300);
    let counting = shop.counts();
    shop.is_counted().await;
    counting.ends().await;
    grow(&shop, 3).await;
    let over = Instant::now();
    shop.counts().stops(HAS_GROWN).await;
    Measured {
        recovery: over.elapsed(),
        ..shop.compared().await
    }
}
