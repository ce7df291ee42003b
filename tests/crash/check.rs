//! What must hold, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use cambium_clickhouse::tables_with;
use cambium_engine::{of_version, origin_hash};
use cambium_simulate::funnel::{ByStep, Funnel, Order, Step};
use cambium_simulate::sessions::sessions;
use cambium_simulate::{Account, Event, Record, Truth};
use cambium_snapshots::Change;

use super::process::still_runtime;
use super::world::{LATER, LATER_RELEASE, WITH_PAST, World};
use crate::replay::case::{Case, MINUTE};
use crate::replay::check::{active, check as check_views, check_funnel};
use crate::replay::model::{Model, Row, Value, definition, number, text};

impl World {
    fn sent(&self) -> Vec<Record> {
        self.logs
            .iter()
            .flat_map(|log| log.sent.iter().cloned())
            .collect()
    }

    /// Of whom nothing is held that is theirs alone.
    fn is_left_out(&self, user: u64) -> bool {
        self.is_forgotten && user == self.user
    }

    fn truth(&self, records: &[Record]) -> Truth {
        Truth::new(records, &self.rules())
    }

    /// All records of a partition were read, and each ended as it should.
    pub fn check_account(&self, partition: i32, account: Account) {
        if !self.is_lossy {
            let truth = self.truth(&self.logs[partition as usize].sent);
            let expected = truth.accounts.get(&partition).copied().unwrap_or_default();
            assert_eq!(account, expected, "partition {partition}");
        }
    }

    /// What claims to be counted is in the tables: nothing before this offset (as the truth has it) is missing.
    pub fn check_holds(&self, partition: i32, before: i64) {
        if self.is_lossy {
            return;
        }
        let records = self.logs[partition as usize].sent.iter();
        let records: Vec<Record> = records.filter(|one| one.offset < before).cloned().collect();
        let truth = self.truth(&records);
        let server = self.clickhouse.lock();
        let model = &server.model;
        let counted = counts(model);
        for (key, (events, _)) in truth.event_counts() {
            let held = counted.get(&key).copied().unwrap_or(0);
            assert!(
                held >= events,
                "{held} of {key:?} are held, {events} were claimed before {before} of partition {partition}"
            );
        }
        let held: BTreeSet<_> = model.newest("session_rows").map(session_key).collect();
        let by_user = truth.by_user().into_iter();
        for ((app, user), events) in by_user.filter(|((_, user), _)| !self.is_left_out(*user)) {
            for session in sessions(&events, &self.case.sessions, &|time| truth.day(time)) {
                let key = (app.clone(), user, session.start);
                assert!(held.contains(&key), "no session {key:?}, claimed before {before}");
            }
        }
        let (held, expected) = self.rejected(model, partition, before);
        assert_eq!(held, expected, "rejected records before {before}");
    }

    /// How many rejected records from before an offset are held, and how many there are.
    fn rejected(&self, model: &Model, partition: i32, before: i64) -> (u64, u64) {
        let log = &self.logs[partition as usize];
        let held = model.newest("rejected_rows").filter(|row| {
            let (epoch, offset) = (number(row, "epoch") as u16, number(row, "offset") as i64);
            number(row, "partition") == i128::from(partition) && log.for_truth(epoch, offset) < before
        });
        let sent = log.sent.iter().filter(|record| record.offset < before).cloned();
        let truth = self.truth(&sent.collect::<Vec<_>>());
        let account = truth.accounts.get(&partition);
        (held.count() as u64, account.map_or(0, |account| account.rejected))
    }

    /// What was counted beside is whole in the tables when the journal names it, before an offset (as the truth has it): from
    /// then on the views may be switched to it.
    fn check_past_holds(&self, partition: i32, before: i64) {
        if self.is_lossy {
            return;
        }
        let records = self.logs[partition as usize].sent.iter();
        let records: Vec<Record> = records.filter(|one| one.offset < before).cloned().collect();
        let truth = self.truth(&records);
        let server = self.clickhouse.lock();
        let with_past: BTreeSet<u64> = (server.model.newest("definition_rows"))
            .filter(|row| text(row, "name") == LATER && number(row, "generation") == i128::from(WITH_PAST))
            .map(|row| number(row, "id") as u64)
            .collect();
        let held: BTreeSet<_> = active(&server.model)
            .filter(|(row, _)| definition(row).is_some_and(|id| with_past.contains(&id)))
            .map(|(row, user)| (number(row, "day") as i32, user))
            .collect();
        // What a device did may be its user's by now.
        let stays = |event: &&Event| event.names_user || self.case.rules.link_within_ms.is_none();
        let events = truth.events.iter().filter(|event| event.event == "a");
        for event in events.filter(stays).filter(|event| !self.is_left_out(event.user)) {
            let place = (truth.day(event.time), event.user);
            assert!(
                held.contains(&place),
                "{place:?} is not in the past of partition {partition}"
            );
        }
    }

