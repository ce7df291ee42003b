//! Stickiness: of the users of a week or month, how many were active on one day of it, on two, on three.

use cambium_engine::{
    Calendar, Chosen, Compiler, Context, DefinitionError, Input, Matcher, Period, Processor, Renames,
    Replaced, Table, Tally,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// `[[stickiness]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The `[[unique]]` whose events make a user active.
    #[serde(default = "active")]
    pub of: String,
    /// Left out: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Range>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    Week,
    Month,
}

fn active() -> String {
    "active".to_owned()
}

/// How many users were active on so many days of a week or month.
pub static STICKINESS: Table = Table {
    name: "stickiness_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("grain", "LowCardinality(String)"),
        ("day", "Date"),
        ("active", "UInt8"),
        ("users", "UInt64"),
    ],
};

/// On which days of a month a user was active: bit d - 1 is day d.
pub static ACTIVE_DAYS: Table = Table {
    name: "active_day_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("user", "UInt64"),
        ("month", "Date"),
        ("days", "UInt32"),
    ],
};

/// The months of which a day can still be in a week that is not over, and the user's days in them.
#[derive(Default, Serialize, Deserialize)]
pub struct Days(SmallVec<[(i32, u32); 2]>);

impl Days {
    fn of(&self, month: i32) -> u32 {
        let known = self.0.iter().find(|(number, _)| *number == month);
        known.map_or(0, |(_, days)| *days)
    }

    /// The month's days with this one.
    fn add(&mut self, month: i32, bit: u32) -> u32 {
        let at = self.0.partition_point(|(number, _)| *number < month);
        if self.0.get(at).is_none_or(|(number, _)| *number != month) {
            self.0.insert(at, (month, 0));
        }
        self.0[at].1 |= bit;
        self.0[at].1
    }
}

/// By number, on how many days of each.
type Ranges = SmallVec<[(i32, u8); 4]>;

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    weeks: Tally<u8>,
    months: Tally<u8>,
}

pub struct Stickiness {
    matcher: Chosen,
    weeks: Calendar,
    months: Calendar,
    per: Option<Range>,
}

impl Processor for Stickiness {
    const KIND: &'static str = "stickiness";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = Days;
    type State = State;

    fn rests_on(definition: &Definition) -> Option<(&'static str, &str)> {
        Some(("unique", &definition.of))
    }

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        Ok(Stickiness {
            matcher: Matcher::of_other("unique", &definition.of, compiler)?.into(),
            weeks: compiler.calendar(Period::Week)?,
            months: compiler.calendar(Period::Month)?,
            per: definition.per,
        })
    }

    fn apply(&self, state: &mut State, days: &mut Days, input: &Input<'_>, context: &mut Context<'_>) {
        if !self.matcher.fits(input) {
            return;
        }
        let day = self.months.zone().day(input.time).number;
        let month = self.months.number_of_day(day);
        let first_day = self.months.first_day(month);
        let bit = 1 << (day - first_day);
        if days.of(month) & bit != 0 {
            return;
        }
        let active = days.add(month, bit);
        let (row, _) = context.versioned_behind(&ACTIVE_DAYS, false);
        row.u64(input.user).date(first_day).u32(active);
        if self.per != Some(Range::Week) {
            move_up(&mut state.months, month, active.count_ones() as u8);
        }
        if self.per != Some(Range::Month) {
            let week = self.weeks.number_of_day(day);
            move_up(&mut state.weeks, week, self.days_of_week(days, week));
        }
        self.forget_settled(days, context.cutoff());
    }

    fn replace(
        &self,
        state: &mut State,
        before: Days,
        days: &mut Days,
        replaced: &Replaced<'_>,
        context: &mut Context<'_>,
    ) {
        for (month, was) in &before.0 {
            let active = days.of(*month);
            if active != *was {
                let (row, _) = context.versioned_behind(&ACTIVE_DAYS, active == 0);
                row.u64(replaced.user)
                    .date(self.months.first_day(*month))
                    .u32(active);
            }
        }
        let [(weeks, months), (weeks_now, months_now)] = [&before, days].map(|days| self.counted(days));
        state.weeks.move_user(&weeks, &weeks_now);
        state.months.move_user(&months, &months_now);
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        for (tally, calendar) in self.tallies(state) {
            tally.flush(context, |number, active, users, context| {
                put(calendar, number, *active, users, context)
            });
        }
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        for (tally, calendar) in self.tallies(state) {
            tally.forget(
                context,
                |number| calendar.end(number),
                |number, active, users, context| put(calendar, number, *active, users, context),
            );
        }
    }

    fn rest(&self, _: u64, days: &mut Days, context: &mut Context<'_>) {
        self.forget_settled(days, context.cutoff());
    }

    fn rename(&self, _: &mut State, _: &Renames) {}

    fn rename_user(&self, _: &mut Days, _: &Renames) {}

    /// A month's row is written whole: its days are known until it is over.
    fn remember(&self, mut days: Days, cutoff: i64) -> Option<Days> {
        self.forget_settled(&mut days, cutoff);
        (!days.0.is_empty()).then_some(days)
    }
}

impl Stickiness {
    fn tallies<'s>(&'s self, state: &'s mut State) -> [(&'s mut Tally<u8>, &'s Calendar); 2] {
        [(&mut state.weeks, &self.weeks), (&mut state.months, &self.months)]
    }

    /// The weeks and the months that a user is counted in, each with the number of days.
    fn counted(&self, days: &Days) -> (Ranges, Ranges) {
        let (mut weeks, mut months) = (Ranges::new(), Ranges::new());
        for (month, active) in &days.0 {
            if self.per != Some(Range::Week) {
                months.push((*month, active.count_ones() as u8));
            }
            let first_day = self.months.first_day(*month);
            let active = (0..32).filter(|day| active >> day & 1 == 1);
            let of_days = active.map(|day| self.weeks.number_of_day(first_day + day));
            for week in of_days.filter(|_| self.per != Some(Range::Month)) {
                if weeks.iter().all(|(known, _)| *known != week) {
                    weeks.push((week, self.days_of_week(days, week)));
                }
            }
        }
        (weeks, months)
    }

    /// On how many days of a week the user was active.
    fn days_of_week(&self, days: &Days, week: i32) -> u8 {
        let first = self.weeks.first_day(week);
        let is_active = |day: &i32| {
            let month = self.months.number_of_day(*day);
            days.of(month) >> (day - self.months.first_day(month)) & 1 == 1
        };
        (first..first + 7).filter(is_active).count() as u8
    }

    /// No event can come for a month that is over, nor for the week that it ends in.
    fn forget_settled(&self, days: &mut Days, cutoff: i64) {
        let last_week = |month: i32| self.weeks.number_of_day(self.months.first_day(month + 1) - 1);
        let is_over = |month: i32| self.weeks.end(last_week(month)).max(self.months.end(month)) <= cutoff;
        while days.0.first().is_some_and(|(month, _)| is_over(*month)) {
            days.0.remove(0);
        }
    }
}

/// A user was active on one day more.
fn move_up(users: &mut Tally<u8>, range: i32, active: u8) {
    if active > 1 {
        users.leave(range, active - 1);
    }
    users.enter(range, active);
}

fn put(calendar: &Calendar, number: i32, active: u8, users: u64, context: &mut Context<'_>) {
    let (row, _) = context.versioned(&STICKINESS, users == 0);
    let row = row
        .text(calendar.period().name())
        .date(calendar.first_day(number));
    row.u8(active).u64(users);
}
