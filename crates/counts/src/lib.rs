//! Event counts: how often each event happened, by minute and slice, and who did it.
//!
//! A count is an aggregate: the whole value of its minute, written anew as it grows. The users are
//! members of a set; who was entered is remembered in the user's own state, a few events back, so
//! that a busy user is not written again with every event.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use cambium_engine::{
    By, Compiler, Context, DefinitionError, Input, Kind, MINUTE_MS, Map, Processor, Slice, Table, Zone,
    room_for_one,
};
use serde::{Deserialize, Serialize};

/// `[counts]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    #[serde(default = "platform_and_channel")]
    pub by: Vec<String>,
}

fn platform_and_channel() -> Vec<String> {
    vec!["platform".to_owned(), "channel".to_owned()]
}

impl Default for Definition {
    fn default() -> Self {
        Definition {
            by: platform_and_channel(),
        }
    }
}

pub static COUNTS: Table = Table {
    name: "count_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("event", "LowCardinality(String)"),
        ("bucket", "DateTime('UTC')"),
        ("day", "Date"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("events", "UInt64"),
    ],
};

pub static MEMBERS: Table = Table {
    name: "count_members",
    columns: &[
        ("definition", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("event", "LowCardinality(String)"),
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

/// How many (event, minute, slice) a user is remembered to be in.
const REMEMBERED: usize = 4;

/// Where the user was entered last, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entered(Vec<(i64, u32, Slice)>);

/// The counts of the minutes that events may still come for.
#[derive(Default, Serialize, Deserialize)]
pub struct Counts {
    minutes: BTreeMap<i64, Map<(u32, Slice), Count>>,
    /// What changed since the last flush.
    #[serde(skip)]
    changed: Vec<(i64, u32, Slice)>,
}

#[derive(Default, Serialize, Deserialize)]
struct Count {
    events: u64,
    #[serde(skip)]
    is_changed: bool,
}

pub struct EventCounts {
    by: By,
    zone: Zone,
}

impl Processor for EventCounts {
    const KIND: &'static str = "counts";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = Entered;
    type State = Counts;
    const IS_SINGLE: bool = true;

    fn built_in() -> &'static [&'static str] {
        &[""]
    }

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        Ok(EventCounts {
            by: By::new(&definition.by, compiler)?,
            zone: compiler.zone()?,
        })
    }

    fn apply(
        &self,
        counts: &mut Counts,
        entered: &mut Entered,
        input: &Input<'_>,
        context: &mut Context<'_>,
    ) {
        let minute = self.zone.minute(input.time);
        let slice = self.by.slice(input, context.names);
        let key = (minute, input.name, slice);
        if !entered.0.contains(&key) {
            self.put_member(&key, input.user, context);
            room_for_one(&mut entered.0);
            entered.0.insert(0, key.clone());
            entered.0.truncate(REMEMBERED);
        }
        let of_minute = counts.minutes.entry(minute).or_default();
        let count = of_minute.entry((input.name, key.2.clone())).or_default();
        count.events += 1;
        if !std::mem::replace(&mut count.is_changed, true) {
            counts.changed.push(key);
        }
    }

    fn flush(&self, counts: &mut Counts, context: &mut Context<'_>) {
        let mut changed = std::mem::take(&mut counts.changed);
        changed.sort_unstable();
        for key in changed.drain(..) {
            self.put_count(counts, &key, context);
        }
        // The room is used again.
        counts.changed = changed;
    }

    fn advance(&self, counts: &mut Counts, context: &mut Context<'_>) {
        let cutoff = context.cutoff();
        let is_over = |minute: i64| minute + MINUTE_MS <= cutoff;
        if !counts
            .minutes
            .first_key_value()
            .is_some_and(|(minute, _)| is_over(*minute))
        {
            return;
        }
        // What is forgotten is written first.
        self.flush(counts, context);
        while let Some(minute) = counts.minutes.first_entry()
            && is_over(*minute.key())
        {
            minute.remove();
        }
    }
}

impl EventCounts {
    fn put_count(
        &self,
        counts: &mut Counts,
        (minute, event, slice): &(i64, u32, Slice),
        context: &mut Context<'_>,
    ) {
        let of_minute = counts.minutes.get_mut(minute);
        let Some(count) = of_minute.and_then(|all| all.get_mut(&(*event, slice.clone()))) else {
            return;
        };
        count.is_changed = false;
        let (row, names) = context.versioned(&COUNTS, false);
        let row = row.text(names.text(Kind::Event, *event));
        let row = row.datetime(*minute).date(self.zone.day(*minute).number);
        self.by.write(slice, names, row).u64(count.events);
    }

    fn put_member(&self, (minute, event, slice): &(i64, u32, Slice), user: u64, context: &mut Context<'_>) {
        let (row, names) = context.member(&MEMBERS);
        let row = row.text(names.text(Kind::Event, *event));
        let row = row.datetime(*minute).date(self.zone.day(*minute).number);
        self.by.write(slice, names, row).u64(user);
    }
}
