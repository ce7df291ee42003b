//! A schema registry that is away, and a schema that it does not know.

use std::time::{Duration, Instant};

use super::super::registry::{Registry, old, wire};
use super::Place;
use super::shop::Measured;

const TIME_MS: i64 = 1_700_000_000_000;

/// Away when the first record asks for a schema; reading waits, and nothing is rejected for it.
pub async fn is_down(place: Place) -> Measured {
    let (registry, url) = Registry::start();
    registry.put_old();
    registry.is_down(true);
    let mut shop = place.shop(1).await;
    shop.source = format!("format = \"avro-confluent\"\nregistry = \"{url}\"");
    let producer = shop.producer();
    let send = |payload: &[u8]| producer.send_raw(&shop.name, None, payload, None).unwrap();
    for user in 0..50 {
        send(&wire(7, old(&format!("u{user}"), TIME_MS)));
    }
    send(&wire(9, vec![1, 2, 3]));
    producer.flush(Duration::from_secs(30)).unwrap();
    let counting = shop.counts();
    counting
        .answers_ready("the schema registry does not answer")
        .await;
    registry.is_down(false);
    let over = Instant::now();
    shop.is_counted().await;
    let recovery = over.elapsed();
    let unknown = "SELECT count() FROM rejected_events WHERE reason = 'unknown_schema'";
    shop.shows(unknown, 1).await;
    let shown = shop.number("SELECT sum(events) FROM event_counts").await.unwrap() as u64;
    counting.is_ready().await;
    counting.ends().await;
    Measured {
        lost: 50u64.saturating_sub(shown),
        twice: shown.saturating_sub(50),
        recovery,
    }
}