    /// Before all comes to rest: neither `progress`, nor a snapshot, nor a journal claims what is not in the tables.
    pub fn check_claims(&self) {
        for (partition, log) in self.logs.iter().enumerate() {
            let snapshots = self.store.partition(&self.topic(partition), 1);
            let journal = still_runtime().block_on(snapshots.journal());
            let entries = journal.unwrap_or_default();
            let pasts = entries
                .iter()
                .filter(|entry| matches!(entry.change, Change::Past { .. }));
            for past in pasts {
                self.check_past_holds(partition as i32, log.for_truth(past.epoch, past.offset));
            }
        }
        let mut claims = Vec::new();
        for row in self.clickhouse.lock().model.newest("progress_rows") {
            let partition = number(row, "partition") as i32;
            claims.push((partition, of_version(number(row, "version") as u64)));
        }
        for partition in 0..self.logs.len() {
            let newest = self.newest_snapshot(partition);
            claims.extend(newest.map(|newest| (partition as i32, newest)));
        }
        for (partition, (epoch, offset)) in claims {
            let offset = self.logs[partition as usize].for_truth(epoch, offset);
            self.check_holds(partition, offset);
        }
    }

    /// When all has come to rest.
    pub fn check(&self) {
        let server = self.clickhouse.lock();
        let model = &server.model;
        for row in model.newest("record_rows") {
            let outcomes = ["accepted", "duplicate", "late", "rejected", "dropped"];
            let sum: i128 = outcomes.iter().map(|name| number(row, name)).sum();
            assert_eq!(number(row, "read"), sum, "an account does not add up");
        }
        if self.is_lossy {
            self.check_nothing_twice(model);
            return;
        }
        let case = Case {
            configuration: self.case.configuration.clone(),
            rules: self.rules(),
            sessions: self.case.sessions.clone(),
            funnels: self.case.funnels.clone(),
            people: self.case.people.clone(),
            records: self.sent(),
            partitions: self.case.partitions,
            forgotten: self.is_forgotten.then_some(self.user),
            is_upgraded: self.in_force.values().any(|setup| *setup >= LATER_RELEASE),
        };
        if self.is_forgotten {
            let theirs = Value::Number(self.user.into());
            let tables = tables_with(&["user", "version"]);
            let mut rows = tables.into_iter().flat_map(|table| model.newest(table));
            assert!(
                !rows.any(|row| row["user"] == theirs),
                "a row of who is forgotten came back"
            );
            self.check_snapshots();
        }
        let accounts = accounts(model);
        check_views(&case, model, &accounts);
        // They count from where they were added; and where they have a past, beside that, from the beginning.
        self.check_later_definitions(&case, model, 0, |partition| self.since(partition, 1));
        self.check_later_definitions(&case, model, WITH_PAST, |partition| {
            self.pasts.contains(&partition).then_some(0)
        });
        for partition in 0..self.logs.len() as i32 {
            let (held, expected) = self.rejected(model, partition, i64::MAX);
            assert_eq!(held, expected, "rejected records");
        }
    }

    /// Who is forgotten is in no snapshot that is kept.
    fn check_snapshots(&self) {
        for (store, name) in self.snapshot_files() {
            let loaded = still_runtime().block_on(store.load_file(&name));
            // What goes on from nothing any more can be read by nobody.
            let users = loaded.map_or_else(|_| Vec::new(), |loaded| loaded.users);
            let has_theirs = users.iter().any(|(_, user, _)| *user == self.user);
            assert!(!has_theirs, "who is forgotten is in {}/{name}", store.key());
        }
    }

