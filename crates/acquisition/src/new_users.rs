//! New users: whose first event ever in the app it was, by minute.

use cambium_engine::{
    By, Compiler, Context, DefinitionError, Filter, Input, MINUTE_MS, Processor, Renames, Replaced, Slice,
    Table, Tally, Zone,
};
use serde::{Deserialize, Serialize};

/// `[[acquisition]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Only users whose first event ever fits.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    #[serde(default = "where_from")]
    pub by: Vec<String>,
}

fn where_from() -> Vec<String> {
    ["platform", "channel", "campaign", "country"]
        .map(str::to_owned)
        .to_vec()
}

pub static NEW_USERS: Table = Table {
    name: "new_user_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("bucket", "DateTime('UTC')"),
        ("hour", "DateTime('UTC')"),
        ("day_bucket", "DateTime('UTC')"),
        ("day", "Date"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
        ("properties", "Map(LowCardinality(String), String)"),
        ("users", "UInt64"),
    ],
};

/// What is known of a user.
#[derive(Default, Serialize, Deserialize)]
pub enum User {
    #[default]
    NeverSeen,
    /// The time of the first event, and its slice if it fits: an earlier one may come late.
    Seen(i64, Option<Slice>),
    /// It will not.
    Known,
}

#[derive(Default, Serialize, Deserialize)]
pub struct State {
    users: Tally<Slice>,
}

pub struct Acquisition {
    filter: Option<Filter>,
    by: By,
    zone: Zone,
}

impl Processor for Acquisition {
    const KIND: &'static str = "acquisition";
    const SEMANTICS: u32 = 1;
    type Definition = Definition;
    type User = User;
    type State = State;

    fn new(definition: Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        let filter = definition.filter.as_deref().map(|text| compiler.filter(text));
        Ok(Acquisition {
            filter: filter.transpose()?,
            by: By::new(&definition.by, compiler)?,
            zone: compiler.zone()?,
        })
    }

    fn apply(&self, state: &mut State, user: &mut User, input: &Input<'_>, context: &mut Context<'_>) {
        match user {
            User::NeverSeen => {}
            User::Seen(first, slice) if input.time < *first => {
                if let Some(slice) = slice.take() {
                    state.users.leave(minute(*first), slice);
                }
            }
            User::Seen(..) | User::Known => return,
        }
        let fits = self.filter.as_ref().is_none_or(|filter| filter.fits(input.event));
        let slice = fits.then(|| self.by.slice(input, context.names));
        if let Some(slice) = slice.clone() {
            state.users.enter(minute(input.time), slice);
        }
        *user = User::Seen(input.time, slice);
    }

    fn replace(
        &self,
        state: &mut State,
        before: User,
        user: &mut User,
        _: &Replaced<'_>,
        _: &mut Context<'_>,
    ) {
        let counted = |user: &User| match user {
            User::Seen(first, Some(slice)) => Some((minute(*first), slice.clone())),
            _ => None,
        };
        let (from, to) = (counted(&before), counted(user));
        state.users.move_user(from.as_slice(), to.as_slice());
    }

    fn flush(&self, state: &mut State, context: &mut Context<'_>) {
        let put =
            |minute, slice: &Slice, users, context: &mut Context<'_>| self.put(minute, slice, users, context);
        state.users.flush(context, put);
    }

    fn advance(&self, state: &mut State, context: &mut Context<'_>) {
        let end = |minute| (i64::from(minute) + 1) * MINUTE_MS;
        let put =
            |minute, slice: &Slice, users, context: &mut Context<'_>| self.put(minute, slice, users, context);
        state.users.forget(context, end, put);
    }

    fn rest(&self, _: u64, user: &mut User, context: &mut Context<'_>) {
        if let User::Seen(first, _) = user
            && *first < context.cutoff()
        {
            *user = User::Known;
        }
    }

    fn rename(&self, state: &mut State, renames: &Renames) {
        state.users.rename(|slice| self.by.rename(slice, renames));
    }

    fn rename_user(&self, user: &mut User, renames: &Renames) {
        if let User::Seen(_, Some(slice)) = user {
            self.by.rename(slice, renames);
        }
    }

    /// Who was seen before is known for ever.
    fn remember(&self, _: User, _: i64) -> Option<User> {
        Some(User::Known)
    }
}

/// The minutes since 1970; an event's time lies between 1970 and 2100.
fn minute(time: i64) -> i32 {
    (time / MINUTE_MS) as i32
}

impl Acquisition {
    fn put(&self, minute: i32, slice: &Slice, users: u64, context: &mut Context<'_>) {
        let start = i64::from(minute) * MINUTE_MS;
        let (hour, day) = (self.zone.hour(start), self.zone.day(start));
        let (row, names) = context.versioned(&NEW_USERS, users == 0);
        let row = row
            .datetime(start)
            .datetime(hour)
            .datetime(day.start)
            .date(day.number);
        self.by.write(slice, names, row).u64(users);
    }
}
