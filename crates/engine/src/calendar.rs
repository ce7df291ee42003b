//! Periods of the local calendar: days, weeks and months, numbered without gaps.

use std::cell::Cell;

use jiff::ToSpan;
use jiff::civil::{Date, date};
use serde::{Deserialize, Serialize};

use crate::{WeekStart, Zone};

/// How long a period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    Day,
    Week,
    Month,
}

impl Period {
    /// The grain, as views have it.
    pub fn name(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Week => "week",
            Period::Month => "month",
        }
    }
}

/// The periods of one length in an app's zone. Each has a number, one more than the one before.
#[derive(Debug)]
pub struct Calendar {
    zone: Zone,
    period: Period,
    week_start: WeekStart,
    /// The month asked for last: its number, its first day and the first of the next.
    month: Cell<(i32, i32, i32)>,
}

impl Calendar {
    pub fn new(zone: Zone, period: Period, week_start: WeekStart) -> Calendar {
        Calendar {
            zone,
            period,
            week_start,
            month: Cell::default(),
        }
    }

    pub fn period(&self) -> Period {
        self.period
    }

    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The number of the period in which an instant lies.
    pub fn number(&self, time: i64) -> i32 {
        self.number_of_day(self.zone.day(time).number)
    }

    /// The number of the period of a local day; days count from 1970-01-01.
    pub fn number_of_day(&self, day: i32) -> i32 {
        match self.period {
            Period::Day => day,
            Period::Week => (day - self.first_week()).div_euclid(7),
            Period::Month => {
                let (number, first, next) = self.month.get();
                if (first..next).contains(&day) {
                    return number;
                }
                let local = civil(day);
                let number = i32::from(local.year()) * 12 + i32::from(local.month()) - 1;
                self.month
                    .set((number, self.first_day(number), self.first_day(number + 1)));
                number
            }
        }
    }

    /// The first local day of a period.
    pub fn first_day(&self, number: i32) -> i32 {
        match self.period {
            Period::Day => number,
            Period::Week => number * 7 + self.first_week(),
            Period::Month => {
                let (year, month) = (number.div_euclid(12), number.rem_euclid(12) + 1);
                let first = Date::new(year as i16, month as i8, 1);
                first.map_or(0, days_since_1970)
            }
        }
    }

    /// The instant at which a period begins.
    pub fn start(&self, number: i32) -> i64 {
        self.zone.start_of(self.first_day(number))
    }

    /// The instant at which it is over, and the next begins.
    pub fn end(&self, number: i32) -> i64 {
        self.start(number + 1)
    }

    /// The first day of the week that holds 1970-01-01, a Thursday, or of one near it.
    fn first_week(&self) -> i32 {
        self.week_start as i32 - WeekStart::Thursday as i32
    }
}

/// The date of a day.
pub(crate) fn civil(day: i32) -> Date {
    let epoch = date(1970, 1, 1);
    epoch.checked_add(day.days()).unwrap_or(epoch)
}

fn days_since_1970(date: Date) -> i32 {
    (date - jiff::civil::date(1970, 1, 1)).get_days()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(zone: &str, period: Period, week_start: WeekStart) -> Calendar {
        Calendar::new(Zone::new(zone).unwrap(), period, week_start)
    }

    fn ms(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn weeks_begin_on_the_day_that_is_asked_for() {
        // 2024-03-10 is a Sunday.
        for (week_start, first) in [
            (WeekStart::Monday, date(2024, 3, 4)),
            (WeekStart::Sunday, date(2024, 3, 10)),
            (WeekStart::Saturday, date(2024, 3, 9)),
            (WeekStart::Thursday, date(2024, 3, 7)),
        ] {
            let weeks = calendar("UTC", Period::Week, week_start);
            let number = weeks.number(ms("2024-03-10T12:00:00Z"));
            assert_eq!(weeks.first_day(number), days_since_1970(first));
            assert_eq!(weeks.number_of_day(weeks.first_day(number)), number);
            assert_eq!(weeks.number_of_day(weeks.first_day(number) - 1), number - 1);
        }
    }

    #[test]
    fn months_and_days_are_the_zones_own() {
        let months = calendar("America/New_York", Period::Month, WeekStart::Monday);
        let number = months.number(ms("2024-03-01T04:59:59.999Z"));
        assert_eq!(months.number(ms("2024-03-01T05:00:00Z")), number + 1);
        assert_eq!(months.start(number + 1), ms("2024-03-01T05:00:00Z"));
        assert_eq!(months.end(number + 1), ms("2024-04-01T04:00:00Z"));
        let days = calendar("America/New_York", Period::Day, WeekStart::Monday);
        let day = days.number(ms("2024-03-10T12:00:00Z"));
        assert_eq!(days.end(day) - days.start(day), 23 * crate::HOUR_MS);
        for number in [-30, 0, 1, 11, 12, 600, 1500] {
            let months = calendar("UTC", Period::Month, WeekStart::Monday);
            let number = 1970 * 12 + number;
            assert_eq!(months.number_of_day(months.first_day(number)), number);
            assert_eq!(months.number_of_day(months.first_day(number) - 1), number - 1);
        }
    }
}
