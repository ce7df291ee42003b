//! Periods of the local calendar, by their first days.

use jiff::ToSpan;
use jiff::civil::{Date, date};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Day,
    /// Begins on a day of the week, Monday being 1.
    Week(i8),
    Month,
}

impl Period {
    /// The first day of the period in which a day lies; days count from 1970-01-01.
    pub fn first_day(self, day: i32) -> i32 {
        let local = date_of(day);
        let first = match self {
            Period::Day => local,
            Period::Week(start) => {
                let mut first = local;
                while first.weekday().to_monday_one_offset() != start {
                    first = first.yesterday().unwrap();
                }
                first
            }
            Period::Month => local.first_of_month(),
        };
        number_of(first)
    }

    /// The first day of the next period.
    pub fn next(self, first_day: i32) -> i32 {
        let first = date_of(first_day);
        let next = match self {
            Period::Day => first.checked_add(1.day()),
            Period::Week(_) => first.checked_add(7.days()),
            Period::Month => first.checked_add(1.month()),
        };
        number_of(next.unwrap())
    }

    /// How many periods a later one is behind an earlier one.
    pub fn between(self, first_day: i32, later: i32) -> i32 {
        let (mut at, mut count) = (first_day, 0);
        while at < later {
            at = self.next(at);
            count += 1;
        }
        count
    }
}

fn date_of(day: i32) -> Date {
    date(1970, 1, 1).checked_add(day.days()).unwrap()
}

fn number_of(date: Date) -> i32 {
    (date - jiff::civil::date(1970, 1, 1)).get_days()
}
