//! Points, levels and badges, as random definitions count them, against the naive truth.

use std::collections::BTreeMap;

use cambium_simulate::membership::{Account, Ladder, Offer, Points, Rule, Wanted, badges, levels, points};
use cambium_simulate::{Event, Truth};
use fastrand::Rng;

use super::check::names;
use super::model::{Model, Row, Value, number, text};
use super::people::{Names, rows_of};

#[derive(Clone, Debug)]
pub struct Members {
    cap: Option<u64>,
    expiry_days: Option<i32>,
    spends_more: bool,
    ladders: [Rungs; 2],
    lasts_days: Option<i32>,
    badges: [Wanted; 3],
}

/// What a random level says.
#[derive(Clone, Debug)]
struct Rungs {
    is_balance: bool,
    window_days: Option<i32>,
    silver: i64,
    protection_days: i32,
    /// Above the silver level, or below.
    is_paid_higher: bool,
}

fn price(event: &Event) -> f64 {
    event.properties["price"].as_f64().unwrap_or(0.0)
}

impl Members {
    /// With its part of the configuration.
    pub fn new(random: &mut Rng) -> (String, Members) {
        let mut rungs = |is_balance| Rungs {
            is_balance,
            window_days: (!is_balance && random.bool()).then(|| random.i32(1..5)),
            silver: random.i64(1..30),
            protection_days: random.i32(0..4),
            is_paid_higher: random.bool(),
        };
        let members = Members {
            ladders: [rungs(false), rungs(true)],
            cap: random.bool().then(|| random.u64(1..8)),
            expiry_days: random.bool().then(|| random.i32(1..4)),
            spends_more: random.bool(),
            lasts_days: random.bool().then(|| random.i32(1..4)),
            badges: [
                Wanted::Events(random.usize(1..6)),
                Wanted::DaysInARow(random.usize(1..4)),
                Wanted::Sum([2.5, 7.0, 12.5][random.usize(..3)], price),
            ],
        };
        (members.text(), members)
    }

    fn text(&self) -> String {
        let days =
            |key, days: Option<i32>| days.map_or(String::new(), |days| format!("{key} = \"{days} days\"\n"));
        let cap = self
            .cap
            .map_or(String::new(), |cap| format!(", daily_cap = {cap}"));
        let mut text = format!(
            "[[points]]\nname = \"p\"\nearn = [{{ event = \"a\", points = 3{cap} }}, \
             {{ event = \"b\", points = \"price\", multiplier = 2 }}, \
             {{ event = \"*\", where = \"event == 'c' and price >= 2.5\", points = 4, name = \"rich\" }}]\n\
             spend = [{{ event = [\"x\", \"h\"], points = \"price\", multiplier = {} }}]\n",
            if self.spends_more { 9 } else { 1 }
        );
        text += &days("expiry", self.expiry_days);
        for (place, rungs) in self.ladders.iter().enumerate() {
            let thresholds = [
                format!(
                    "{{ name = \"silver\", at = {} }}, {{ name = \"gold\", at = {} }}",
                    rungs.silver,
                    rungs.silver + 6
                ),
                "{ name = \"paid\" }".to_owned(),
            ];
            let [low, high] = match rungs.is_paid_higher {
                true => &thresholds,
                false => &[thresholds[1].clone(), thresholds[0].clone()],
            };
            text += &format!(
                "[[level]]\nname = \"v{place}\"\nof = \"p\"\nlevels = [{low}, {high}]\n{}{}",
                if rungs.is_balance {
                    "value = \"balance\"\n"
                } else {
                    ""
                },
                days("window", rungs.window_days),
            );
            text += &days("protection", Some(rungs.protection_days).filter(|days| *days > 0));
            let lasts = self
                .lasts_days
                .map_or(String::new(), |days| format!(", lasts = \"{days} days\""));
            text += &format!("paid = [{{ level = \"paid\", start = \"h\", end = \"c\"{lasts} }}]\n");
        }
        text += "[[level]]\nname = \"club\"\nlevels = [{ name = \"member\" }]\npaid = [{ level = \"member\", start = \"x\", lasts = \"2 days\" }]\n";
        for (place, wanted) in self.badges.iter().enumerate() {
            text += &format!("[[badge]]\nname = \"d{place}\"\n");
            text += &match wanted {
                Wanted::Events(count) => format!("event = \"a\"\ncount = {count}\n"),
                Wanted::DaysInARow(days) => format!("event = [\"a\", \"b\"]\nstreak = {days}\n"),
                Wanted::Sum(sum, _) => {
                    format!("event = \"b\"\nwhere = \"price >= 2\"\nsum = {sum:?}\nproperty = \"price\"\n")
                }
            };
        }
        text
    }

