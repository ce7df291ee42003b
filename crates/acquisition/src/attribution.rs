//! Attribution: which channels led to a goal, by four models side by side.
//!
//! A touch is an event that says where the user came from, unless it goes on with the touch before it. What a late event
//! changes is worked out anew: the events that say so and the goals are kept as long as one may come; before that, touches
//! alone, as far as a goal looks back.

use cambium_engine::{
    Calendar, Chosen, Compiler, Context, DefinitionError, Duration, EventNames, Input, Kind, MINUTE_MS,
    Matcher, Period, Processor, Renames, Replaced, Table, Tally,
};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::channel::Slots;

/// `[[attribution]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    pub goal: EventNames,
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How long before a goal a touch may have begun, the end included.
    #[serde(default = "a_month")]
    pub look_back: Duration,
}

fn a_month() -> Duration {
    Duration(30 * cambium_engine::DAY_MS)
}

/// The credit of each channel for the goals of a day, in millionths of a goal.
pub static ATTRIBUTION: Table = Table {
    name: "attribution_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("day", "Date"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("model", "LowCardinality(String)"),
        ("credit", "UInt64"),
    ],
};

const GOAL: u32 = 1_000_000;
const MODELS: [&str; 4] = ["first", "last", "linear", "position"];
/// Of the first touch and of the last; those between share the rest.
const ENDS: u32 = 400_000;
/// A touch goes on while no longer pause lies between two events that say the same.
const PAUSE_MS: i64 = 30 * MINUTE_MS;

/// An event's place among a user's: its time, and at one instant its place in the log.
type Place = (i64, i64);
/// Before all others.
const FIRST: Place = (i64::MIN, i64::MIN);
/// The numbers of a channel and a campaign.
type Whence = (u32, u32);

/// What is known of a user; none: nothing.
#[derive(Default, Serialize, Deserialize)]
pub struct User(Option<Box<Known>>);

#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// As they were when no event could come before their last any more.
    touches: Vec<Touch>,
    /// Events behind them that say where from, and goals, in their order.
    recent: Vec<(Place, Seen)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Touch {
    begun: Place,
    /// The time of its last event.
    last: i64,
    whence: Whence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Seen {
    whence: Option<Whence>,
    is_goal: bool,
}

/// A channel, a campaign and a model.
type Cell = (Whence, u8);

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    credit: Tally<Cell>,
}

pub struct Attribution {
    goal: Chosen,
    look_back_ms: i64,
    days: Calendar,
    slots: Slots,
}

impl Processor for Attribution {
    const KIND: &'static str = "attribution";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        if definition.look_back.0 <= 0 {
            return Err(DefinitionError::new("look_back: must be longer than nothing"));
        }
        Ok(Attribution {
            goal: Matcher::new(&definition.goal, definition.filter.as_deref(), compiler)?.into(),
            look_back_ms: definition.look_back.0,
            days: compiler.calendar(Period::Day)?,
            slots: Slots {
                medium: compiler.property_slot("properties.utm_medium")?,
                source: compiler.property_slot("properties.utm_source")?,
                campaign: compiler.property_slot("properties.utm_campaign")?,
                referrer: compiler.property_slot("properties.referrer")?,
            },
        })
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        let is_goal = self.goal.fits(input);
        let whence = self.slots.touch(input.event).map(|(channel, campaign)| {
            let channel = context.names.intern(Kind::Dimension(CHANNEL), Some(channel));
            (
                channel,
                context.names.intern(Kind::Dimension(CAMPAIGN), Some(&*campaign)),
            )
        });
        if whence.is_none() && !is_goal {
            return;
        }
        let known = user.0.get_or_insert_default();
        self.settle(known, context.cutoff());
        let place = (input.time, input.place);
        let at = known.recent.partition_point(|(other, _)| *other < place);
        // Goals before it do not look ahead.
        let is_looked_at = known.recent[at..].iter().any(|(_, seen)| seen.is_goal);
        let before = if is_looked_at {
            self.credited(known, place)
        } else {
            Credits::new()
        };
        known.recent.insert(at, (place, Seen { whence, is_goal }));
        if !is_looked_at && !is_goal {
            return;
        }
        move_credit(state, before, self.credited(known, place));
    }

    fn replace(
        &self,
        state: &mut State,
        before: User,
        user: &mut User,
        _: &Replaced<'_>,
        _: &mut Context<'_>,
    ) {
        let credited = |user: &User| {
            let known = user.0.as_ref();
            known.map(|known| self.credited(known, FIRST)).unwrap_or_default()
        };
        move_credit(state, credited(&before), credited(user));
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        state.credit.flush(context, |day, cell, credit, context| {
            self.put(day, *cell, credit, context)
        });
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        let end = |day| self.days.end(day);
        let put = |day, cell: &Cell, credit, context: &mut Context<'_>| self.put(day, *cell, credit, context);
        state.credit.forget(context, end, put);
    }

    fn rest(&self, _: u64, user: &mut User, context: &mut Context<'_>) {
        if let Some(known) = &mut user.0 {
            self.settle(known, context.cutoff());
            if known.touches.is_empty() && known.recent.is_empty() {
                user.0 = None;
            }
        }
    }

    fn settled_after_ms(&self) -> i64 {
        self.look_back_ms
    }

    fn rename(&self, state: &mut State, renames: &Renames) {
        state.credit.rename(|(whence, _)| rename(whence, renames));
    }

    fn rename_user(&self, user: &mut User, renames: &Renames) {
        for known in user.0.iter_mut() {
            known
                .touches
                .iter_mut()
                .for_each(|touch| rename(&mut touch.whence, renames));
            let seen = known
                .recent
                .iter_mut()
                .filter_map(|(_, seen)| seen.whence.as_mut());
            seen.for_each(|whence| rename(whence, renames));
        }
    }

    fn remember(&self, mut user: User, cutoff: i64) -> Option<User> {
        let known = user.0.as_mut()?;
        self.settle(known, cutoff);
        (!known.touches.is_empty()).then_some(user)
    }
}