    /// The definitions that were added count, in a generation, what comes from an offset of each partition on.
    fn check_later_definitions(
        &self,
        case: &Case,
        model: &Model,
        generation: u32,
        since: impl Fn(i32) -> Option<i64>,
    ) {
        let later: BTreeSet<u64> = model
            .newest("definition_rows")
            .filter(|row| text(row, "name") == LATER && number(row, "generation") == i128::from(generation))
            .map(|row| number(row, "id") as u64)
            .collect();
        let mut truth = self.truth(&case.records);
        truth
            .events
            .retain(|event| since(event.partition).is_some_and(|since| event.offset >= since));
        // What is counted beside and was not taken over is nobody's number yet.
        let users: BTreeSet<i128> = truth.events.iter().map(|event| event.user.into()).collect();
        let origins = self
            .pasts
            .iter()
            .map(|partition| origin_hash("t", *partition, 0).into());
        let origins: BTreeSet<i128> = origins.collect();
        let mut model = model.clone();
        model.retain(|row| {
            let is_of_definition = definition(row).is_none_or(|id| later.contains(&id));
            let is_taken = |name: &str, all: &BTreeSet<i128>| match row.get(name) {
                Some(Value::Number(one)) => all.contains(one),
                _ => true,
            };
            let is_counted_beside = generation == WITH_PAST && row.contains_key("bins");
            is_of_definition
                && is_taken("users", &users)
                && is_taken("user", &users)
                && (!is_counted_beside || is_taken("origin", &origins))
        });
        let model = &model;
        let step = |event: &str| Step {
            events: vec![event.to_owned()],
            optional: false,
            first_time: false,
        };
        let funnel = Funnel {
            steps: vec![step("a"), step("b")],
            within_ms: Some(60 * MINUTE),
            order: Order::Strict,
            ignore: Vec::new(),
            exclude: Vec::new(),
            by_platform: false,
            by_step: ByStep::First,
        };
        // What was taken over holds nothing of who is forgotten: counted again from there to where they were, sums lack
        // what they still did.
        let with_times = generation != WITH_PAST;
        check_funnel(case, &truth, model, (LATER, &funnel), with_times);
        let has_identity = case.rules.link_within_ms.is_some();
        // What was counted otherwise before is left as it was by a link that comes later.
        if case.is_upgraded && has_identity {
            return;
        }
        let is_unseen = |user: u64| has_identity && self.is_left_out(user);
        let found: BTreeSet<_> = active(model)
            .filter(|(_, user)| !is_unseen(*user))
            .map(|(row, user)| (number(row, "day") as i32, user))
            .collect();
        let events = truth.events.iter().filter(|event| event.event == "a");
        let events = events.filter(|event| !is_unseen(event.user));
        let expected = events.map(|event| (truth.day(event.time), event.user));
        assert_eq!(found, expected.collect(), "users of a metric that was added");
    }

    /// Where something was lost, no number is larger than that of all records that were ever sent.
    fn check_nothing_twice(&self, model: &Model) {
        let mut records = self.sent();
        // Who forgets message ids counts a duplicate again; that alone is no error here.
        for (place, record) in records.iter_mut().enumerate() {
            let text = String::from_utf8_lossy(&record.payload);
            let own = text.replace("\"message_id\":\"m", &format!("\"message_id\":\"{place}m"));
            record.payload = own.into_bytes();
        }
        let mut rules = self.case.rules.clone();
        rules.lateness_ms = i64::MAX / 4;
        let most = Truth::new(&records, &rules).event_counts();
        for (key, events) in counts(model) {
            let most = most.get(&key).map_or(0, |(events, _)| *events);
            assert!(
                events <= most,
                "{key:?} happened {most} times, {events} are counted"
            );
        }
    }
}

type CountKey = (String, String, i64, String, String);

fn counts(model: &Model) -> BTreeMap<CountKey, u64> {
    let mut counts = BTreeMap::new();
    for row in model.rows("count_rows") {
        let minute = number(row, "bucket") as i64 * 1000;
        let key = (
            text(row, "app"),
            text(row, "event"),
            minute,
            text(row, "platform"),
            text(row, "channel"),
        );
        *counts.entry(key).or_default() += number(row, "events") as u64;
    }
    counts
}

fn session_key(row: &Row) -> (String, u64, i64) {
    (
        text(row, "app"),
        number(row, "user") as u64,
        number(row, "started_at") as i64,
    )
}

/// What `record_rows` say, of all origins together.
fn accounts(model: &Model) -> BTreeMap<i32, Account> {
    let mut accounts: BTreeMap<i32, Account> = BTreeMap::new();
    for row in model.newest("record_rows") {
        let account = accounts.entry(number(row, "partition") as i32).or_default();
        let value = |name| number(row, name) as u64;
        account.read += value("read");
        account.accepted += value("accepted");
        account.duplicate += value("duplicate");
        account.late += value("late");
        account.rejected += value("rejected");
        account.dropped += value("dropped");
        account.ahead += value("ahead");
    }
    accounts
}
