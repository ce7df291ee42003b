//! Records that are no events, that are too large, or whose time cannot be.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use super::Place;
use super::shop::{Measured, Shop};

const DAY_MS: i64 = 86_400_000;
const NOW_MS: i64 = 1_700_000_000_000;

/// A topic that takes records of 8 MB.
async fn shop_with_large_records(place: &Place) -> Shop {
    let shop = place.shop_named(&place.name);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &shop.brokers)
        .create()
        .unwrap();
    let topic = NewTopic::new(&shop.name, 2, TopicReplication::Fixed(1)).set("max.message.bytes", "8000000");
    let created = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    created[0].as_ref().unwrap();
    shop
}

pub async fn broken(place: Place) -> Measured {
    let mut shop = shop_with_large_records(&place).await;
    shop.sells(500);
    let counting = shop.counts();
    shop.is_counted().await;
    let event = |number: usize, time: i64, more: &str| {
        format!(
            r#"{{"app":"shop","event":"view","user_id":"u{number}","timestamp":{time},"session_id":"{more}"}}"#
        )
    };
    let producer = shop.producer();
    // Nothing that a compression would make small.
    let much: String = std::iter::repeat_with(fastrand::alphanumeric)
        .take(5_000_000)
        .collect();
    for number in 0..600 {
        let payload = match number {
            // The largest comes in the middle of the others.
            300 => event(number, NOW_MS, &much).into_bytes(),
            _ if number % 10 == 3 => vec![b'{', 0xff, 0xfe, number as u8],
            _ if number % 50 == 7 => event(number, 0, "").into_bytes(),
            _ if number % 50 == 8 => event(number, NOW_MS + DAY_MS, "").into_bytes(),
            _ => event(number, NOW_MS, "").into_bytes(),
        };
        producer.send(&shop.name, &payload, Some(NOW_MS)).unwrap();
    }
    tokio::task::block_in_place(|| producer.flush(Duration::from_secs(60))).unwrap();
    let over = Instant::now();
    let measured = shop.measured(over).await;
    let rejected = |reason| format!("SELECT count() FROM rejected_events WHERE reason = '{reason}'");
    shop.shows(&rejected("too_large"), 1).await;
    shop.shows("SELECT sum(ahead) >= 12 FROM records", 1).await;
    shop.shows("SELECT sum(late) >= 12 FROM records", 1).await;
    counting.is_ready().await;
    counting.ends().await;
    measured
}
