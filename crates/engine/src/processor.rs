//! What a processor is: one family of numbers, counted from one app's events.

use cambium_event::{Event, PropertyPath};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{
    Bug, Calendar, DefinitionError, Filter, Kind, Names, Period, Renames, Row, Rows, Setup, Table, Times,
    Zone, bug, sessionise,
};

/// One definition of one family of numbers, compiled for one app.
///
/// A processor is pure: what it makes of an event depends on the events before it alone. It keeps
/// a part of each user's state and a state of its own (its aggregates); both are saved in snapshots.
pub trait Processor: Sized + Send {
    /// The word for it in the configuration and in `definitions`.
    const KIND: &'static str;
    /// Raised where a release counts differently.
    const SEMANTICS: u32;
    /// What the user writes; unknown keys are errors.
    type Definition: Serialize + DeserializeOwned;
    /// One user's part of the state. The default is that of a user never seen.
    type User: Default + Serialize + DeserializeOwned + Send;
    /// The aggregates of one partition.
    type State: Default + Serialize + DeserializeOwned + Send;

    /// Whether there is exactly one (`[counts]`), or a list of named ones (`[[unique]]`).
    const IS_SINGLE: bool = false;

    /// Whether users owe rows, which [`Processor::settle`] leaves; what `flush` leaves is true when they have.
    const SETTLES: bool = false;

    /// The names of definitions that exist unless they are written: their keys are all defaults.
    fn built_in() -> &'static [&'static str] {
        &[]
    }

    /// Fills in defaults that depend on the name, before the keys are read.
    fn complete(_name: &str, _keys: &mut serde_json::Map<String, serde_json::Value>) {}

    fn new(definition: Self::Definition, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError>;

    /// The kind and name of another definition that is part of what this one means. Where it does not count an app, this
    /// one does not either.
    fn rests_on(_definition: &Self::Definition) -> Option<(&'static str, &str)> {
        None
    }

    /// Takes an accepted event. The watermark of `context` already includes it.
    fn apply(
        &self,
        state: &mut Self::State,
        user: &mut Self::User,
        input: &Input<'_>,
        context: &mut Context<'_>,
    );

    /// Something of what `apply` looks at first of a user's part, wherever it lies: read a little before, it is at hand
    /// then.
    fn touch(_part: &Self::User) -> i64 {
        0
    }

    /// Before a flush, for each user touched since the one before: leaves the rows that the user's
    /// state owes.
    fn settle(
        &self,
        _state: &mut Self::State,
        _user: u64,
        _part: &mut Self::User,
        _context: &mut Context<'_>,
    ) {
    }

    /// At a flush, when all users have settled: leaves the rows of aggregates that changed.
    fn flush(&self, _state: &mut Self::State, _context: &mut Context<'_>) {}

    /// Each time the watermark enters a new minute, all users settled where the processor asks
    /// for it: leaves rows that are due, forgets what no event can change any more.
    fn advance(&self, _state: &mut Self::State, _context: &mut Context<'_>) {}

    /// The users' states must settle before `advance` may look at `context`'s cutoff.
    fn settles_before(&self, _state: &Self::State, _context: &Context<'_>) -> bool {
        false
    }

    /// For a user who has settled and was not seen for a while: forgets what no event can change any more, and what
    /// makes no difference to any.
    fn rest(&self, _user: u64, _part: &mut Self::User, _context: &mut Context<'_>) {}

    /// How far a user's last event must lie behind the cutoff for [`Processor::rest`] to forget all that it ever will,
    /// in most cases.
    fn settled_after_ms(&self) -> i64 {
        0
    }

    /// Takes the state of the same definition on another partition of the same log: puts this partition's numbers of
    /// names in the place of the other's. Nothing waits to be flushed in it.
    fn rename(&self, state: &mut Self::State, renames: &Renames);

    /// The same for a user's part.
    fn rename_user(&self, part: &mut Self::User, renames: &Renames);

    /// What a user did is another's now: they are counted as `part` says, which was worked out without it, and no longer as
    /// `before` says. What is counted under what both have in common need not be touched, and where it is settled must not.
    fn replace(
        &self,
        state: &mut Self::State,
        before: Self::User,
        part: &mut Self::User,
        replaced: &Replaced<'_>,
        context: &mut Context<'_>,
    );

    /// What is kept of a user who was not seen for longer than the horizon; none: nothing. No event older than `cutoff`
    /// will be accepted any more.
    fn remember(&self, _part: Self::User, _cutoff: i64) -> Option<Self::User> {
        None
    }
}

/// An accepted event, as processors see it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub event: &'a Event<'a>,
    pub user: u64,
    pub time: i64,
    /// The event's place in the log, its epochs behind each other and what lies in front of it below zero: of two events
    /// at one instant the one with the lower place came first.
    pub place: i64,
    /// The number of the event's name.
    pub name: u32,
    /// The numbers of the five dimensions.
    pub dimensions: [u32; 5],
    /// The version as of before the record.
    pub version: u64,
    /// It is counted once more, as another user's than before. That it happened is counted already.
    pub is_moved: bool,
    /// Its user is a device that may still become somebody's: then it is taken out of where it is counted.
    pub is_guest: bool,
}

impl<'a> Input<'a> {
    pub(crate) fn new(
        names: &mut Names,
        event: &'a Event<'a>,
        (user, time): (u64, i64),
        (place, version): (i64, u64),
    ) -> Self {
        Input {
            event,
            user,
            time,
            place,
            name: names.intern(Kind::Event, Some(event.event)),
            dimensions: std::array::from_fn(|place| {
                names.intern(Kind::Dimension(place), Some(event.dimensions[place]))
            }),
            version,
            is_moved: false,
            is_guest: false,
        }
    }
}

/// A user of whose events some are another's now.
pub struct Replaced<'a> {
    pub user: u64,
    /// The events that are another's, and those of the same time that are still theirs.
    pub moved: &'a [Input<'a>],
    pub stays: &'a [Input<'a>],
}