    fn rules(&self) -> Vec<Rule> {
        vec![
            Rule {
                name: "a",
                points: |event| if event.event == "a" { 3 } else { 0 },
                daily_cap: self.cap,
                is_spent: false,
            },
            Rule {
                name: "b",
                points: |event| {
                    if event.event == "b" {
                        (price(event) * 2.0) as u64
                    } else {
                        0
                    }
                },
                daily_cap: None,
                is_spent: false,
            },
            Rule {
                name: "rich",
                points: |event| {
                    if event.event == "c" && price(event) >= 2.5 {
                        4
                    } else {
                        0
                    }
                },
                daily_cap: None,
                is_spent: false,
            },
            Rule {
                name: "x, h",
                points: match self.spends_more {
                    true => |event| {
                        if is_spent(event) {
                            (price(event) * 9.0) as u64
                        } else {
                            0
                        }
                    },
                    false => |event| if is_spent(event) { price(event) as u64 } else { 0 },
                },
                daily_cap: None,
                is_spent: true,
            },
        ]
    }

    pub fn check(&self, truth: &Truth, model: &Model, forgotten: Option<u64>) {
        let names = names(model);
        self.check_points(truth, model, &names, forgotten);
        let all = self.rules();
        let earned = &all[..3];
        for (place, rungs) in self.ladders.iter().enumerate() {
            let mut thresholds = vec![Some(rungs.silver), Some(rungs.silver + 6)];
            thresholds.insert(if rungs.is_paid_higher { 2 } else { 0 }, None);
            let ladder = Ladder {
                rules: if rungs.is_balance { &all } else { earned },
                days: if rungs.is_balance {
                    self.expiry_days
                } else {
                    rungs.window_days
                },
                thresholds,
                protection_days: rungs.protection_days,
                offers: vec![Offer {
                    rank: if rungs.is_paid_higher { 3 } else { 1 },
                    start: "h",
                    end: "c",
                    days: self.lasts_days,
                }],
            };
            self.check_levels(truth, model, &names, (&format!("v{place}"), &ladder), forgotten);
        }
        let club = Ladder {
            rules: &[],
            days: None,
            thresholds: vec![None],
            protection_days: 0,
            offers: vec![Offer {
                rank: 1,
                start: "x",
                end: "",
                days: Some(2),
            }],
        };
        self.check_levels(truth, model, &names, ("club", &club), forgotten);
        let are_meant: [fn(&Event) -> bool; 3] = [
            |event| event.event == "a",
            |event| event.event == "a" || event.event == "b",
            |event| event.event == "b" && price(event) >= 2.0,
        ];
        for (place, wanted) in self.badges.iter().enumerate() {
            let expected = badges(truth, *wanted, are_meant[place]);
            self.check_badges(model, &names, (&format!("d{place}"), expected), forgotten);
        }
    }

