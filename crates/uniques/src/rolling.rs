//! Windows that roll: users by the slice of time of their newest event.

use std::collections::VecDeque;

use cambium_engine::{By, Context, MINUTE_MS, Map, Renames, Slice, Table, Zone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::seconds;

pub static ROLLING: Table = Table {
    name: "rolling_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("slices", "LowCardinality(String)"),
        ("dimension", "LowCardinality(String)"),
        ("value", "String"),
        ("slice", "Int64"),
        ("at", "DateTime('UTC')"),
        ("turns", "Array(DateTime('UTC'))"),
        ("users", "Array(UInt64)"),
    ],
};

/// A way to part time into slices.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Minute,
    Quarter,
    Day,
}

const FAMILIES: [Family; 3] = [Family::Minute, Family::Quarter, Family::Day];

const QUARTER_MS: i64 = 15 * MINUTE_MS;

impl Family {
    fn name(self) -> &'static str {
        match self {
            Family::Minute => "minute",
            Family::Quarter => "quarter",
            Family::Day => "day",
        }
    }

    /// How many slices a window may span.
    fn slices(self) -> usize {
        match self {
            Family::Minute => 60,
            Family::Quarter => 96,
            Family::Day => 30,
        }
    }

    /// The number of the slice of a time, and the instant at which it begins.
    fn slice(self, zone: &Zone, time: i64) -> (i64, i64) {
        match self {
            Family::Minute => (time.div_euclid(MINUTE_MS), zone.minute(time)),
            Family::Quarter => {
                let slice = time.div_euclid(QUARTER_MS);
                (slice, slice * QUARTER_MS)
            }
            Family::Day => {
                let day = zone.day(time);
                (i64::from(day.number), day.start)
            }
        }
    }
}

/// A total, or one value of one part of `by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Key {
    /// The place in `by`, from 1; 0 is the total.
    part: u8,
    value: u32,
}

/// When a user's newest event was, in all and for each value: in seconds since 1970, because slices begin with one.
#[derive(Clone, Debug, Default)]
pub struct Newest(SmallVec<[(Key, u32); 3]>);

impl Serialize for Newest {
    /// Each time as what it lies behind the one in front: nearly always they are one event's.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut last = 0;
        serializer.collect_seq(self.0.iter().map(|(key, second)| {
            let behind = i64::from(*second) - std::mem::replace(&mut last, i64::from(*second));
            (key, behind)
        }))
    }
}

impl<'de> Deserialize<'de> for Newest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut saved = SmallVec::<[(Key, i64); 3]>::deserialize(deserializer)?;
        let mut last = 0;
        let newest = saved.drain(..).map(|(key, behind)| {
            last += behind;
            (key, last as u32)
        });
        Ok(Newest(newest.collect()))
    }
}

impl Newest {
    /// What lies behind the longest window.
    pub fn forget(&mut self, watermark: i64) {
        let horizon = seconds(watermark - 31 * cambium_engine::DAY_MS);
        self.0.retain(|(_, second)| *second >= horizon);
    }
}

/// How many users have their newest event in which slice: newest slice first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Ages {
    /// The slice of the first item, and the instant at which it began.
    newest: i64,
    at: i64,
    users: VecDeque<u64>,
    #[serde(skip)]
    changed: bool,
}

impl Ages {
    /// Makes `slice` the newest.
    fn turn(&mut self, (slice, at): (i64, i64), slices: usize) {
        if slice <= self.newest {
            return;
        }
        self.at = at;
        for _ in 0..(slice - self.newest).clamp(0, slices as i64) {
            self.users.push_front(0);
        }
        self.newest = slice;
        self.users.truncate(slices);
        while self.users.back() == Some(&0) {
            self.users.pop_back();
        }
    }

    fn add(&mut self, slice: i64, slices: usize) {
        let age = (self.newest - slice) as usize;
        if age < slices {
            if self.users.len() <= age {
                self.users.resize(age + 1, 0);
            }
            self.users[age] += 1;
            self.changed = true;
        }
    }

    fn remove(&mut self, slice: i64) {
        if let Some(users) = self.users.get_mut((self.newest - slice) as usize) {
            *users -= 1;
            self.changed = true;
        }
    }
}

/// The windows of one metric on one partition.
#[derive(Default, Serialize, Deserialize)]
pub struct Rolling {
    ages: [Map<Key, Ages>; 3],
}

impl Key {
    fn rename(&mut self, by: &By, renames: &Renames) {
        let part = usize::from(self.part).checked_sub(1);
        if let Some(kind) = part.and_then(|part| by.kind(part)) {
            self.value = renames.number(kind, self.value);
        }
    }
}

impl Newest {
    pub fn rename(&mut self, by: &By, renames: &Renames) {
        self.0.iter_mut().for_each(|(key, _)| key.rename(by, renames));
    }
}

impl Rolling {
    pub fn rename(&mut self, by: &By, renames: &Renames) {
        for ages in &mut self.ages {
            let renamed = ages.drain().map(|(mut key, ages)| {
                key.rename(by, renames);
                (key, ages)
            });
            let renamed: Vec<_> = renamed.collect();
            ages.extend(renamed);
        }
    }