/// What a processor works with while it counts: where rows go, and as of when.
pub struct Context<'p> {
    pub rows: &'p mut Rows,
    pub names: &'p mut Names,
    pub definition: u64,
    pub origin: u64,
    pub app: &'p str,
    /// The version of rows that are true up to here; while an event is applied, of what was before it.
    pub version: u64,
    /// The version of rows that hold what the event did that is applied.
    pub(crate) version_behind: u64,
    /// Milliseconds since 1970; of the partition.
    pub watermark: i64,
    /// How far back what is counted may still change: the lateness, and as far as devices become users after it.
    pub lateness_ms: i64,
    pub horizon_ms: i64,
    times: Times,
    /// Where rows go that no one is to have, while the user is one of whom none are left.
    nowhere: Option<Rows>,
}

impl<'p> Context<'p> {
    /// Of one app; which definition is at work is set as each is entered.
    pub(crate) fn of_app(
        app: &'p str,
        times: Times,
        (rows, names): (&'p mut Rows, &'p mut Names),
        version: u64,
        watermark: i64,
    ) -> Self {
        Context {
            rows,
            names,
            definition: 0,
            origin: 0,
            app,
            version,
            version_behind: version,
            watermark,
            lateness_ms: times.reach_ms(),
            horizon_ms: times.rules.horizon_ms,
            times,
            nowhere: None,
        }
    }

    /// Whether the rows that follow and have a version, those of one user, are left nowhere. What they enter sets and sums
    /// with stays.
    #[inline]
    pub(crate) fn leave_out(&mut self, leaves_out: bool) {
        if leaves_out != self.nowhere.is_some() && !bug(Bug::ForgottenRowsComeBack) {
            self.nowhere = leaves_out.then(Rows::default);
        }
    }

    /// No event older than this will be accepted any more, nor come to be another user's.
    pub fn cutoff(&self) -> i64 {
        self.times.cutoff(self.watermark)
    }

    /// No event older than this will be accepted any more. One that is may still come to be another user's.
    pub fn accepts_from(&self) -> i64 {
        self.times.accepts_from(self.watermark)
    }