    fn check_points(&self, truth: &Truth, model: &Model, names: &Names, forgotten: Option<u64>) {
        let mut expected = points(truth, &self.rules(), self.expiry_days);
        expected.users.retain(|(_, user), _| Some(*user) != forgotten);
        let mut found = Points::default();
        for row in rows_of(model, names, "point_rows", "p") {
            let one_of = |column, words: [&'static str; 4]| {
                let found = text(row, column);
                *words.iter().find(|word| **word == found).unwrap()
            };
            let key = (
                text(row, "app"),
                number(row, "day") as i32,
                one_of("kind", ["earned", "spent", "expired", "expired"]),
                match text(row, "rule").as_str() {
                    "" => "",
                    _ => one_of("rule", ["a", "b", "rich", "x, h"]),
                },
            );
            let sums = found.days.entry(key).or_default();
            match text(row, "measure").as_str() {
                "points" => sums.0 += number(row, "amount") as u64,
                _ => sums.1 += number(row, "amount") as u64,
            }
        }
        for row in rows_of(model, names, "point_user_rows", "p") {
            let (Value::List(gone), Value::List(going)) = (&row["gone"], &row["going"]) else {
                panic!("gone and going are lists")
            };
            let account = Account {
                earned: number(row, "earned") as u64,
                spent: number(row, "spent") as u64,
                balance: number(row, "balance") as i64,
                going: gone
                    .iter()
                    .zip(going)
                    .map(|(at, left)| (truth.day(*at as i64 * 1000), *left as u64))
                    .collect(),
            };
            let key = (text(row, "app"), number(row, "user") as u64);
            found.users.insert(key, account);
        }
        assert_eq!(found, expected, "{self:?}");
    }

    fn check_levels(
        &self,
        truth: &Truth,
        model: &Model,
        names: &Names,
        (name, ladder): (&str, &Ladder<'_>),
        forgotten: Option<u64>,
    ) {
        let steps = levels(truth, ladder);
        let mut days: BTreeMap<_, u64> = BTreeMap::new();
        for ((app, _, day), step) in &steps {
            *days.entry((app.clone(), *day, *step)).or_default() += 1;
        }
        let step = |row: &Row| (number(row, "from_rank") as u8, number(row, "to_rank") as u8);
        let mut found = BTreeMap::new();
        for row in rows_of(model, names, "level_rows", name) {
            let key = (text(row, "app"), number(row, "day") as i32, step(row));
            *found.entry(key).or_default() += number(row, "users") as u64;
        }
        assert_eq!(found, days, "{name} {self:?}");
        let rows = rows_of(model, names, "level_user_rows", name);
        let found: BTreeMap<_, _> = rows
            .map(|row| {
                let key = (
                    text(row, "app"),
                    number(row, "user") as u64,
                    number(row, "day") as i32,
                );
                (key, step(row))
            })
            .collect();
        let mut expected = steps;
        expected.retain(|(_, user, _), _| Some(*user) != forgotten);
        assert_eq!(found, expected, "{name} {self:?}");
    }

    fn check_badges(
        &self,
        model: &Model,
        names: &Names,
        (name, mut expected): (&str, BTreeMap<(String, u64), i32>),
        forgotten: Option<u64>,
    ) {
        let mut days: BTreeMap<(String, i32), u64> = BTreeMap::new();
        for ((app, _), day) in &expected {
            *days.entry((app.clone(), *day)).or_default() += 1;
        }
        let mut found = BTreeMap::new();
        for row in rows_of(model, names, "badge_rows", name) {
            *found
                .entry((text(row, "app"), number(row, "day") as i32))
                .or_default() += number(row, "users") as u64;
        }
        assert_eq!(found, days, "{name} {self:?}");
        let rows = rows_of(model, names, "badge_user_rows", name);
        let found: BTreeMap<_, _> = rows
            .map(|row| {
                (
                    (text(row, "app"), number(row, "user") as u64),
                    number(row, "day") as i32,
                )
            })
            .collect();
        expected.retain(|(_, user), _| Some(*user) != forgotten);
        assert_eq!(found, expected, "{name} {self:?}");
    }
}

fn is_spent(event: &Event) -> bool {
    event.event == "x" || event.event == "h"
}