    /// Counts an event of a user: where it is their newest, they move to its slice.
    pub fn count(&mut self, zone: &Zone, newest: &mut Newest, slice: &Slice, time: i64, watermark: i64) {
        let total = Key { part: 0, value: 0 };
        let parts = slice
            .0
            .iter()
            .zip(1..)
            .map(|(value, part)| Key { part, value: *value });
        let second = seconds(time);
        for key in std::iter::once(total).chain(parts) {
            let before = newest.0.iter_mut().find(|(known, _)| *known == key);
            let old = before.as_ref().map(|(_, second)| *second);
            if old.is_some_and(|old| old >= second) {
                continue;
            }
            match before {
                Some((_, known)) => *known = second,
                None => {
                    newest.forget(watermark);
                    newest.0.push((key, second));
                }
            }
            self.move_user(zone, key, old.map(|old| i64::from(old) * 1000), time, watermark);
        }
    }

    /// From the slices of their newest event before to those of the new one.
    fn move_user(&mut self, zone: &Zone, key: Key, old: Option<i64>, time: i64, watermark: i64) {
        let same_minute = old.is_some_and(|old| old.div_euclid(MINUTE_MS) == time.div_euclid(MINUTE_MS));
        for (family, ages) in FAMILIES.iter().zip(&mut self.ages) {
            // Only where a day begins is of the zone's own making.
            if same_minute && *family != Family::Day {
                continue;
            }
            let (to, _) = family.slice(zone, time);
            let from = old.map(|old| family.slice(zone, old).0);
            if from == Some(to) {
                continue;
            }
            let running = family.slice(zone, watermark);
            let ages = ages.entry(key).or_default();
            ages.turn(running, family.slices());
            if let Some(from) = from {
                ages.remove(from);
            }
            ages.add(to, family.slices());
        }
    }

    /// A user whose newest events were these has those instead, which are no newer.
    pub fn replace(&mut self, zone: &Zone, before: &Newest, newest: &Newest, watermark: i64) {
        for (key, old) in &before.0 {
            let known = newest.0.iter().find(|(other, _)| other == key);
            let new = known.map(|(_, second)| *second);
            if new == Some(*old) {
                continue;
            }
            for (family, ages) in FAMILIES.iter().zip(&mut self.ages) {
                let slice = |second: u32| family.slice(zone, i64::from(second) * 1000).0;
                let ages = ages.entry(*key).or_default();
                ages.turn(family.slice(zone, watermark), family.slices());
                ages.remove(slice(*old));
                if let Some(new) = new {
                    ages.add(slice(new), family.slices());
                }
            }
        }
    }

    /// Leaves the rows of running slices that changed.
    pub fn flush(&mut self, zone: &Zone, by: &By, context: &mut Context<'_>) {
        for (family, all) in FAMILIES.iter().zip(&mut self.ages) {
            let mut changed: Vec<Key> = all
                .iter()
                .filter(|(_, ages)| ages.changed)
                .map(|(key, _)| *key)
                .collect();
            changed.sort_unstable();
            for key in changed {
                if let Some(ages) = all.get_mut(&key) {
                    ages.changed = false;
                    put(*family, key, ages, zone, by, context);
                }
            }
        }
    }

    /// A slice that is over leaves its row as it was at its end; values nobody had for longer than
    /// every window are forgotten.
    pub fn advance(&mut self, zone: &Zone, by: &By, context: &mut Context<'_>) {
        let is_over = FAMILIES.iter().zip(&self.ages).any(|(family, all)| {
            let (running, _) = family.slice(zone, context.watermark);
            all.values().any(|ages| ages.changed && ages.newest < running)
        });
        if is_over {
            self.flush(zone, by, context);
        }
        for (family, all) in FAMILIES.iter().zip(&mut self.ages) {
            let (running, _) = family.slice(zone, context.watermark);
            all.retain(|_, ages| running - ages.newest < family.slices() as i64);
        }
    }
}

fn put(family: Family, key: Key, ages: &Ages, zone: &Zone, by: &By, context: &mut Context<'_>) {
    let (row, names) = context.versioned(&ROLLING, false);
    let (dimension, value) = match key.part {
        0 => ("", ""),
        part => match by.value(usize::from(part) - 1, key.value, names) {
            Some(named) => named,
            None => (by.name(usize::from(part) - 1), ""),
        },
    };
    row.text(family.name())
        .text(dimension)
        .text(value)
        .i64(ages.newest)
        .datetime(ages.at)
        .datetimes(turns(family, zone, ages.at))
        .u64s(&ages.users);
}

/// When the local days behind the one that begins at `at` begin: a view cannot know, because
/// ClickHouse works in one zone at a time. Of the other slices it can.
fn turns(family: Family, zone: &Zone, at: i64) -> Vec<i64> {
    if family != Family::Day {
        return Vec::new();
    }
    std::iter::successors(Some(zone.day(at).end), |start| Some(zone.day(*start).end))
        .take(family.slices())
        .collect()
}