    /// Begins a versioned row (definition, origin, app, version, deleted), beside the names to fill it. One that is left
    /// while an event is applied tells of what was before that.
    pub fn versioned(&mut self, table: &'static Table, deleted: bool) -> (Row<'_>, &Names) {
        self.row_of(self.version, table, deleted)
    }

    /// The same of a row that holds what the event did that is applied. With the version of what was before, a setup could
    /// enter before the event that already stands in the row.
    pub fn versioned_behind(&mut self, table: &'static Table, deleted: bool) -> (Row<'_>, &Names) {
        self.row_of(self.version_behind, table, deleted)
    }

    fn row_of(&mut self, version: u64, table: &'static Table, deleted: bool) -> (Row<'_>, &Names) {
        let rows = self.nowhere.as_mut().unwrap_or(self.rows);
        let row = rows
            .row(table)
            .u64(self.definition)
            .u64(self.origin)
            .text(self.app);
        let version = if bug(Bug::VersionLeftOut) { 0 } else { version };
        (row.u64(version).bool(deleted), self.names)
    }

    /// Begins a row of users who enter a set (definition, app), beside the names to fill it.
    pub fn arrivals(&mut self, table: &'static Table) -> (Row<'_>, &Names) {
        (
            self.rows.row(table).u64(self.definition).text(self.app),
            self.names,
        )
    }
}

/// The paths of all properties that any definition reads, with their slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PropertyTable {
    paths: Vec<PropertyPath>,
}

impl PropertyTable {
    pub fn paths(&self) -> &[PropertyPath] {
        &self.paths
    }

    pub(crate) fn slot(&mut self, path: PropertyPath) -> usize {
        match self.paths.iter().position(|known| *known == path) {
            Some(slot) => slot,
            None => {
                self.paths.push(path);
                self.paths.len() - 1
            }
        }
    }

    /// The path that a name stands for: `properties.a.b`, `a.b`, `properties["a b"].c`.
    pub(crate) fn path(name: &str) -> PropertyPath {
        let mut rest = match name.strip_prefix("properties") {
            Some(rest) if rest.starts_with(['.', '[']) => rest.strip_prefix('.').unwrap_or(rest),
            _ => name,
        };
        let mut path = Vec::new();
        loop {
            let (step, behind) = first_step(rest);
            path.push(step.to_owned());
            if behind.is_empty() {
                return path;
            }
            rest = behind.strip_prefix('.').unwrap_or(behind);
        }
    }
}

/// The first step of a path, and what stands behind it.
fn first_step(path: &str) -> (&str, &str) {
    for (open, close) in [("[\"", "\"]"), ("['", "']")] {
        let inner = path.strip_prefix(open);
        if let Some(found) = inner.and_then(|inner| inner.split_once(close)) {
            return found;
        }
    }
    let ends = [".", "[\"", "['"].map(|end| path.find(end));
    match ends.into_iter().flatten().min() {
        Some(end) if end > 0 || path.starts_with('.') => path.split_at(end),
        _ => (path, ""),
    }
}

/// What a definition is compiled with.
pub struct Compiler<'s> {
    pub(crate) setup: &'s Setup,
    pub(crate) app: &'s str,
    pub(crate) name: &'s str,
    pub(crate) properties: &'s mut PropertyTable,
}

