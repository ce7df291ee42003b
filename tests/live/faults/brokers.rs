//! Brokers that are killed: the only one, and the leader among three.

use std::time::{Duration, Instant};

use cambium_kafka::LocalKafka;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::task::block_in_place;

use super::Place;
use super::shop::{Measured, Shop};

pub async fn the_only_one(place: Place) -> Measured {
    let mut kafka = block_in_place(LocalKafka::start).unwrap();
    let mut shop = shop_on(&place, &kafka, 1).await;
    shop.sells(500);
    let counting = shop.counts();
    shop.is_counted().await;
    counting.is_ready().await;
    shop.sells(200);
    kafka.kill().unwrap();
    counting.answers_ready("Kafka does not answer").await;
    block_in_place(|| kafka.restart()).unwrap();
    let over = Instant::now();
    shop.sells(200);
    let measured = shop.measured(over).await;
    counting.is_ready().await;
    counting.ends().await;
    measured
}

pub async fn the_leader_of_three(place: Place) -> Measured {
    let mut kafka = block_in_place(LocalKafka::start_three).unwrap();
    let mut shop = shop_on(&place, &kafka, 3).await;
    shop.sells(500);
    let counting = shop.counts();
    shop.is_counted().await;
    shop.sells(200);
    let leader = block_in_place(|| leader_of(&shop));
    kafka.kill_broker(leader).unwrap();
    let over = Instant::now();
    shop.sells(200);
    let measured = shop.measured(over).await;
    counting.is_ready().await;
    counting.ends().await;
    measured
}

/// A shop whose topic has two partitions, on each of so many brokers.
async fn shop_on(place: &Place, kafka: &LocalKafka, brokers: i32) -> Shop {
    let shop = Shop::at(&kafka.brokers(), &place.ground.url(), &place.name);
    let admin: AdminClient<DefaultClientContext> = client(&shop).create().unwrap();
    let topic = NewTopic::new(&shop.name, 2, TopicReplication::Fixed(brokers));
    let begun = Instant::now();
    // A cluster is complete a moment after its first broker answers.
    while admin
        .create_topics([&topic], &AdminOptions::new())
        .await
        .is_ok_and(|created| created[0].is_err())
    {
        assert!(begun.elapsed() < Duration::from_secs(60), "there is no topic");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    shop
}

fn client(shop: &Shop) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &shop.brokers);
    config
}

/// Of the first partition.
fn leader_of(shop: &Shop) -> usize {
    let consumer: BaseConsumer = client(shop).create().unwrap();
    let asked = consumer.fetch_metadata(Some(&shop.name), Duration::from_secs(30));
    let leader = asked.unwrap().topics()[0].partitions()[0].leader();
    usize::try_from(leader).unwrap()
}
