//! Event counts: how often each event happened, by minute and slice, and who did it.
//!
//! A count is an aggregate: the whole value of its minute, written anew as it grows. The users are
//! members of a set; who was entered is remembered in the user's own state, a few events back, so
//! that a busy user is not entered again with every event.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use cambium_engine::{
    Bug, By, Compiler, Context, DefinitionError, Input, Kept, Kind, MINUTE_MS, Map, Processor, Renames,
    Replaced, Slice, Table, Zone, bug,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

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

pub static ARRIVALS: Table = Table {
    name: "count_arrivals",
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
        ("users", "Array(UInt64)"),
    ],
};

/// Devices that did an event of a minute and may still become somebody's: one that does is taken out again.
pub static DEVICES: Table = Table {
    name: "count_device_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("user", "UInt64"),
        ("event", "LowCardinality(String)"),
        ("bucket", "DateTime('UTC')"),
        ("day", "Date"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
    ],
};

/// A count: the minute since 1970, the event and the slice.
type Key = (u32, u32, Slice);

/// How many counts a user is remembered to be in.
const REMEMBERED: usize = 4;

/// The counts that the user was entered in last, newest first: the minute since 1970, and the place in it.
#[derive(Clone, Debug, Default)]
pub struct Entered(SmallVec<[(u32, u32); REMEMBERED]>);

impl Serialize for Entered {
    /// Each minute as what it lies before the one in front.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut last = 0;
        serializer.collect_seq(self.0.iter().map(|(number, place)| {
            let behind = number.wrapping_sub(std::mem::replace(&mut last, *number)) as i32;
            (behind, place)
        }))
    }
}

impl<'de> Deserialize<'de> for Entered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut entered = SmallVec::<[(i32, u32); REMEMBERED]>::deserialize(deserializer)?;
        let mut last = 0u32;
        let numbers = entered.drain(..).map(|(behind, place)| {
            last = last.wrapping_add(behind as u32);
            (last, place)
        });
        Ok(Entered(numbers.collect()))
    }
}

impl Entered {
    /// Whether the user was not remembered to be in there.
    fn enter(&mut self, count: (u32, u32)) -> bool {
        if self.0.contains(&count) {
            return false;
        }
        self.0.truncate(REMEMBERED - 1);
        self.0.insert(0, count);
        true
    }
}

/// The counts of the minutes that events may still come for.
#[derive(Default, Serialize, Deserialize)]
pub struct Counts {
    minutes: BTreeMap<u32, Kept<Minute>>,
    /// The minutes in which something changed since the last flush.
    #[serde(skip)]
    changed: BTreeSet<u32>,
}

/// What happened in a minute, in the order in which it happened first.
#[derive(Default, Serialize, Deserialize)]
struct Minute {
    places: Map<(u32, Slice), u32>,
    counts: Vec<Count>,
}

