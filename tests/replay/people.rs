//! The people of a product, as random definitions count them, against the naive truth.

use std::collections::{BTreeMap, BTreeSet};

use cambium_simulate::active::{
    Churn, Limit, Streaks, activation, churn, days, lifecycle, new_users, stickiness, streaks,
};
use cambium_simulate::attribution::attribution;
use cambium_simulate::calendar::Period;
use cambium_simulate::retention::{Cohort, CohortKey, Length, Retention, Start};
use cambium_simulate::{Event, Truth};
use fastrand::Rng;

use super::check::{is_in_bin, is_rich, name_of, names};
use super::members::Members;
use super::model::{Model, Row, Value, number, text};

/// What a case defines beside sessions and funnels.
#[derive(Clone, Debug)]
pub struct People {
    week: Period,
    retention: Vec<Retention>,
    lifecycle: Vec<Lifecycle>,
    /// Of the metric "rich", or of "active".
    sticky_of_rich: bool,
    actions: Vec<Vec<String>>,
    within_ms: i64,
    freezes: i32,
    look_back_ms: i64,
    churn: [Limit; 2],
    members: Members,
}

#[derive(Clone, Debug)]
struct Lifecycle {
    period: Period,
    of_rich: bool,
    by_platform: bool,
}

const HOUR: i64 = 3_600_000;
const LENGTHS: [&str; 4] = ["day", "week", "month", "24 h"];

impl People {
    /// With its part of the configuration.
    pub fn new(random: &mut Rng) -> (String, People) {
        let (name, start) = [("monday", 1), ("sunday", 7), ("thursday", 4)][random.usize(..3)];
        let week = Period::Week(start);
        // Drawn aside, so that the cases of earlier seeds stay what they are.
        let (mut text, members) = Members::new(&mut random.clone());
        let mut people = People {
            week,
            retention: Vec::new(),
            lifecycle: Vec::new(),
            sticky_of_rich: random.bool(),
            actions: vec![vec!["b".to_owned()], vec!["c".to_owned(), "x".to_owned()]],
            within_ms: [1, 30, 100][random.usize(..3)] * HOUR,
            freezes: random.i32(0..4),
            churn: [
                Limit::Days(random.i32(1..5)),
                Limit::TimesUsual([1.0, 1.5, 3.0][random.usize(..3)]),
            ],
            look_back_ms: [2, 40][random.usize(..2)] * HOUR,
            members,
        };
        for number in 0..3 {
            text += &format!("[[retention]]\nname = \"r{number}\"\n");
            let (lines, retention) = retention(random, week);
            text += &lines;
            people.retention.push(retention);
        }
        for number in 0..2 {
            let length = random.usize(..3);
            let one = Lifecycle {
                period: [Period::Day, week, Period::Month][length],
                of_rich: random.u8(..3) == 0,
                by_platform: random.bool(),
            };
            text += &format!(
                "[[lifecycle]]\nname = \"l{number}\"\nperiod = \"{}\"\n",
                LENGTHS[length]
            );
            text += if one.of_rich { "of = \"rich\"\n" } else { "" };
            text += if one.by_platform {
                "by = [\"platform\"]\n"
            } else {
                ""
            };
            people.lifecycle.push(one);
        }
        text += "[[stickiness]]\nname = \"k\"\n";
        text += if people.sticky_of_rich {
            "of = \"rich\"\n"
        } else {
            ""
        };
        text += &format!(
            "[[activation]]\nname = \"n\"\nactions = [\"b\", {{ event = [\"c\", \"x\"] }}]\nwithin = \"{} h\"\nby = [\"platform\"]\n",
            people.within_ms / HOUR
        );
        text += &format!(
            "[[streak]]\nname = \"s\"\nevent = \"a\"\nfreezes = {}\n",
            people.freezes
        );
        for (place, limit) in people.churn.iter().enumerate() {
            text += &format!("[[churn]]\nname = \"c{place}\"\n");
            text += &match limit {
                Limit::Days(days) => format!("after = \"{days} days\"\n"),
                Limit::TimesUsual(times) => format!("times_usual = {times:?}\n"),
            };
        }
        text += "[[acquisition]]\nname = \"q\"\nby = [\"channel\"]\n";
        text += "[[acquisition]]\nname = \"rich\"\nwhere = \"price >= 2.5\"\nby = [\"channel\"]\n";
        text += &format!(
            "[[attribution]]\nname = \"t\"\ngoal = \"x\"\nlook_back = \"{} h\"\n",
            people.look_back_ms / HOUR
        );
        (format!("week_start = \"{name}\"\n|{text}"), people)
    }

