//! One partition: a pure state machine over its log.

mod advance;
mod capture;
mod link;
mod save;
mod tables;
mod take_over;

use std::collections::VecDeque;

use cambium_event::{Decoders, Event, Plan, Reason, Record, Rejection, SchemaText, Schemas, TOGETHER};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

pub use save::saved_setup;
pub use tables::{REJECTED, TABLES};

use self::capture::Captures;
use self::link::Whose;
use crate::bugs::watermark_of_all;
use crate::devices::Kept;
use crate::identity::{of_version, version};
use crate::instance::{Builder, SavedInstance};
use crate::processor::PropertyTable;
use crate::time::MINUTE_MS;
use crate::users::Users;
use crate::{
    Bug, Context, Definition, Filter, HashKey, Input, Kind, List, Map, Mark, Names, Rows, Setup,
    SnapshotError, TimeRules, Times, bug,
};

/// Which log a partition is the state of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub partition: i32,
}

impl std::fmt::Display for Topic {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}[{}]", self.name, self.partition)
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Rejected(Reason),
    Dropped,
    Late,
    Duplicate,
    Accepted,
}

/// How many records ended how: `read = accepted + duplicate + late + rejected + dropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub read: u64,
    pub accepted: u64,
    pub duplicate: u64,
    pub late: u64,
    pub rejected: u64,
    pub dropped: u64,
    pub ahead: u64,
}

impl Account {
    fn add(&mut self, outcome: Outcome) {
        if bug(Bug::RejectedNotAccounted) && matches!(outcome, Outcome::Rejected(_)) {
            return;
        }
        if bug(Bug::LateCountedTwice) && outcome == Outcome::Late {
            self.read += 1;
            self.late += 1;
        }
        self.read += 1;
        *match outcome {
            Outcome::Rejected(_) => &mut self.rejected,
            Outcome::Dropped => &mut self.dropped,
            Outcome::Late => &mut self.late,
            Outcome::Duplicate => &mut self.duplicate,
            Outcome::Accepted => &mut self.accepted,
        } += 1;
    }
}

/// One app's share of a partition.
pub(crate) struct App<L: List> {
    name: Box<str>,
    time: TimeRules,
    /// What was late once stays so, whatever the lateness is later: nothing is kept of what could change before it.
    late_before: i64,
    /// None: devices and users are kept apart.
    link_within_ms: Option<i64>,
    instances: L::Instances,
    users: Users<L::Parts>,
}

/// Places in front of a log lie so far below its own, one behind the other.
const IN_FRONT: i64 = 1 << 60;

/// Everything that is known after an offset.
pub struct Partition<L: List> {
    topic: Topic,
    key: HashKey,
    /// Raised when the state goes on over a log whose offsets began anew.
    epoch: u16,
    /// The version at which the state began with nothing.
    start: u64,
    /// All records before it are in the state.
    position: i64,
    /// The last record before the position; none: nothing was read yet, or what lies before was skipped.
    last: Option<Mark>,
    watermark: Option<i64>,
    account: Account,
    names: Names,
    properties: PropertyTable,
    setup: Setup,
    decoders: Decoders,
    /// What is known of the schema ids that records named.
    schemas: Schemas,
    drop: Vec<Filter>,
    /// Whose records are dropped, as the setup says.
    forgotten: Map<u64, ()>,
    /// Of whom no row is left that is theirs alone: who is forgotten, here or further on in the log.
    left_out: Map<u64, ()>,
    apps: Vec<App<L>>,
    app_index: Map<Box<str>, usize>,
    next_slot: u32,
    /// Who owes rows: app and user.
    touched: VecDeque<(u32, u64)>,
    captures: Captures,
    rows: Rows,
    /// What users left who owed rows.
    settled: Rows,
    /// What is counted lies in front of the log: all rows have one version, and stay in the order in which they were left.
    is_in_front: bool,
}

