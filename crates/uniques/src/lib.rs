//! Active users: how many distinct people did something, by minute, hour and day, and in windows
//! that roll.
//!
//! A user enters a bucket's set once. What was entered is remembered in the user's own state, so
//! that a busy user costs one comparison an event and no sketch work.
//!
//! The windows need no sketch at all. A user is in the last n slices exactly when their newest event
//! is, so it is enough to count users by the slice of their newest event: one step down, one up when
//! it moves. A window is then a sum over the newest slices, exact, and what is left of it when time
//! goes on without events is the sum over fewer.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod rolling;

use cambium_engine::{
    By, Compiler, Context, DefinitionError, EventNames, Input, Matcher, Processor, Slice, Table, Zone,
};
use serde::{Deserialize, Serialize};

pub use rolling::ROLLING;
use rolling::{Newest, Rolling};

/// `[[unique]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    #[serde(default = "EventNames::any")]
    pub event: EventNames,
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    #[serde(default)]
    pub by: Vec<String>,
}

pub static MEMBERS: Table = Table {
    name: "unique_members",
    columns: &[
        ("definition", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("grain", "LowCardinality(String)"),
        ("bucket", "DateTime('UTC')"),
        ("day", "Date"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("user", "UInt64"),
    ],
};

/// What a user is remembered to be in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entered {
    slice: Slice,
    /// The newest minute, hour and day entered with that slice.
    buckets: Option<[i64; 3]>,
    newest: Newest,
}

pub struct Uniques {
    matcher: Matcher,
    by: By,
    zone: Zone,
}

impl Processor for Uniques {
    const KIND: &'static str = "unique";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = Entered;
    type State = Rolling;

    fn built_in() -> &'static [&'static str] {
        &["active"]
    }

    fn complete(name: &str, keys: &mut serde_json::Map<String, serde_json::Value>) {
        if name == "active" {
            keys.entry("by")
                .or_insert_with(|| serde_json::json!(["platform", "channel"]));
        }
    }

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        Ok(Uniques {
            matcher: Matcher::new(&definition.event, definition.filter.as_deref(), compiler)?,
            by: By::new(&definition.by, compiler)?,
            zone: compiler.zone()?,
        })
    }

    fn apply(
        &self,
        rolling: &mut Rolling,
        entered: &mut Entered,
        input: &Input<'_>,
        context: &mut Context<'_>,
    ) {
        if !self.matcher.fits(input.event) {
            return;
        }
        let slice = self.by.slice(input, context.names);
        self.enter(entered, &slice, input, context);
        rolling.count(
            &self.zone,
            &mut entered.newest,
            &slice,
            input.time,
            context.watermark,
        );
    }

    fn flush(&self, rolling: &mut Rolling, context: &mut Context<'_>) {
        rolling.flush(&self.zone, &self.by, context);
    }

    fn advance(&self, rolling: &mut Rolling, context: &mut Context<'_>) {
        rolling.advance(&self.zone, &self.by, context);
    }
}

impl Uniques {
    fn enter(&self, entered: &mut Entered, slice: &Slice, input: &Input<'_>, context: &mut Context<'_>) {
        let day = self.zone.day(input.time);
        let buckets = [
            self.zone.minute(input.time),
            self.zone.hour(input.time),
            day.start,
        ];
        let known = entered.buckets.filter(|_| entered.slice == *slice);
        for (place, grain) in ["minute", "hour", "day"].into_iter().enumerate() {
            if known.is_some_and(|known| known[place] == buckets[place]) {
                continue;
            }
            let (row, names) = context.member(&MEMBERS);
            let row = row.text(grain).datetime(buckets[place]).date(day.number);
            self.by.write(slice, names, row).u64(input.user);
        }
        // An older bucket is not remembered in the place of a newer one.
        if known.is_none_or(|known| known[0] <= buckets[0]) {
            entered.slice = slice.clone();
            entered.buckets = Some(buckets);
        }
    }
}