/// Among an event's dimensions.
const CHANNEL: usize = 2;
const CAMPAIGN: usize = 3;

fn rename((channel, campaign): &mut Whence, renames: &Renames) {
    *channel = renames.number(Kind::Dimension(CHANNEL), *channel);
    *campaign = renames.number(Kind::Dimension(CAMPAIGN), *campaign);
}

fn move_credit(state: &mut State, before: Credits, after: Credits) {
    for (day, cell, credit) in before {
        state.credit.add(day, cell, -i64::from(credit));
    }
    for (day, cell, credit) in after {
        state.credit.add(day, cell, i64::from(credit));
    }
}

/// A goal's day, who gets something of it, and how much.
type Credits = SmallVec<[(i32, Cell, u32); 8]>;

impl Attribution {
    /// What the goals from a place on give to whom.
    fn credited(&self, known: &Known, from: Place) -> Credits {
        let mut credits = Credits::new();
        let mut touches = known.touches.clone();
        for (place, seen) in &known.recent {
            if let Some(whence) = seen.whence {
                touch(&mut touches, *place, whence);
            }
            if seen.is_goal && *place >= from {
                let day = self.days.number(place.0);
                let since = touches.partition_point(|touch| touch.begun.0 < place.0 - self.look_back_ms);
                give(&touches[since..], |whence, model, credit| {
                    credits.push((day, (whence, model), credit))
                });
            }
        }
        credits
    }

    /// Events that none can come before any more become touches; a goal among them has given what it gives.
    fn settle(&self, known: &mut Known, cutoff: i64) {
        let settled = known.recent.partition_point(|((time, _), _)| *time < cutoff);
        for (place, seen) in known.recent.drain(..settled) {
            if let Some(whence) = seen.whence {
                touch(&mut known.touches, place, whence);
            }
        }
        // The newest may go on, whenever it began.
        let over = known
            .touches
            .partition_point(|touch| touch.begun.0 < cutoff - self.look_back_ms);
        let goes_on = known
            .touches
            .last()
            .is_some_and(|last| last.last + PAUSE_MS >= cutoff);
        let over = over.min(known.touches.len() - usize::from(goes_on));
        known.touches.drain(..over);
    }

    fn put(&self, day: i32, ((channel, campaign), model): Cell, credit: u64, context: &mut Context<'_>) {
        let (row, names) = context.versioned(&ATTRIBUTION, credit == 0);
        row.date(day)
            .text(names.text(Kind::Dimension(CHANNEL), channel))
            .text(names.text(Kind::Dimension(CAMPAIGN), campaign))
            .text(MODELS[usize::from(model)])
            .u64(credit);
    }
}

/// An event says where from: the last touch goes on, or another begins.
fn touch(touches: &mut Vec<Touch>, place: Place, whence: Whence) {
    match touches.last_mut() {
        Some(last) if last.whence == whence && place.0 - last.last <= PAUSE_MS => last.last = place.0,
        _ => touches.push(Touch {
            begun: place,
            last: place.0,
            whence,
        }),
    }
}

/// Shares a goal among touches by each model; without a touch all of it is nobody's.
fn give(touches: &[Touch], mut to: impl FnMut(Whence, u8, u32)) {
    let nobody = (0, 0);
    let (first, last) = match (touches.first(), touches.last()) {
        (Some(first), Some(last)) => (first.whence, last.whence),
        _ => {
            (0..4).for_each(|model| to(nobody, model, GOAL));
            return;
        }
    };
    to(first, 0, GOAL);
    to(last, 1, GOAL);
    let count = touches.len() as u32;
    let parts =
        |sum: u32, count: u32| (0..count).map(move |place| sum / count + u32::from(place < sum % count));
    for (one, part) in touches.iter().zip(parts(GOAL, count)) {
        to(one.whence, 2, part);
    }
    match count {
        1 => to(first, 3, GOAL),
        2 => {
            to(first, 3, GOAL / 2);
            to(last, 3, GOAL / 2);
        }
        _ => {
            to(first, 3, ENDS);
            to(last, 3, ENDS);
            let between = &touches[1..touches.len() - 1];
            for (one, part) in between.iter().zip(parts(GOAL - 2 * ENDS, count - 2)) {
                to(one.whence, 3, part);
            }
        }
    }
}
