//! Event time: durations as people write them, and the minute, hour and day of an instant in a zone.

use std::cell::RefCell;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
pub const DAY_MS: i64 = 24 * HOUR_MS;
/// A local day on which the clock goes back, by the two hours that it does at most.
pub const LONGEST_DAY_MS: i64 = 26 * HOUR_MS;

/// The day on which weeks begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeekStart {
    #[default]
    Monday = 1,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

/// A duration as people write it (`90 s`, `1.5 h`, `1 week`, `24h`, `1 h 30 min`), in milliseconds.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    let mut rest = text.trim();
    let mut sum: i64 = 0;
    loop {
        let number = end_of(rest, |c| c.is_ascii_digit() || c == '.');
        let unit = number + end_of(&rest[number..], |c| !c.is_ascii_digit());
        let part = part_ms(text, &rest[..number], rest[number..unit].trim())?;
        sum = sum.saturating_add(part);
        rest = &rest[unit..];
        if rest.is_empty() {
            break;
        }
    }
    if sum > 400 * 365 * DAY_MS {
        return Err(format!("'{text}' is longer than 400 years"));
    }
    Ok(sum)
}

fn end_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// A number with its unit, of a duration; no longer than a million years.
fn part_ms(text: &str, number: &str, unit: &str) -> Result<i64, String> {
    let unit_ms = match unit {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "second" | "seconds" => 1000,
        "m" | "min" | "minute" | "minutes" => MINUTE_MS,
        "h" | "hour" | "hours" => HOUR_MS,
        "d" | "day" | "days" => DAY_MS,
        "w" | "week" | "weeks" => 7 * DAY_MS,
        _ => {
            return Err(format!(
                "'{text}' is no duration; write it like \"90 s\", \"1.5 h\" or \"1 week\""
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("'{text}' is no duration: no number in front"))?;
    Ok((number * unit_ms as f64).round().min(1e15) as i64)
}

/// A duration in a definition: read as people write it, in milliseconds inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub i64);

impl Serialize for Duration {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} ms", self.0))
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration_ms(&text).map(Duration).map_err(serde::de::Error::custom)
    }
}

/// A local calendar day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// The first instant of the day, in milliseconds since 1970.
    pub start: i64,
    /// The first instant of the next.
    pub end: i64,
    /// Days since 1970-01-01 of the calendar date.
    pub number: i32,
    /// The zone's offset through all of the day; none where it changes within it.
    offset: Option<i64>,
}

/// An app's time zone. The last days asked for are kept: events come in order, nearly.
#[derive(Debug)]
pub struct Zone {
    zone: TimeZone,
    recent: RefCell<[Option<Day>; 4]>,
}

impl Zone {
    pub fn new(name: &str) -> Result<Zone, String> {
        let zone = TimeZone::get(name).map_err(|_| {
            format!("time zone '{name}' is not known; names are like \"Asia/Shanghai\" or \"UTC\"")
        })?;
        Ok(Zone {
            zone,
            recent: RefCell::default(),
        })
    }

    pub fn day(&self, time: i64) -> Day {
        let mut recent = self.recent.borrow_mut();
        if let Some(day) = recent
            .iter()
            .flatten()
            .find(|day| (day.start..day.end).contains(&time))
        {
            return *day;
        }
        let day = self.find_day(time);
        recent.rotate_right(1);
        recent[0] = Some(day);
        day
    }

    /// The instant at which the local hour of `time` begins.
    pub fn hour(&self, time: i64) -> i64 {
        let day = self.day(time);
        let offset = day.offset.unwrap_or_else(|| self.offset_ms(time));
        (time + offset).div_euclid(HOUR_MS) * HOUR_MS - offset
    }

    /// The instant at which the minute of `time` begins.
    pub fn minute(&self, time: i64) -> i64 {
        time.div_euclid(MINUTE_MS) * MINUTE_MS
    }

    /// The instant at which a local day begins; days count from 1970-01-01.
    pub fn start_of(&self, day: i32) -> i64 {
        let known = |known: &&Day| known.number == day;
        if let Some(day) = self.recent.borrow().iter().flatten().find(known) {
            return day.start;
        }
        let date = crate::calendar::civil(day);
        let noon = date.at(12, 0, 0, 0).to_zoned_datetime(self.zone.clone());
        noon.and_then(|noon| noon.start_of_day())
            .map_or(i64::from(day) * DAY_MS, |start| {
                start.timestamp().as_millisecond()
            })
    }

    fn offset_ms(&self, time: i64) -> i64 {
        i64::from(self.zone.to_offset(instant(time)).seconds()) * 1000
    }

    fn find_day(&self, time: i64) -> Day {
        let local = instant(time).to_zoned_datetime(self.zone.clone());
        let start = local
            .start_of_day()
            .map_or(time, |start| start.timestamp().as_millisecond());
        let next = local.tomorrow().and_then(|next| next.start_of_day());
        let end = next.map_or(start + DAY_MS, |end| end.timestamp().as_millisecond());
        let epoch = jiff::civil::date(1970, 1, 1);
        let number = (local.date() - epoch).get_days();
        let first = self.offset_ms(start);
        let offset = (first == self.offset_ms(end - 1)).then_some(first);
        Day {
            start,
            end,
            number,
            offset,
        }
    }
}

fn instant(time: i64) -> Timestamp {
    Timestamp::from_millisecond(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn days_are_the_zones_own() {
        let shanghai = Zone::new("Asia/Shanghai").unwrap();
        let day = shanghai.day(ms("2017-11-24T16:00:00Z"));
        assert_eq!(
            (day.start, day.end),
            (ms("2017-11-24T16:00:00Z"), ms("2017-11-25T16:00:00Z"))
        );
        assert_eq!(day.number, 17495);
        let new_york = Zone::new("America/New_York").unwrap();
        let day = new_york.day(ms("2024-03-10T12:00:00Z"));
        assert_eq!(day.end - day.start, 23 * HOUR_MS);
        assert_eq!(
            new_york.hour(ms("2024-11-03T05:30:00Z")),
            ms("2024-11-03T05:00:00Z")
        );
        assert_eq!(
            new_york.hour(ms("2024-11-03T06:30:00Z")),
            ms("2024-11-03T06:00:00Z")
        );
        // There the clock goes back by half an hour.
        let lord_howe = Zone::new("Australia/Lord_Howe").unwrap();
        assert_eq!(
            lord_howe.hour(ms("2024-04-06T16:10:00Z")),
            ms("2024-04-06T15:30:00Z")
        );
        let kolkata = Zone::new("Asia/Kolkata").unwrap();
        assert_eq!(
            kolkata.hour(ms("2024-01-01T00:10:00Z")),
            ms("2023-12-31T23:30:00Z")
        );
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [
            ("90 s", 90_000),
            ("1.5 h", 5_400_000),
            ("1 week", 604_800_000),
            ("24h", DAY_MS),
        ] {
            assert_eq!(duration_ms(text), Ok(ms));
        }
        assert_eq!(duration_ms("1 h 30 min"), Ok(5_400_000));
        assert_eq!(duration_ms("1h30m0.5s"), Ok(5_400_500));
        assert_eq!(duration_ms("400 w 20000 d"), Ok(22_800 * DAY_MS));
        assert_eq!(duration_ms("146000 d"), Ok(400 * 365 * DAY_MS));
        assert!(duration_ms("146000 d 1 ms").is_err());
        assert!(duration_ms("1 h 30").is_err() && duration_ms("").is_err());
        assert!(duration_ms("soon").is_err());
        assert!(duration_ms("-1 s").is_err());
    }
}
