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

use std::collections::BTreeSet;

use cambium_engine::{
    Arrivals, By, Chosen, Compiler, Context, DefinitionError, EventNames, Input, LONGEST_DAY_MS, Matcher,
    Processor, Renames, Replaced, Slice, Table, Zone,
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

pub static ARRIVALS: Table = Table {
    name: "unique_arrivals",
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
        ("users", "Array(UInt64)"),
    ],
};

/// Devices that were active and may still become somebody's: one that does is taken out again.
pub static DEVICES: Table = Table {
    name: "unique_device_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("user", "UInt64"),
        ("grain", "LowCardinality(String)"),
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

/// What a user is remembered to be in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Entered {
    slice: Slice,
    /// The newest minute, hour and day entered with that slice, in seconds since 1970.
    #[serde(with = "since_before")]
    buckets: Option<[u32; 3]>,
    newest: Newest,
}

/// A set of one slice: its grain, by place in `GRAINS`, its bucket in seconds
/// since 1970, and the number of its day.
type Set = (u8, u32, i32, Slice);

const GRAINS: [&str; 3] = ["minute", "hour", "day"];

/// What is kept of all users of a partition.
#[derive(Default, Serialize, Deserialize)]
pub struct State {
    rolling: Rolling,
    #[serde(skip)]
    arrivals: Arrivals<Set>,
}

pub struct Uniques {
    matcher: Chosen,
    by: By,
    zone: Zone,
}

impl Processor for Uniques {
    const KIND: &'static str = "unique";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = Entered;
    type State = State;

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
            matcher: Matcher::new(&definition.event, definition.filter.as_deref(), compiler)?.into(),
            by: By::new(&definition.by, compiler)?,
            zone: compiler.zone()?,
        })
    }

    fn apply(&self, state: &mut State, entered: &mut Entered, input: &Input<'_>, context: &mut Context<'_>) {
        if !self.matcher.fits(input) {
            return;
        }
        let slice = self.by.slice(input, context.names);
        self.enter(entered, &slice, &mut state.arrivals, input, context);
        let (rolling, newest) = (&mut state.rolling, &mut entered.newest);
        rolling.count(&self.zone, newest, &slice, input.time, context.watermark);
    }

    fn replace(
        &self,
        state: &mut State,
        before: Entered,
        entered: &mut Entered,
        replaced: &Replaced<'_>,
        context: &mut Context<'_>,
    ) {
        let mut sets = |inputs: &[Input<'_>]| -> BTreeSet<Set> {
            let fitting = inputs.iter().filter(|input| self.matcher.fits(input));
            let sets = fitting.flat_map(|input| self.sets(input, &self.by.slice(input, context.names)));
            sets.collect()
        };
        let (moved, stays) = (sets(replaced.moved), sets(replaced.stays));
        for set in moved.difference(&stays) {
            self.put_device(set, replaced.user, true, context);
        }
        let (from, to) = (&before.newest, &entered.newest);
        state.rolling.replace(&self.zone, from, to, context.watermark);
    }

    /// No event can come for a bucket that is over, nor do windows reach back for ever. Of what is over, the start of the
    /// longer bucket stands in the place of the shorter one: it takes no room.
    fn rest(&self, _: u64, entered: &mut Entered, context: &mut Context<'_>) {
        let cutoff = context.accepts_from();
        if let Some([minute, hour, day]) = entered.buckets {
            if day < seconds(self.zone.day(cutoff).start) {
                entered.slice = Slice::default();
                entered.buckets = None;
            } else if hour < seconds(self.zone.hour(cutoff)) {
                entered.buckets = Some([day; 3]);
            } else if minute < seconds(self.zone.minute(cutoff)) {
                entered.buckets = Some([hour, hour, day]);
            }
        }
        entered.newest.forget(context.watermark);
    }

    fn rename(&self, state: &mut State, renames: &Renames) {
        state.rolling.rename(&self.by, renames);
    }

    fn rename_user(&self, entered: &mut Entered, renames: &Renames) {
        self.by.rename(&mut entered.slice, renames);
        entered.newest.rename(&self.by, renames);
    }

    fn settled_after_ms(&self) -> i64 {
        LONGEST_DAY_MS
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        state
            .arrivals
            .flush(context, |(grain, bucket, day, slice), users, context| {
                let (row, names) = context.arrivals(&ARRIVALS);
                let row = row.text(GRAINS[usize::from(*grain)]).u32(*bucket).date(*day);
                self.by.write(slice, names, row).u64s(users);
            });
        state.rolling.flush(&self.zone, &self.by, context);
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        state.rolling.advance(&self.zone, &self.by, context);
    }
}

impl Uniques {
    /// The sets that an event enters its user into, in the order of `GRAINS`.
    fn sets(&self, input: &Input<'_>, slice: &Slice) -> [Set; 3] {
        let day = self.zone.day(input.time);
        let [minute, hour] = [self.zone.minute(input.time), self.zone.hour(input.time)];
        let set = |grain, bucket| (grain, seconds(bucket), day.number, slice.clone());
        [set(0, minute), set(1, hour), set(2, day.start)]
    }

    fn put_device(
        &self,
        (grain, bucket, day, slice): &Set,
        device: u64,
        deleted: bool,
        context: &mut Context<'_>,
    ) {
        let (row, names) = context.versioned_behind(&DEVICES, deleted);
        let row = row.u64(device).text(GRAINS[usize::from(*grain)]);
        self.by.write(slice, names, row.u32(*bucket).date(*day));
    }

    fn enter(
        &self,
        entered: &mut Entered,
        slice: &Slice,
        arrivals: &mut Arrivals<Set>,
        input: &Input<'_>,
        context: &mut Context<'_>,
    ) {
        let minute = seconds(self.zone.minute(input.time));
        let known = entered.buckets.filter(|_| entered.slice == *slice);
        if known.is_some_and(|known| known[0] == minute) {
            return;
        }
        let sets = self.sets(input, slice);
        let buckets = [0, 1, 2].map(|place| sets[place].1);
        for (place, set) in sets.into_iter().enumerate() {
            if known.is_none_or(|known| known[place] != buckets[place]) {
                if input.is_guest {
                    self.put_device(&set, input.user, false, context);
                } else {
                    arrivals.add(set, input.user, context.rows);
                }
            }
        }
        // An older bucket is not remembered in the place of a newer one.
        if known.is_none_or(|known| known[0] <= minute) {
            entered.slice = slice.clone();
            entered.buckets = Some(buckets);
        }
    }
}

/// Buckets as they are saved: the day, and how long after each of them the shorter one begins.
mod since_before {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(buckets: &Option<[u32; 3]>, serializer: S) -> Result<S::Ok, S::Error> {
        let since = |[minute, hour, day]: [u32; 3]| [day, hour.wrapping_sub(day), minute.wrapping_sub(hour)];
        buckets.map(since).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u32; 3]>, D::Error> {
        let saved = Option::<[u32; 3]>::deserialize(deserializer)?;
        Ok(saved.map(|[day, to_hour, to_minute]| {
            let hour = day.wrapping_add(to_hour);
            [hour.wrapping_add(to_minute), hour, day]
        }))
    }
}

/// Whole seconds since 1970. Buckets begin with one; in a zone ahead of UTC the first of them lies before 1970.
fn seconds(ms: i64) -> u32 {
    ms.div_euclid(1000).clamp(0, i64::from(u32::MAX)) as u32
}