    pub fn check(&self, truth: &Truth, model: &Model, forgotten: Option<u64>) {
        let names = names(model);
        for (place, retention) in self.retention.iter().enumerate() {
            check_retention(truth, model, &names, (&format!("r{place}"), retention));
        }
        for (place, lifecycle) in self.lifecycle.iter().enumerate() {
            check_lifecycle(truth, model, &names, (&format!("l{place}"), lifecycle));
        }
        self.check_stickiness(truth, model, &names, forgotten);
        self.check_activation(truth, model, &names);
        self.check_streaks(truth, model, &names);
        check_new_users(truth, model, &names, ("q", &|_| true));
        let is_rich = |event: &Event| {
            event.properties["price"]
                .as_f64()
                .is_some_and(|price| price >= 2.5)
        };
        check_new_users(truth, model, &names, ("rich", &is_rich));
        self.check_attribution(truth, model, &names);
        self.members.check(truth, model, forgotten);
        for (place, limit) in self.churn.iter().enumerate() {
            check_churn(truth, model, &names, (&format!("c{place}"), *limit), forgotten);
        }
    }

    fn check_attribution(&self, truth: &Truth, model: &Model, names: &Names) {
        let expected = attribution(truth, self.look_back_ms, |event| event.event == "x");
        let mut found: BTreeMap<_, [f64; 4]> = BTreeMap::new();
        for row in rows_of(model, names, "attribution_rows", "t") {
            let models = ["first", "last", "linear", "position"];
            let place = models
                .iter()
                .position(|model| *model == text(row, "model"))
                .unwrap();
            let key = (text(row, "app"), number(row, "day") as i32, text(row, "channel"));
            found.entry(key).or_default()[place] += number(row, "credit") as f64 / 1e6;
        }
        assert!(
            found.keys().eq(expected.keys()),
            "{found:?} {expected:?} {self:?}"
        );
        let pairs = found
            .values()
            .zip(expected.values())
            .flat_map(|(found, expected)| found.iter().zip(expected));
        // Shares are whole millionths.
        let are_near = pairs
            .into_iter()
            .all(|(found, expected)| (found - expected).abs() < 1e-3);
        assert!(are_near, "{found:?} {expected:?} {self:?}");
    }

    fn check_activation(&self, truth: &Truth, model: &Model, names: &Names) {
        let platform = |event: &Event| event.dimensions[0].clone();
        let expected = activation(truth, &self.actions, self.within_ms, platform);
        let mut found: BTreeMap<_, (u64, Vec<i128>)> = BTreeMap::new();
        for row in rows_of(model, names, "activation_rows", "n") {
            let key = (text(row, "app"), number(row, "day") as i32, text(row, "platform"));
            let users = found.entry(key).or_default();
            let (bin, count) = (number(row, "bin"), number(row, "users") as u64);
            match bin {
                -1 => users.0 += count,
                bin => users.1.extend((0..count).map(|_| bin)),
            }
        }
        assert!(found.keys().eq(expected.keys()), "{self:?}");
        for (key, (users, bins)) in &mut found {
            let (new, took) = &expected[key];
            bins.sort_unstable();
            assert_eq!((*users, bins.len()), (*new, took.len()), "{key:?} {self:?}");
            let fit = took
                .iter()
                .zip(bins.iter())
                .all(|(took, bin)| is_in_bin(*took, *bin));
            assert!(fit, "{took:?} {bins:?} {self:?}");
        }
    }

    fn check_streaks(&self, truth: &Truth, model: &Model, names: &Names) {
        let expected = streaks(truth, self.freezes, |event| event.event == "a");
        let mut found = Streaks::default();
        for row in rows_of(model, names, "streak_rows", "s") {
            let state = match text(row, "state").as_str() {
                "current" => "current",
                _ => "broken",
            };
            let key = (
                text(row, "app"),
                number(row, "day") as i32,
                state,
                number(row, "length") as u32,
            );
            *found.days.entry(key).or_default() += number(row, "users") as u64;
        }
        for row in rows_of(model, names, "longest_streak_rows", "s") {
            let key = (text(row, "app"), number(row, "length") as u32);
            *found.longest.entry(key).or_default() += number(row, "users") as u64;
        }
        assert_eq!(found, expected, "{self:?}");
    }