#[derive(Default, Serialize, Deserialize)]
struct Count {
    events: u64,
    /// Who is to be entered with the next flush.
    #[serde(skip)]
    arrivals: Vec<u64>,
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
        let number = minute_number(input.time);
        if input.is_moved {
            let key = (number, input.name, self.by.slice(input, context.names));
            self.put_arrivals(&key, &[input.user], context);
            return;
        }
        let minute = counts.minutes.entry(number).or_default().change();
        let key = (input.name, self.by.slice(input, context.names));
        let place = match minute.places.get(&key) {
            Some(place) => *place,
            None => minute.add(key),
        };
        let count = &mut minute.counts[place as usize];
        count.events += 1;
        let is_new = entered.enter((number, place));
        if is_new && !input.is_guest {
            count.arrivals.push(input.user);
            context.rows.wait_for_users(1);
        }
        if !std::mem::replace(&mut count.is_changed, true) {
            counts.changed.insert(number);
        }
        if is_new && input.is_guest {
            let key = (number, input.name, self.by.slice(input, context.names));
            self.put_device(&key, input.user, false, context);
        }
    }

    /// That an event happened stays counted; whose it was is not.
    fn replace(
        &self,
        _: &mut Counts,
        _: Entered,
        entered: &mut Entered,
        replaced: &Replaced<'_>,
        context: &mut Context<'_>,
    ) {
        // It bears places in the partition's minutes, and was worked out without them.
        *entered = Entered::default();
        let mut keys = |inputs: &[Input<'_>]| -> BTreeSet<Key> {
            let key = |input: &Input<'_>| {
                let slice = self.by.slice(input, context.names);
                (minute_number(input.time), input.name, slice)
            };
            inputs.iter().map(key).collect()
        };
        let (moved, stays) = (keys(replaced.moved), keys(replaced.stays));
        for key in moved.difference(&stays) {
            self.put_device(key, replaced.user, true, context);
        }
    }

    fn flush(&self, counts: &mut Counts, context: &mut Context<'_>) {
        for number in std::mem::take(&mut counts.changed) {
            if let Some(minute) = counts.minutes.get_mut(&number) {
                self.put_minute(i64::from(number) * MINUTE_MS, minute.change(), context);
            }
        }
    }

    /// Minutes that are over have no counts any more.
    fn rest(&self, _: u64, entered: &mut Entered, context: &mut Context<'_>) {
        let cutoff = context.accepts_from();
        entered.0.retain(|(number, _)| !is_over(*number, cutoff));
    }

    fn rename(&self, counts: &mut Counts, renames: &Renames) {
        for minute in counts.minutes.values_mut().map(Kept::change) {
            let places = std::mem::take(&mut minute.places);
            for ((event, slice), place) in places.sorted() {
                let mut slice = slice.clone();
                self.by.rename(&mut slice, renames);
                let key = (renames.number(Kind::Event, *event), slice);
                minute.places.insert(key, *place);
            }
        }
    }

    /// Users bear places, not names.
    fn rename_user(&self, _: &mut Entered, _: &Renames) {}

    fn advance(&self, counts: &mut Counts, context: &mut Context<'_>) {
        let cutoff = context.accepts_from();
        let is_over = |number: u32| is_over(number, cutoff);
        if !counts
            .minutes
            .first_key_value()
            .is_some_and(|(number, _)| is_over(*number))
        {
            return;
        }
        // What is forgotten is written first.
        if !bug(Bug::ForgottenKeyUnflushed) {
            self.flush(counts, context);
        }
        while let Some(minute) = counts.minutes.first_entry()
            && is_over(*minute.key())
        {
            minute.remove();
        }
    }
}

impl Minute {
    fn add(&mut self, key: (u32, Slice)) -> u32 {
        let place = self.counts.len() as u32;
        self.counts.push(Count::default());
        self.places.insert(key, place);
        place
    }
}

/// The minutes since 1970; an event's time lies between 1970 and 2100.
fn minute_number(time: i64) -> u32 {
    (time / MINUTE_MS) as u32
}

/// Whether no event can come for a minute any more.
fn is_over(number: u32, cutoff: i64) -> bool {
    (i64::from(number) + 1) * MINUTE_MS <= cutoff
}

impl EventCounts {
    fn put_arrivals(&self, (minute, event, slice): &Key, users: &[u64], context: &mut Context<'_>) {
        let start = i64::from(*minute) * MINUTE_MS;
        let (row, names) = context.arrivals(&ARRIVALS);
        let row = row
            .text(names.text(Kind::Event, *event))
            .datetime(start)
            .date(self.zone.day(start).number);
        self.by.write(slice, names, row).u64s(users);
    }

    fn put_device(
        &self,
        (minute, event, slice): &Key,
        device: u64,
        deleted: bool,
        context: &mut Context<'_>,
    ) {
        let start = i64::from(*minute) * MINUTE_MS;
        let (row, names) = context.versioned_behind(&DEVICES, deleted);
        let row = row
            .u64(device)
            .text(names.text(Kind::Event, *event))
            .datetime(start)
            .date(self.zone.day(start).number);
        self.by.write(slice, names, row);
    }

    /// Leaves the rows of what changed in a minute.
    fn put_minute(&self, start: i64, minute: &mut Minute, context: &mut Context<'_>) {
        let day = self.zone.day(start).number;
        for ((event, slice), place) in minute.places.sorted() {
            let count = &mut minute.counts[*place as usize];
            if !std::mem::take(&mut count.is_changed) {
                continue;
            }
            let (row, names) = context.versioned(&COUNTS, false);
            let row = row
                .text(names.text(Kind::Event, *event))
                .datetime(start)
                .date(day);
            self.by.write(slice, names, row).u64(count.events);
            if count.arrivals.is_empty() {
                continue;
            }
            let (row, names) = context.arrivals(&ARRIVALS);
            let row = row
                .text(names.text(Kind::Event, *event))
                .datetime(start)
                .date(day);
            // Their room goes too: who comes to a minute comes while it lasts, and minutes are kept for long.
            let arrivals = std::mem::take(&mut count.arrivals);
            self.by.write(slice, names, row).u64s(&arrivals);
            context.rows.leave_users(arrivals.len());
        }
    }
}
