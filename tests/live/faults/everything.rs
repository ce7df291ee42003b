//! Everything at once: processes, ClickHouse and the broker are killed while many events come.

use std::time::{Duration, Instant};

use cambium_kafka::{LocalKafka, create_topic};
use cambium_simulate::{Product, Settings};
use tokio::task::block_in_place;
use tokio::time::sleep;

use super::Place;
use super::shop::{Measured, Shop};
use super::warehouse::Server;

const EVENTS: usize = 200_000;
const PARTITIONS: i32 = 6;

pub async fn at_once(place: Place) -> Measured {
    let mut kafka = block_in_place(LocalKafka::start).unwrap();
    let mut server = Server::start();
    let mut shop = Shop::at(&kafka.brokers(), &server.url(), &place.name);
    let brokers = shop.brokers.clone();
    create_topic(&brokers, &Default::default(), &shop.name, PARTITIONS)
        .await
        .unwrap();
    shop.product = Product::new(Settings {
        events_per_second: 100.0,
        ..Settings::default()
    });
    let (first, second) = (shop.counts(), shop.counts());
    let selling = shop.sells_meanwhile(EVENTS);
    sleep(Duration::from_secs(6)).await;
    first.kill();
    sleep(Duration::from_secs(3)).await;
    let third = shop.counts();
    server.kill();
    sleep(Duration::from_secs(2)).await;
    server.serves_again();
    sleep(Duration::from_secs(2)).await;
    kafka.kill().unwrap();
    sleep(Duration::from_secs(2)).await;
    block_in_place(|| kafka.restart()).unwrap();
    let over = Instant::now();
    selling.await.unwrap();
    let measured = shop.measured(over).await;
    assert!(shop.log().len() >= EVENTS);
    second.ends().await;
    third.ends().await;
    measured
}