    fn check_stickiness(&self, truth: &Truth, model: &Model, names: &Names, forgotten: Option<u64>) {
        let is_meant = |event: &Event| !self.sticky_of_rich || is_rich(event);
        for (grain, period) in [("week", self.week), ("month", Period::Month)] {
            let mut found: BTreeMap<(String, i32, u8), u64> = BTreeMap::new();
            for row in rows_of(model, names, "stickiness_rows", "k") {
                if text(row, "grain") == grain {
                    let key = (
                        text(row, "app"),
                        number(row, "day") as i32,
                        number(row, "active") as u8,
                    );
                    *found.entry(key).or_default() += number(row, "users") as u64;
                }
            }
            assert_eq!(found, stickiness(truth, period, is_meant), "{grain} {self:?}");
        }
        let mut found: BTreeMap<(String, u64), BTreeSet<i32>> = BTreeMap::new();
        for row in rows_of(model, names, "active_day_rows", "k") {
            let (first, bits) = (number(row, "month") as i32, number(row, "days"));
            let days = (0..32).filter(|day| bits >> day & 1 == 1).map(|day| first + day);
            let key = (text(row, "app"), number(row, "user") as u64);
            found.entry(key).or_default().extend(days);
        }
        let mut expected = days(truth, is_meant);
        expected.retain(|(_, user), _| Some(*user) != forgotten);
        assert_eq!(found, expected, "{self:?}");
    }
}

pub type Names = BTreeMap<i128, String>;

pub fn rows_of<'m>(
    model: &'m Model,
    names: &'m Names,
    table: &str,
    name: &'m str,
) -> impl Iterator<Item = &'m Row> {
    let rows = model.rows(table).into_iter();
    rows.filter(move |row| name_of(names, row) == name)
}

fn retention(random: &mut Rng, week: Period) -> (String, Retention) {
    let length = random.usize(..4);
    let periods = random.u16(1..6);
    let mut retention = Retention {
        start: Start::First,
        start_events: Vec::new(),
        return_events: Vec::new(),
        at_least: 1,
        length: match length {
            0 => Length::Calendar(Period::Day),
            1 => Length::Calendar(week),
            2 => Length::Calendar(Period::Month),
            _ => Length::Rolling,
        },
        columns: (0..=periods).map(|period| (period, period)).collect(),
        by_platform: random.bool(),
    };
    let mut text = format!("period = \"{}\"\nperiods = {periods}\n", LENGTHS[length]);
    let event = ["a", "b", "x"][random.usize(..3)];
    match random.u8(..3) {
        0 => {}
        1 => {
            retention.start_events = vec![event.to_owned()];
            text += &format!("start = {{ first = \"{event}\" }}\n");
        }
        _ => {
            retention.start = Start::Each;
            retention.start_events = vec![event.to_owned()];
            text += &format!("start = {{ each = \"{event}\" }}\n");
        }
    }
    match random.u8(..4) {
        0 => {}
        1 => {
            retention.return_events = vec!["b".to_owned()];
            text += "return = \"b\"\n";
        }
        _ => {
            retention.return_events = vec!["a".to_owned(), "c".to_owned()];
            retention.at_least = random.usize(1..4);
            text += &format!(
                "return = {{ event = [\"a\", \"c\"], at_least = {} }}\n",
                retention.at_least
            );
        }
    }
    match random.u8(..3) {
        0 => {}
        1 => {
            retention.columns = (0..=periods).map(|period| (period, periods)).collect();
            text += "kind = \"on_or_after\"\n";
        }
        _ => {
            retention.columns = vec![(0, 0), (1, periods)];
            text += &format!("brackets = [[0, 0], [1, {periods}]]\n");
        }
    }
    text += if retention.by_platform {
        "by = [\"platform\"]\n"
    } else {
        ""
    };
    (text, retention)
}

