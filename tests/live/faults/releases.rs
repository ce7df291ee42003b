//! Processes of two releases, of which the later one counts funnels otherwise.

use std::time::Instant;

use super::Place;
use super::shop::{Measured, Shop};
use crate::live::cambium;

const LATER: &str = "later-release=return(funnel)";

/// What the funnels of the later release show is `shown`, of so many that were ever counted.
async fn funnels(shop: &Shop, release: i64, ever: i64) {
    let shown =
        "SELECT max(JSONExtractInt(text, 'semantics')) FROM definitions WHERE kind = 'funnel' AND shown";
    shop.shows(shown, release).await;
    shop.shows("SELECT count() FROM definitions WHERE kind = 'funnel'", ever)
        .await;
}

/// Two processes are upgraded one after the other while events come, and then go back. What counts as before loses nothing;
/// a funnel begins anew with each, what it was stays, and is given its past in the end.
pub async fn upgraded_and_back(place: Place) -> Measured {
    let mut shop = place.shop(2).await;
    shop.sells(500);
    let before = [shop.counts(), shop.counts()];
    shop.is_counted().await;
    funnels(&shop, 1, 1).await;
    let of_first = "SELECT uniqCombined64Merge(users) FROM funnel_sets WHERE definition = (SELECT min(id) FROM definitions \
                    WHERE kind = 'funnel' AND JSONExtractInt(text, 'semantics') = 1)";
    let users = shop.number(of_first).await.unwrap();
    let mut later = Vec::new();
    for one in before {
        later.push(shop.counts_with(&[], LATER));
        shop.sells_for(2).await;
        one.ends().await;
        shop.sells_for(2).await;
    }
    shop.is_counted().await;
    funnels(&shop, 2, 2).await;
    assert!(
        shop.number(of_first).await.unwrap() >= users,
        "what the release before counted is gone"
    );
    let mut back = Vec::new();
    for one in later {
        back.push(shop.counts());
        shop.sells_for(2).await;
        one.ends().await;
        shop.sells_for(2).await;
    }
    shop.is_counted().await;
    funnels(&shop, 1, 2).await;
    let over = Instant::now();
    let config = shop.path().join("1.toml");
    let config = config.to_str().unwrap();
    let replay = [
        "replay",
        "--config",
        config,
        "--data",
        ".",
        "--topic",
        &shop.name,
        "--definition",
        "purchase",
    ];
    let output = tokio::task::block_in_place(|| cambium(shop.path(), &replay));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let measured = shop.measured(over).await;
    for one in back {
        one.ends().await;
    }
    measured
}