impl<L: List> Partition<L> {
    /// A state that begins with nothing at `start`.
    pub fn new(
        topic: Topic,
        start: i64,
        epoch: u16,
        setup: Setup,
        key: HashKey,
    ) -> Result<Self, SnapshotError> {
        let mut partition = Partition {
            topic,
            key,
            epoch,
            start: version(epoch, start),
            position: start,
            last: None,
            watermark: None,
            account: Account::default(),
            names: Names::new(setup.max_values),
            properties: PropertyTable::default(),
            decoders: Decoders::default(),
            schemas: Schemas::new(),
            drop: Vec::new(),
            forgotten: Map::default(),
            left_out: Map::default(),
            apps: Vec::new(),
            app_index: Map::default(),
            next_slot: 0,
            touched: VecDeque::new(),
            captures: Captures::default(),
            rows: Rows::default(),
            settled: Rows::default(),
            is_in_front: false,
            setup,
        };
        partition.compile()?;
        Ok(partition)
    }

    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    pub fn position(&self) -> i64 {
        self.position
    }

    pub fn last(&self) -> Option<Mark> {
        self.last
    }

    pub fn epoch(&self) -> u16 {
        self.epoch
    }

    pub fn watermark(&self) -> Option<i64> {
        self.watermark
    }

    pub fn account(&self) -> Account {
        self.account
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// How often a name was taken as `(other)`, since its kind had as many as are kept.
    pub fn overflow(&self) -> u64 {
        self.names.overflow()
    }

    pub fn users(&self) -> usize {
        self.apps.iter().map(|app| app.users.len()).sum()
    }

    /// How much is waiting for the next flush, in bytes of rows.
    pub fn waiting_bytes(&self) -> usize {
        self.rows.bytes() + self.settled.bytes()
    }

    /// The version of rows that are true up to the position.
    pub fn version(&self) -> u64 {
        version(self.epoch, self.position)
    }

    /// The state goes on at another offset, over a gap, or over a log that begins anew.
    pub fn skip_to(&mut self, position: i64, is_another_log: bool) -> Result<(), SnapshotError> {
        self.settle_touched()?;
        self.flush_aggregates();
        if is_another_log && !bug(Bug::EpochNotRaised) {
            self.epoch += 1;
        }
        self.position = position;
        self.last = None;
        Ok(())
    }

    /// From the present position on, another setup holds. Definitions that stay keep their state;
    /// new ones begin here with nothing.
    pub fn change_setup(&mut self, setup: Setup) -> Result<(), SnapshotError> {
        self.enter_setup(setup)?;
        self.forget_users()?;
        self.put_all_definitions();
        Ok(())
    }

    /// Of these users no rows are left that are theirs alone, from wherever in the log: they are forgotten further on, or
    /// here. Nothing that is counted depends on it.
    pub fn leave_out(&mut self, users: &[u64]) {
        self.left_out.extend(users.iter().map(|user| (*user, ())));
    }

    fn enter_setup(&mut self, setup: Setup) -> Result<(), SnapshotError> {
        self.settle_touched()?;
        self.flush_aggregates();
        self.setup = setup;
        self.compile()?;
        for index in 0..self.apps.len() {
            let mut saved = Vec::new();
            L::save(&self.apps[index].instances, &mut saved)?;
            let name = self.apps[index].name.clone();
            let instances = self.build(&name, saved, self.version())?;
            let app = &mut self.apps[index];
            app.instances = instances;
            if let Some(watermark) = self.watermark
                && !bug(Bug::LatenessReachesBack)
            {
                app.late_before = app.times().accepts_from(watermark);
            }
            app.time = self.setup.time(&name);
            app.link_within_ms = self.setup.link_within_ms(&name);
        }
        Ok(())
    }

    /// What the setup says of all apps: which properties are read, what is dropped.
    fn compile(&mut self) -> Result<(), SnapshotError> {
        self.names.set_limit(self.setup.max_values);
        let mut drop = Vec::new();
        for text in &self.setup.drop {
            let filter = Filter::new(text, &mut self.properties).map_err(crate::DefinitionError::from)?;
            drop.push(filter);
        }
        self.drop = drop;
        self.forgotten = Map::default();
        let forgotten = self.setup.forgotten.iter().map(|user| (*user, ()));
        self.forgotten.extend(forgotten.clone());
        self.left_out.extend(forgotten);
        // Built once for every app that is named and for one that is not, so that all properties
        // have their slots before the first record is read.
        let named: Vec<String> = self.setup.apps.keys().cloned().collect();
        let listed = self.setup.definitions.iter().flat_map(|spec| spec.apps.clone());
        for app in named
            .into_iter()
            .chain(listed.collect::<Vec<_>>())
            .chain([String::new()])
        {
            let mut slot = 0;
            std::mem::swap(&mut slot, &mut self.next_slot);
            let built = self.build(&app, Vec::new(), self.version());
            self.next_slot = slot;
            built?;
        }
        let mut plan = Plan::new(&self.setup.fields, self.properties.paths());
        if self.setup.beside.events {
            plan = plan.with_all_properties();
        }
        self.decoders = Decoders::new(plan, self.setup.format.clone(), &self.schemas)?;
        Ok(())
    }

    /// The definitions that count an app under the present setup.
    pub fn definitions_of(&mut self, app: &str) -> Result<Vec<Definition>, SnapshotError> {
        let instances = self.build(app, Vec::new(), self.start)?;
        let mut in_force = Vec::new();
        L::in_force(&instances, &mut in_force);
        Ok(in_force.into_iter().map(|one| one.definition.clone()).collect())
    }

    /// The definitions that did not count from the partition's beginning on, and where they began.
    pub fn begun_later(&self) -> Vec<(&Definition, i64)> {
        let mut in_force = Vec::new();
        for app in &self.apps {
            L::in_force(&app.instances, &mut in_force);
        }
        let later = in_force.into_iter().filter(|one| one.start > self.start);
        later
            .map(|one| (one.definition, of_version(one.start).1))
            .collect()
    }

    /// The id of the schema that a record is written in, where it names one.
    pub fn schema_id(&self, record: &Record<'_>) -> Option<u32> {
        self.decoders.schema_id(record)
    }

    /// What is known of a schema id: nothing yet, its text, or that nobody knows it.
    pub fn schema(&self, id: u32) -> Option<&Option<SchemaText>> {
        self.schemas.get(&id)
    }

    /// From the present position on, this is known of a schema id.
    pub fn learn_schema(&mut self, id: u32, schema: Option<SchemaText>) {
        self.decoders.learn(id, schema.as_ref());
        self.schemas.insert(id, schema);
    }

    fn build(
        &mut self,
        app: &str,
        saved: Vec<SavedInstance>,
        start: u64,
    ) -> Result<L::Instances, SnapshotError> {
        let mut by_id = Map::default();
        by_id.extend(saved.into_iter().map(|saved| (saved.id, saved)));
        L::build(&mut Builder {
            setup: &self.setup,
            app,
            key: self.key,
            properties: &mut self.properties,
            saved: by_id,
            topic: &self.topic.name,
            partition: self.topic.partition,
            start,
            next_slot: &mut self.next_slot,
        })
    }

    /// Takes the next record. Offsets rise; what lies between two of them was never a record
    /// (compaction, transaction markers).
    pub fn apply(&mut self, record: &Record<'_>) -> Result<Outcome, SnapshotError> {
        let mut outcome = None;
        self.apply_each(std::slice::from_ref(record), |one| outcome = Some(one))?;
        outcome.ok_or(SnapshotError::User)
    }

    /// Takes the next records, a few: what is known of their users lies somewhere in a large memory, and comes from
    /// there for all of them at once, while each would be waited for by itself where it is needed.
    pub fn apply_together(&mut self, records: &[Record<'_>]) -> Result<(), SnapshotError> {
        self.apply_each(records, |_| {})
    }

    fn apply_each(
        &mut self,
        records: &[Record<'_>],
        mut tell: impl FnMut(Outcome),
    ) -> Result<(), SnapshotError> {
        let decoders = std::mem::take(&mut self.decoders);
        let applied = decoders.read_together(records, |events| {
            let ids = self.identify(events);
            for ((record, event), ids) in records.iter().zip(events).zip(ids) {
                let outcome = match event {
                    Ok(event) => self.judge(event, ids, record, &decoders)?,
                    Err(rejection) => {
                        self.reject(record, rejection);
                        Outcome::Rejected(rejection.reason)
                    }
                };
                self.account.add(outcome);
                self.position = record.offset + 1;
                tell(outcome);
            }
            Ok(())
        });
        self.decoders = decoders;
        applied
    }

    /// The numbers of users and message ids; and a look at what is known of them, so that it is at hand.
    fn identify(&self, events: &[Result<Event<'_>, Rejection>]) -> SmallVec<[Ids; TOGETHER]> {
        let ids: SmallVec<[Ids; TOGETHER]> = events
            .iter()
            .map(|event| match event {
                Ok(event) => Ids {
                    user: self.key.user(event.user()),
                    message: message_hash(event.message_id),
                },
                Err(_) => Ids::default(),
            })
            .collect();
        // Of one app alone: it is the case that matters, and nothing depends on it.
        if let ([app], [_, _, ..]) = (self.apps.as_slice(), events) {
            app.users.foresee(&ids, L::touch);
        }
        ids
    }

    /// Remembers the record that was applied last, to tell its log from another. To be called before a flush: between
    /// two records of a batch nobody asks.
    pub fn mark(&mut self, record: &Record<'_>) {
        if record.offset + 1 == self.position {
            self.last = Some(Mark::of(record));
        }
    }

    fn judge(
        &mut self,
        event: &mut Event<'_>,
        ids: Ids,
        record: &Record<'_>,
        decoders: &Decoders,
    ) -> Result<Outcome, SnapshotError> {
        let known_app = self.known_app(event.app);
        let times = match known_app {
            Some(app) => self.apps[app].times(),
            None => Times::of_new_app(self.setup.time(event.app)),
        };
        if let Some(sent) = record.timestamp
            && event.time > sent.saturating_add(times.rules.skew_ms)
            && sent >= 0
        {
            self.account.ahead += 1;
            event.time = sent;
        }
        let event = &*event;
        if self.drop.iter().any(|filter| filter.fits(event)) {
            return Ok(Outcome::Dropped);
        }
        if self.forgotten.contains_key(&ids.user) {
            return Ok(Outcome::Dropped);
        }
        let watermark = if bug(Bug::WatermarkOfAnother) {
            watermark_of_all(self.watermark)
        } else {
            self.watermark
        };
        let cutoff = watermark.map_or(i64::MIN, |watermark| times.accepts_from(watermark));
        if event.time < cutoff {
            return Ok(Outcome::Late);
        }
        let app = match known_app {
            Some(app) => app,
            None => self.app(event.app)?,
        };
        let mut ids = ids;
        let whose = match self.apps[app].link_within_ms {
            None => Whose::its_own(),
            Some(link_within_ms) => {
                let (user, whose) = self.whose(app, event, (ids.user, link_within_ms))?;
                if user != ids.user && self.forgotten.contains_key(&user) {
                    return Ok(Outcome::Dropped);
                }
                ids.user = user;
                whose
            }
        };
        if self.enters_minute(event.time) {
            // What is forgotten now may be what tells that the event is known.
            let known = self.apps[app].users.visit(ids.user)?.user;
            let is_known = ids
                .message
                .is_some_and(|message| known.recent.contains(message, cutoff));
            self.enter_minute(record.offset, event.time)?;
            if is_known {
                return Ok(Outcome::Duplicate);
            }
        } else if self.watermark.is_none_or(|watermark| event.time > watermark) {
            self.position = record.offset;
            self.watermark = Some(event.time);
        }
        self.accept(app, (ids, cutoff), (event, record), &whose, decoders)
    }

    /// Counts an event, unless one with its message id was accepted that is not older than `cutoff`.
    fn accept(
        &mut self,
        number: usize,
        (ids, cutoff): (Ids, i64),
        (event, record): (&Event<'_>, &Record<'_>),
        whose: &Whose,
        decoders: &Decoders,
    ) -> Result<Outcome, SnapshotError> {
        let (version, time) = (self.version(), event.time);
        let place = if self.is_in_front {
            self.account.read as i64 - IN_FRONT
        } else {
            version as i64
        };
        let is_of_device = whose.is_guest || whose.device.is_some();
        if is_of_device {
            let watermark = self.watermark.unwrap_or(time);
            let visit = self.apps[number].users.visit(ids.user)?;
            let is_known = |message| visit.user.recent.contains(message, cutoff);
            if ids.message.is_some_and(is_known) {
                visit.note(watermark);
                return Ok(Outcome::Duplicate);
            }
            if let Some(device) = whose.device {
                self.link(number, device, (ids.user, time), decoders)?;
            } else {
                let kept = Kept::new(record, (time, place, version), ids.message);
                self.keep_for_link(number, ids.user, kept, decoders)?;
            }
        }
        let accepted = Accepted {
            ids,
            time,
            offset: record.offset,
            // What a link brings along was not there when it was asked.
            unless_since: (!is_of_device).then_some(cutoff),
        };
        self.count(number, accepted, |names| Input {
            is_guest: whose.is_guest,
            ..Input::new(names, event, (ids.user, time), (place, version))
        })
    }

    /// Gives an event to every processor.
    fn count<'e>(
        &mut self,
        number: usize,
        accepted: Accepted,
        input: impl FnOnce(&mut Names) -> Input<'e>,
    ) -> Result<Outcome, SnapshotError> {
        let version = self.version();
        let watermark = self.watermark.unwrap_or(accepted.time);
        let Ids { user, message } = accepted.ids;
        let app = &mut self.apps[number];
        let times = app.times();
        let visit = app.users.visit(user)?;
        let known = &mut *visit.user;
        if let (Some(message), Some(cutoff)) = (message, accepted.unless_since)
            && known.recent.contains(message, cutoff)
        {
            visit.note(watermark);
            return Ok(Outcome::Duplicate);
        }
        let number = number as u32;
        self.captures.change(number, user, known)?;
        if let Some(message) = message {
            known
                .recent
                .insert(message, accepted.time, times.accepts_from(watermark));
        }
        let input = input(&mut self.names);
        if app.link_within_ms.is_some() && !input.event.user_id.is_empty() {
            link::note_user::<L>(&mut app.instances, &mut known.parts);
        }
        let beside = self.setup.beside;
        let is_left_out = self.left_out.contains_key(&user);
        if beside.events && self.setup.only.is_none() && !is_left_out {
            let rows = &mut self.rows;
            let place = (of_version(input.version).0, accepted.offset);
            tables::put_event(
                rows,
                &self.topic,
                version,
                place,
                user,
                input.event,
                beside.raw_ids,
            );
        }
        let unseen_since = (known.last_seen != i64::MIN).then_some(known.last_seen);
        known.last_seen = known.last_seen.max(input.time);
        if !std::mem::replace(&mut known.touched.owes, true) {
            self.touched.push_back((number, user));
        }
        let mut context = Context::of_app(
            &app.name,
            times,
            (&mut self.rows, &mut self.names),
            version,
            watermark,
        );
        // In front of a log all rows have one version.
        context.version_behind = if self.is_in_front { version } else { version + 1 };
        context.leave_out(is_left_out);
        if unseen_since.is_some_and(|last| last < watermark - app.time.horizon_ms) {
            L::settle(&mut app.instances, user, &mut known.parts, &mut context);
            let cutoff = context.cutoff();
            L::remember(&app.instances, &mut known.parts, cutoff);
        }
        let (instances, parts) = (&mut app.instances, &mut known.parts);
        if input.is_moved {
            L::apply_again(instances, parts, &input, &mut context);
        } else {
            L::apply(instances, parts, &input, &mut context);
        }
        visit.note(watermark);
        Ok(Outcome::Accepted)
    }

    /// The index of an app that is set up already. Most topics are of one app.
    fn known_app(&self, name: &str) -> Option<usize> {
        match self.apps.first() {
            Some(first) if *first.name == *name => Some(0),
            _ => self.app_index.get(name).copied(),
        }
    }

    /// The app's index; an app never seen before is set up. Beyond the limit of names all are one.
    fn app(&mut self, name: &str) -> Result<usize, SnapshotError> {
        let known = self.apps.len();
        let index = self.find_or_add_app(name)?;
        if index == known {
            self.put_definitions(index);
        }
        Ok(index)
    }

    fn find_or_add_app(&mut self, name: &str) -> Result<usize, SnapshotError> {
        if let Some(index) = self.app_index.get(name) {
            return Ok(*index);
        }
        let id = self.names.intern(Kind::App, Some(name));
        let name: Box<str> = self.names.text(Kind::App, id).into();
        if let Some(index) = self.app_index.get(&name) {
            return Ok(*index);
        }
        let instances = self.build(&name, Vec::new(), self.start)?;
        let time = self.setup.time(&name);
        let link_within_ms = self.setup.link_within_ms(&name);
        self.apps.push(App {
            name: name.clone(),
            time,
            late_before: i64::MIN,
            link_within_ms,
            instances,
            users: Users::default(),
        });
        let index = self.apps.len() - 1;
        self.app_index.insert(name, index);
        Ok(index)
    }

    fn reject(&mut self, record: &Record<'_>, rejection: &Rejection) {
        if self.setup.only.is_some() {
            return;
        }
        let version = self.version();
        let kept = self.setup.beside.rejected_payload;
        tables::put_rejected(&mut self.rows, &self.topic, version, record, rejection, kept);
    }

    /// Whether an event of this time brings the watermark into another minute.
    fn enters_minute(&self, time: i64) -> bool {
        let minute = |time: i64| time.div_euclid(MINUTE_MS);
        self.watermark
            .is_some_and(|watermark| minute(time) > minute(watermark))
    }

    fn enter_minute(&mut self, offset: i64, time: i64) -> Result<(), SnapshotError> {
        let before = self.watermark.replace(time);
        self.position = offset;
        self.advance(before.unwrap_or(time))
    }
}

/// The numbers of an event's user and message id.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ids {
    pub user: u64,
    pub message: Option<u64>,
}

/// What a partition itself notes of an event.
#[derive(Clone, Copy)]
pub(crate) struct Accepted {
    pub ids: Ids,
    pub time: i64,
    pub offset: i64,
    /// It is a duplicate where one with its message id was accepted that is not older; none: it is counted once more.
    pub unless_since: Option<i64>,
}

/// The number of a message id; none where there is none.
fn message_hash(id: &str) -> Option<u64> {
    (!id.is_empty()).then(|| xxh3_64(id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use cambium_event::Record;

    use super::*;
    use crate::setup::tests::setup;

    const TIME: i64 = 1_700_006_400_000;

    fn begin(setup: Setup) -> Partition<()> {
        let topic = Topic {
            name: "t".to_owned(),
            partition: 3,
        };
        Partition::new(topic, 5, 1, setup, HashKey::default()).unwrap()
    }

    /// An event of u's, so long after the first.
    fn apply(partition: &mut Partition<()>, after_ms: i64) -> Outcome {
        let payload = format!(
            r#"{{"app":"s","event":"e","user_id":"u","timestamp":{},"properties":{{"a":{{"b":1.50}}}}}}"#,
            TIME + after_ms
        );
        let record = Record {
            offset: partition.position(),
            payload: Some(payload.as_bytes()),
            ..Record::default()
        };
        partition.apply(&record).unwrap()
    }

    #[test]
    fn what_is_older_than_the_lateness_is_late() {
        let mut partition = begin(Setup {
            time: TimeRules {
                lateness_ms: 100,
                ..setup().time
            },
            ..setup()
        });
        for (after_ms, outcome) in [
            (0, Outcome::Accepted),
            (200, Outcome::Accepted),
            (100, Outcome::Accepted),
            (99, Outcome::Late),
        ] {
            assert_eq!(apply(&mut partition, after_ms), outcome, "{after_ms}");
        }
    }

    #[test]
    fn an_event_from_further_ahead_than_the_skew_happened_when_it_was_sent() {
        let mut partition = begin(Setup {
            time: TimeRules {
                skew_ms: 100,
                ..setup().time
            },
            ..setup()
        });
        for (ahead_ms, watermark, ahead) in [(0, 0, 0), (100, 100, 0), (101, 100, 1)] {
            let payload = format!(
                r#"{{"app":"s","event":"e","user_id":"u","timestamp":{}}}"#,
                TIME + ahead_ms
            );
            let record = Record {
                offset: partition.position(),
                timestamp: Some(TIME),
                payload: Some(payload.as_bytes()),
                ..Record::default()
            };
            partition.apply(&record).unwrap();
            let found = (partition.watermark(), partition.account().ahead);
            assert_eq!(found, (Some(TIME + watermark), ahead), "{ahead_ms}");
        }
    }

    /// Of a definition's past alone none are left, nor of who is forgotten further on.
    #[test]
    fn events_are_rows_where_they_are_asked_for() {
        let user = HashKey::default().user("u");
        for (events, raw_ids, only, left_out, id) in [
            (false, false, None, vec![], None),
            (true, false, None, vec![], Some("")),
            (true, true, None, vec![], Some("u")),
            (true, false, Some(Vec::new()), vec![], None),
            (true, false, None, vec![user], None),
        ] {
            let mut setup = setup();
            (setup.beside.events, setup.beside.raw_ids, setup.only) = (events, raw_ids, only);
            let mut partition = begin(setup);
            partition.leave_out(&left_out);
            apply(&mut partition, 0);
            let mut expected = Rows::default();
            if let Some(id) = id {
                let row = expected
                    .row(tables::TABLES[4])
                    .text("t")
                    .i32(3)
                    .i64(5)
                    .u64(version(1, 5));
                let row = row
                    .text("s")
                    .text("e")
                    .i64(TIME)
                    .u64(user)
                    .text(id)
                    .text("")
                    .text("")
                    .text("");
                let row = (0..5).fold(row, |row, _| row.text(""));
                row.map([("a.b", "1.5")]).u16(1);
            }
            let rows = partition.flush().unwrap();
            let of_events = rows.tables.iter().filter(|rows| rows.table.name == "event_rows");
            let bytes =
                |rows: &crate::TableRows| rows.block().flat_map(|part| part.to_vec()).collect::<Vec<u8>>();
            let found: Vec<_> = of_events.map(bytes).collect();
            assert_eq!(found, expected.tables.iter().map(bytes).collect::<Vec<_>>());
        }
    }

    #[test]
    fn another_log_begins_another_epoch_and_a_gap_does_not() {
        let mut partition = begin(setup());
        partition.skip_to(9, false).unwrap();
        assert_eq!((partition.epoch(), partition.position()), (1, 9));
        partition.skip_to(2, true).unwrap();
        assert_eq!((partition.epoch(), partition.position()), (2, 2));
        assert_eq!(partition.version(), version(2, 2));
    }

    /// However many captures there were, each tells its users from those of the one before.
    #[test]
    fn a_capture_holds_who_changed_since_the_last() {
        let mut partition = begin(setup());
        for number in 0..300 {
            let changes = number % 3 != 0;
            if changes {
                apply(&mut partition, 0);
            }
            partition.flush().unwrap();
            let users = partition.capture().unwrap().users;
            assert_eq!(users.len(), usize::from(changes), "{number}");
        }
    }
}