fn check_retention(truth: &Truth, model: &Model, names: &Names, (name, retention): (&str, &Retention)) {
    let expected = retention.cohorts(truth);
    let counts = expected.iter().map(|(key, cohort): (&CohortKey, &Cohort)| {
        let returned = cohort
            .returned
            .iter()
            .map(|(period, users)| (*period, users.len() as u64));
        (key.clone(), (cohort.users.len() as u64, returned.collect()))
    });
    let expected: BTreeMap<CohortKey, (u64, BTreeMap<u16, u64>)> = counts.collect();
    let mut found: BTreeMap<CohortKey, (u64, BTreeMap<u16, u64>)> = BTreeMap::new();
    let key = |row: &Row| {
        (
            text(row, "app"),
            number(row, "cohort") as i32,
            text(row, "platform"),
        )
    };
    for row in rows_of(model, names, "retention_cohort_rows", name) {
        found.entry(key(row)).or_default().0 += number(row, "users") as u64;
        let Value::List(periods) = &row["periods"] else {
            panic!("periods is no list")
        };
        assert!(
            periods
                .iter()
                .copied()
                .eq(retention.columns.iter().map(|(first, _)| i128::from(*first)))
        );
        let (Value::List(begins), Value::List(ends)) = (&row["begins"], &row["ends"]) else {
            panic!("begins and ends are lists")
        };
        assert!(begins.is_sorted() && begins.iter().zip(ends).all(|(begin, end)| begin < end));
    }
    for row in rows_of(model, names, "retention_return_rows", name) {
        let returned = &mut found.entry(key(row)).or_default().1;
        *returned.entry(number(row, "period") as u16).or_default() += number(row, "users") as u64;
    }
    assert_eq!(found, expected, "{retention:?}");
}

fn check_new_users(
    truth: &Truth,
    model: &Model,
    names: &Names,
    (name, is_meant): (&str, &dyn Fn(&Event) -> bool),
) {
    let mut found = BTreeMap::new();
    for row in rows_of(model, names, "new_user_rows", name) {
        let key = (
            text(row, "app"),
            number(row, "bucket") as i64 * 1000,
            text(row, "channel"),
        );
        *found.entry(key).or_default() += number(row, "users") as u64;
    }
    assert_eq!(found, new_users(truth, is_meant));
}

fn check_churn(
    truth: &Truth,
    model: &Model,
    names: &Names,
    (name, limit): (&str, Limit),
    forgotten: Option<u64>,
) {
    let mut expected = churn(truth, limit, |_| true);
    expected.away.retain(|(_, user), _| Some(*user) != forgotten);
    let mut found = Churn::default();
    for row in rows_of(model, names, "churn_user_rows", name) {
        let key = (text(row, "app"), number(row, "user") as u64);
        let days = (number(row, "last_day") as i32, number(row, "at_risk") as i32);
        found.away.insert(key, days);
    }
    for row in rows_of(model, names, "churn_rows", name) {
        let state = match text(row, "state").as_str() {
            "at_risk" => "at_risk",
            _ => "returned",
        };
        let key = (text(row, "app"), number(row, "day") as i32, state);
        *found.days.entry(key).or_default() += number(row, "users") as u64;
    }
    assert_eq!(found, expected, "{limit:?}");
}

fn check_lifecycle(truth: &Truth, model: &Model, names: &Names, (name, one): (&str, &Lifecycle)) {
    let platform = |event: &Event| {
        let platform = one.by_platform.then(|| event.dimensions[0].clone());
        platform.unwrap_or_default()
    };
    let expected = lifecycle(
        truth,
        one.period,
        |event| !one.of_rich || is_rich(event),
        platform,
    );
    let expected: BTreeMap<(String, i32, String, String), u64> = expected
        .into_iter()
        .map(|((app, day, state, platform), users)| {
            ((app, day, state.to_owned(), platform), users.len() as u64)
        })
        .collect();
    let mut found = BTreeMap::new();
    for row in rows_of(model, names, "lifecycle_rows", name) {
        let key = (
            text(row, "app"),
            number(row, "day") as i32,
            text(row, "state"),
            text(row, "platform"),
        );
        *found.entry(key).or_default() += number(row, "users") as u64;
    }
    assert_eq!(found, expected, "{one:?}");
}