impl Compiler<'_> {
    /// The definition's name.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Whether devices become users, so that of whatever is counted something may be taken out.
    pub fn has_identity(&self) -> bool {
        self.setup.link_within_ms(self.app).is_some()
    }

    /// What another definition of the app says.
    pub fn other<D: DeserializeOwned>(&self, kind: &str, name: &str) -> Result<D, DefinitionError> {
        let body = self.setup.definition(kind, name, self.app);
        let body =
            body.ok_or_else(|| DefinitionError::new(format!("there is no {kind} '{name}' for this app")))?;
        serde_json::from_value(body.clone()).map_err(|error| DefinitionError::new(error.to_string()))
    }

    pub fn zone(&self) -> Result<Zone, DefinitionError> {
        Zone::new(self.setup.zone(self.app)).map_err(DefinitionError::new)
    }

    /// The periods of the app's local calendar.
    pub fn calendar(&self, period: Period) -> Result<Calendar, DefinitionError> {
        let week_start = self.setup.week_start(self.app);
        Ok(Calendar::new(self.zone()?, period, week_start))
    }

    /// The session rules of the app.
    pub fn session_rules(&self) -> Result<sessionise::Rules, DefinitionError> {
        self.other("session", "")
    }

    pub fn filter(&mut self, text: &str) -> Result<Filter, DefinitionError> {
        Ok(Filter::new(text, self.properties)?)
    }

    pub(crate) fn property(&mut self, name: &str) -> Result<usize, DefinitionError> {
        let path = PropertyTable::path(name);
        if path.iter().any(String::is_empty) {
            return Err(DefinitionError::new(format!("'{name}' names no property")));
        }
        Ok(self.properties.slot(path))
    }

    /// The slot of a property that a definition reads by itself.
    pub fn property_slot(&mut self, name: &str) -> Result<usize, DefinitionError> {
        self.property(name)
    }

    /// A property's name as the views give it.
    pub(crate) fn property_name(&self, name: &str) -> String {
        PropertyTable::path(name).join(".")
    }
}

/// One event name, or a list of them; "*" is any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "event is a name or a list of names")]
pub enum EventNames {
    One(String),
    Many(Vec<String>),
}

impl EventNames {
    pub fn any() -> Self {
        EventNames::One("*".to_owned())
    }

    pub fn list(&self) -> &[String] {
        match self {
            EventNames::One(name) => std::slice::from_ref(name),
            EventNames::Many(names) => names,
        }
    }
}

/// Events of certain names that fit a filter.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// Empty: any.
    names: Vec<String>,
    filter: Option<Filter>,
}

impl Matcher {
    pub fn new(
        names: &EventNames,
        filter: Option<&str>,
        compiler: &mut Compiler<'_>,
    ) -> Result<Matcher, DefinitionError> {
        let list = names.list();
        if list.is_empty() || list.iter().any(String::is_empty) {
            return Err(DefinitionError::new(
                "event: a name is empty; leave `event` out, or write \"*\", for any",
            ));
        }
        let names = if list.iter().any(|name| name == "*") {
            Vec::new()
        } else {
            list.to_vec()
        };
        let filter = filter.map(|text| compiler.filter(text)).transpose()?;
        Ok(Matcher { names, filter })
    }

    /// The events that another definition names.
    pub fn of_other(kind: &str, name: &str, compiler: &mut Compiler<'_>) -> Result<Matcher, DefinitionError> {
        #[derive(Deserialize)]
        struct Named {
            event: EventNames,
            #[serde(rename = "where")]
            filter: Option<String>,
        }
        let named: Named = compiler.other(kind, name)?;
        Matcher::new(&named.event, named.filter.as_deref(), compiler)
    }

    /// Whether an event of this name may fit.
    pub fn names(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|one| one == name)
    }

    /// Whether an event fits, if its name does.
    pub fn fits_but_for_its_name(&self, event: &Event<'_>) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.fits(event))
    }

    pub fn fits(&self, event: &Event<'_>) -> bool {
        self.names(event.event) && self.fits_but_for_its_name(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stands_for_a_path() {
        for (name, path) in [
            ("a", "a"),
            ("a.b", "a|b"),
            ("properties.a.b", "a|b"),
            ("properties", "properties"),
            ("propertiesque.a", "propertiesque|a"),
            ("properties[\"a b\"].c", "a b|c"),
            ("a['b.c']d", "a|b.c|d"),
            ("['a'][\"b\"]", "a|b"),
            // What names nothing is told by an empty step.
            (".a", "|a"),
            ("a..b", "a||b"),
            ("properties.", ""),
            // A bracket that never closes is part of a name.
            ("['a", "['a"),
        ] {
            assert_eq!(PropertyTable::path(name).join("|"), path, "{name}");
        }
    }
}
