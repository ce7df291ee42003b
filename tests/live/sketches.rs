//! How far numbers that rest on sketches are from the exact ones, at the sizes that matter.

use cambium_clickhouse::migrate;

use super::{client, engine, number};

/// Users go in as the writer sends them; the views merge what the engine made of them.
#[tokio::test]
async fn unique_users_are_within_a_hundredth() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path());
    let client = client(engine.url());
    migrate(&client).await.unwrap();
    client
        .execute("INSERT INTO definition_rows SELECT 1, 'unique', 'active', 'a', '', 0, 'UTC', 1")
        .await
        .unwrap();
    for (place, users) in [1_000u64, 100_000, 5_000_000].into_iter().enumerate() {
        // In twenty inserts, as flushes come; numbers of users are SipHash, as the engine's are.
        for part in 0..20 {
            let insert = format!(
                "INSERT INTO unique_arrivals (definition, app, grain, bucket, day, users) \
                 SELECT 1, 'a', 'day', toDateTime('2026-01-0{0} 00:00:00', 'UTC'), toDate('2026-01-0{0}'), \
                 groupArray(sipHash64(toString(number))) FROM numbers({1}, {2})",
                place + 1,
                part * users / 20,
                users / 20
            );
            client.execute(&insert).await.unwrap();
        }
        for query in [
            "SELECT uniqCombined64Merge(users) FROM unique_users WHERE grain = 'day' AND day = ",
            "SELECT users FROM active_users WHERE grain = 'day' AND day = ",
        ] {
            let query = format!("{query} '2026-01-0{}'", place + 1);
            let shown = number(&client, &query).await.unwrap() as u64;
            assert!(
                shown.abs_diff(users) * 100 <= users,
                "{shown} users are shown, {users} there were"
            );
        }
    }
}
