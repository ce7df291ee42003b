//! A world of processes, a log, a ClickHouse and a place for snapshots, to which a schedule happens.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use cambium_engine::{Setup, Topic};
use cambium_pipeline::StartError;
use cambium_simulate::truth::hash;
use cambium_simulate::{Dropped, LatenessChange, Record, Rules, Truth, Which};
use cambium_snapshots::{Change, Snapshots, Store};
use fastrand::Rng;

use super::clickhouse::ClickHouse;
use super::log::Log;
use super::process::{Process, Settings, Taking, still_runtime};
use super::schedule::Step;
use super::store::{Lists, Objects};
use crate::replay::case::{Case, HOUR, setup};
use crate::replay::model::{Row, Value};

/// Setups that follow each other: definitions are added, then an event is dropped, and the lateness is another.
const MORE: [&str; 2] = [
    "[[unique]]\nname = \"more\"\nevent = [\"a\"]\n\
     [[funnel]]\nname = \"more\"\nsteps = [\"a\", \"b\"]\nwithin = \"1 h\"\norder = \"strict\"\n",
    "[[drop]]\nwhere = 'event == \"c\"'\n",
];
/// From the setup on that drops an event; what the case has is shorter more often than longer.
const LATER_LATENESS_HOURS: i64 = 12;
/// The setup that drops an event, and the one behind it: a later release, which counts unique users otherwise.
const DROPS: usize = MORE.len();
pub const LATER_RELEASE: usize = MORE.len() + 1;
const DROPPED: &str = "c";
/// The name of those that are added.
pub const LATER: &str = "more";
/// The generation in which they are counted from the beginning.
pub const WITH_PAST: u32 = 1;
const PROCESSES: usize = 3;

pub struct World {
    pub case: Case,
    setups: Vec<Setup>,
    setup: usize,
    settings: Settings,
    sent: usize,
    /// Records of partitions that are not there yet.
    held_back: Vec<Record>,
    pub logs: Vec<Log>,
    pub clickhouse: ClickHouse,
    objects: Objects,
    pub store: Store,
    processes: Vec<Option<Process>>,
    /// From which offset of a partition (as the truth has it) which setup was in force.
    pub in_force: BTreeMap<(i32, i64), usize>,
    /// The partitions on which the definitions that were added have their past.
    pub pasts: BTreeSet<i32>,
    /// A person who may ask to be forgotten, whether they have, and from which offset of a partition on they are (as the
    /// truth has it).
    pub user: u64,
    pub is_forgotten: bool,
    forgotten_from: BTreeMap<i32, i64>,
    /// Whether something was lost, as a start has said: the numbers are no longer those of all records.
    pub is_lossy: bool,
    pub seen: Seen,
    random: Rng,
}

/// What came about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub starts: usize,
    pub crashes: usize,
    pub given_up: usize,
    pub refused: usize,
    pub later_setups: usize,
    pub later_logs: usize,
    pub pasts: usize,
    pub pasts_taken: usize,
    pub forgotten: usize,
    pub lossy: usize,
}

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.starts += other.starts;
        self.crashes += other.crashes;
        self.given_up += other.given_up;
        self.refused += other.refused;
        self.later_setups += other.later_setups;
        self.later_logs += other.later_logs;
        self.pasts += other.pasts;
        self.pasts_taken += other.pasts_taken;
        self.forgotten += other.forgotten;
        self.lossy += other.lossy;
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Rng::with_seed(seed);
        let case = Case::new(&mut random);
        let mut text = case.configuration.clone();
        let mut setups = vec![setup(&text)];
        for (place, more) in MORE.into_iter().enumerate() {
            text += more;
            if place + 1 == DROPS {
                text = case.with_lateness(&text, LATER_LATENESS_HOURS);
            }
            setups.push(setup(&text));
        }
        let mut of_later_release = setup(&text);
        of_later_release.semantics.insert("unique".to_owned(), 2);
        setups.push(of_later_release);
        let objects = Objects::new();
        let partitions = if random.u8(..3) == 0 { 1 } else { case.partitions };
        World {
            setups,
            setup: 0,
            settings: Settings {
                few: random.usize(..4),
                users_at_a_time: random.usize(1..4),
                keep: random.usize(1..3),
                has_topic_ids: seed % 4 == 3,
            },
            sent: 0,
            held_back: Vec::new(),
            logs: (0..partitions).map(|_| Log::new()).collect(),
            clickhouse: ClickHouse::new(case.partitions),
            store: Store::new(Arc::new(objects.clone())),
            objects,
            processes: (0..PROCESSES).map(|_| None).collect(),
            in_force: BTreeMap::new(),
            pasts: BTreeSet::new(),
            user: somebody(&case, seed),
            is_forgotten: false,
            forgotten_from: BTreeMap::new(),
            is_lossy: false,
            seen: Seen::default(),
            case,
            random,
        }
    }

    /// Everything that was written to ClickHouse and to the store, in its order.
    pub fn digest(&self) -> u64 {
        let mut digest = DefaultHasher::new();
        (self.clickhouse.lock().digest(), self.objects.mood().digest()).hash(&mut digest);
        digest.finish()
    }

    pub fn happen(&mut self, step: Step) {
        match step {
            Step::Append { records } => self.append(records),
            Step::Read {
                owner,
                records,
                again,
            } => {
                self.with_owner(owner, |process, partition, log| {
                    process.read(partition, log, (again, records))
                });
            }
            Step::Tick { owner } => self.tick(owner),
            Step::Pass { process, ms } => {
                if let Some(process) = &self.processes[process % PROCESSES] {
                    process.pass(ms);
                }
            }
            Step::Take { process, partition } => {
                self.take(process % PROCESSES, partition % self.logs.len());
            }
            Step::GiveUp { owner } => self.give_up(owner),
            Step::Crash { process } => self.crash(process % PROCESSES),
            Step::TroubleInserts { troubled, seed } => self.clickhouse.lock().trouble(troubled, seed),
            Step::Outage { is_away } => self.clickhouse.lock().is_away = is_away,
            Step::Arrive { inserts } => self.clickhouse.lock().arrive(inserts),
            Step::TroubleSnapshots { troubled, seed } => self.objects.mood().trouble(troubled, seed),
            Step::List { lists } => self.objects.mood().lists = lists,
            Step::LoseSnapshots { partition } => self.lose_snapshots(partition % self.logs.len()),
            Step::Truncate { partition } => self.truncate(partition % self.logs.len()),
            Step::Recreate { asleep } => self.create_again(asleep),
            Step::Configure => self.configure(),
            Step::GivePast {
                process,
                partition,
                is_cut_off,
            } => self.give_past(process % PROCESSES, partition % self.logs.len(), is_cut_off),
            Step::Forget => self.forget(),
            Step::Grow => self.grow(),
            Step::Ask => self.check_claims(),
        }
    }

    fn append(&mut self, records: usize) {
        for record in self.case.records.iter().skip(self.sent).take(records) {
            self.sent += 1;
            match self.logs.get_mut(record.partition as usize) {
                Some(log) => log.append(record),
                None => self.held_back.push(record.clone()),
            }
        }
    }

    /// Its records were waiting for it.
    fn grow(&mut self) {
        if self.logs.len() == self.case.partitions as usize {
            return;
        }
        self.logs.push(Log::new());
        for record in std::mem::take(&mut self.held_back) {
            match self.logs.get_mut(record.partition as usize) {
                Some(log) => log.append(&record),
                None => self.held_back.push(record),
            }
        }
    }

    /// Those who believe to own a partition: process and partition.
    fn owners(&self) -> Vec<(usize, i32)> {
        let processes = self.processes.iter().enumerate();
        let owners = processes.filter_map(|(place, process)| Some((place, process.as_ref()?)));
        owners
            .flat_map(|(place, process)| process.owners.keys().map(move |partition| (place, *partition)))
            .collect()
    }

    /// Does something with one of them, where there are any. What a process cannot do ends it.
    fn with_owner<R>(
        &mut self,
        owner: usize,
        work: impl FnOnce(&mut Process, i32, &Log) -> anyhow::Result<R>,
    ) -> Option<(i32, R)> {
        let owners = self.owners();
        let (place, partition) = *owners.get(owner.checked_rem(owners.len())?)?;
        let process = self.processes[place].as_mut()?;
        let done = work(process, partition, &self.logs[partition as usize]);
        if done.is_err() {
            self.crash(place);
        }
        Some((partition, done.ok()?))
    }

    fn tick(&mut self, owner: usize) {
        let owners = self.owners();
        let ticked = self.with_owner(owner, |process, partition, log| {
            process.tick(partition, log.end)?;
            Ok(process.wants_to_start_again(partition))
        });
        if let Some((partition, true)) = ticked {
            let (place, _) = owners[owner % owners.len()];
            self.give_up(owner);
            self.take(place, partition as usize);
        }
    }

    fn crash(&mut self, place: usize) {
        self.seen.crashes += usize::from(self.processes[place].take().is_some());
    }

    pub fn topic(&self, partition: usize) -> Topic {
        Topic {
            name: "t".to_owned(),
            partition: partition as i32,
        }
    }

    /// False where the start failed for now.
    fn take(&mut self, place: usize, partition: usize) -> bool {
        if let Some(process) = &self.processes[place]
            && process.owners.contains_key(&(partition as i32))
        {
            return true;
        }
        let taken = self.try_to_take(place, partition, false);
        self.note_setups(partition);
        match taken {
            Ok(()) => true,
            Err(error) => match error.downcast::<StartError>() {
                Ok(refused) => self.accept(place, partition, &refused),
                Err(_) => false,
            },
        }
    }

    pub fn try_to_take(&mut self, place: usize, partition: usize, accept_gap: bool) -> anyhow::Result<()> {
        if self.is_forgotten && !self.forgotten_from.contains_key(&(partition as i32)) {
            self.stop_others(place, partition);
        }
        let topic = self.topic(partition);
        let process = self.processes[place]
            .get_or_insert_with(|| Process::new(&self.settings, self.clickhouse.clone()));
        self.seen.starts += 1;
        process.take(
            &self.logs[partition],
            Taking {
                topic,
                setup: &self.setups[self.setup],
                settings: &self.settings,
                store: &self.store,
                clickhouse: &self.clickhouse,
                accept_gap,
            },
        )
    }

    /// A person lets a start go on that was refused.
    fn accept(&mut self, place: usize, partition: usize, refused: &StartError) -> bool {
        assert!(self.logs[partition].is_cut, "nothing is lost, and yet: {refused}");
        // A list that is not whole refuses as if the rest were lost; a person looks again.
        if self.objects.mood().lists == Lists::Stale {
            return false;
        }
        self.seen.refused += 1;
        let is_another = matches!(
            refused,
            StartError::LogIsAnother { .. }
                | StartError::RecordIsAnother { .. }
                | StartError::TopicIsAnother { .. }
        );
        if !is_another || self.newest_snapshot(partition).is_none() {
            self.stop_others(place, partition);
        }
        let taken = self.try_to_take(place, partition, true).is_ok();
        self.note_setups(partition);
        if let Some(process) = &self.processes[place]
            && let Some(owned) = process.owners.get(&(partition as i32))
        {
            let log = &self.logs[partition];
            let read = owned.owner.partition().account().read;
            let of_earlier = log
                .sent
                .iter()
                .filter(|record| record.offset < log.for_truth(u16::MAX, 0));
            // A new log may have lost its beginning before anybody saw it: what slept through its creation left a snapshot.
            self.is_lossy |= !is_another || read != of_earlier.count() as u64 || log.earliest > 0;
        }
        taken
    }

    /// A person who lets a partition begin anew sees to it that nobody goes on with its old state.
    fn stop_others(&mut self, place: usize, partition: usize) {
        for other in (0..PROCESSES).filter(|other| *other != place) {
            let owns = |process: &Process| process.owners.contains_key(&(partition as i32));
            if self.processes[other].as_ref().is_some_and(owns) {
                self.crash(other);
            }
        }
        self.clickhouse.lock().arrive(usize::MAX);
    }

    /// Remembers from where on which setup is in force.
    fn note_setups(&mut self, partition: usize) {
        let snapshots = self.store.partition(&self.topic(partition), self.settings.keep);
        let journal = still_runtime().block_on(snapshots.journal());
        let log = &self.logs[partition];
        let entries = journal.expect("a journal is never spoilt").into_iter();
        let (mut has_past, mut forgotten_from) = (false, None);
        // Of two at one offset the last one holds.
        let in_force: BTreeMap<i64, usize> = entries
            .map(|entry| {
                let of_entry = entry.setup().map(in_first_generation);
                let setup = self.setups.iter().position(|one| Some(one) == of_entry.as_ref());
                let setup = setup.expect("a setup of this world");
                let offset = log.for_truth(entry.epoch, entry.offset);
                has_past |= matches!(entry.change, Change::Past { .. });
                if entry.setup().is_some_and(|setup| !setup.forgotten.is_empty()) {
                    forgotten_from.get_or_insert(offset);
                }
                (offset, setup)
            })
            .collect();
        if let Some(from) = forgotten_from {
            self.forgotten_from.insert(partition as i32, from);
        }
        if has_past {
            self.pasts.insert(partition as i32);
        } else {
            self.pasts.remove(&(partition as i32));
        }
        for (from, setup) in in_force {
            let before = self.in_force.insert((partition as i32, from), setup);
            assert!(before.is_none_or(|before| before <= setup), "a setup came back");
        }
    }

    /// Somebody asks to be forgotten. Until all processes know of it, none may go on that believes to own a partition and
    /// does not: what it counts cannot be taken back.
    fn forget(&mut self) {
        if self.is_forgotten {
            return;
        }
        // Who runs the command sees that it failed, and runs it again.
        while still_runtime().block_on(self.store.forget(&[self.user])).is_err() {}
        self.is_forgotten = true;
        self.seen.forgotten += 1;
        for partition in 0..self.logs.len() {
            let owners = self.owners().into_iter();
            let mut owners = owners.filter(|(_, owned)| *owned == partition as i32);
            if let Some((first, _)) = owners.next() {
                self.stop_others(first, partition);
            }
        }
    }

    /// What the command deletes when all processes know.
    pub fn delete_rows(&self) {
        let user = i128::from(self.user);
        let is_theirs = |row: &Row| row.get("user").is_some_and(|one| *one == Value::Number(user));
        self.clickhouse.lock().model.retain(|row| !is_theirs(row));
    }

    /// Every file of snapshots on which the person is forgotten, and where it is.
    pub fn snapshot_files(&self) -> Vec<(Snapshots, String)> {
        let mut files = Vec::new();
        for partition in self.forgotten_from.keys() {
            let topic = self.topic(*partition as usize);
            for (prefix, store) in [("", self.store.clone()), ("~taken/", self.store.taken())] {
                let directory = format!("{prefix}t/{partition}");
                for name in self.objects.names(&directory) {
                    if name.ends_with(".full") || name.ends_with(".delta") {
                        files.push((store.partition(&topic, 1), name));
                    }
                }
            }
        }
        files
    }

    /// Counts beside what was added, of a log that is still the first and whole.
    fn give_past(&mut self, place: usize, partition: usize, is_cut_off: bool) {
        let log = &self.logs[partition];
        if self.setup == 0 || log.is_cut || log.creation() > 0 {
            return;
        }
        let mut only = Vec::new();
        let mut setup = self.setups[self.setup].clone();
        for spec in setup.definitions.iter_mut().filter(|spec| spec.name == LATER) {
            spec.generation = WITH_PAST;
            only.push((spec.kind.clone(), spec.name.clone()));
        }
        let with = Taking {
            topic: self.topic(partition),
            setup: &setup,
            settings: &self.settings,
            store: &self.store,
            clickhouse: &self.clickhouse,
            accept_gap: false,
        };
        let process = self.processes[place]
            .get_or_insert_with(|| Process::new(&self.settings, self.clickhouse.clone()));
        match process.count_past(log, with, (&only, is_cut_off)) {
            Ok(false) => {}
            Ok(true) => self.seen.pasts += usize::from(!is_cut_off),
            Err(_) => self.crash(place),
        }
    }

    fn give_up(&mut self, owner: usize) {
        let given_up = self.with_owner(owner, |process, partition, _| process.give_up(partition));
        if let Some((partition, Some(ended))) = given_up {
            self.seen.given_up += 1;
            let (epoch, position) = (ended.partition().epoch(), ended.partition().position());
            let offset = self.logs[partition as usize].for_truth(epoch, position);
            self.check_holds(partition, offset);
        }
    }

    /// The newest snapshot that can be read: its epoch and offset.
    pub fn newest_snapshot(&self, partition: usize) -> Option<(u16, i64)> {
        let mut snapshots = self.store.partition(&self.topic(partition), self.settings.keep);
        let (loaded, _) = still_runtime().block_on(snapshots.load(|_| Ok(()))).ok()?;
        loaded.map(|loaded| (loaded.epoch, loaded.position))
    }

    fn lose_snapshots(&mut self, partition: usize) {
        // Where the log has been cut they are all there is.
        if !self.logs[partition].is_cut || self.random.u8(..4) == 0 {
            self.clear_snapshots(partition);
        }
    }

    pub fn clear_snapshots(&self, partition: usize) {
        let mut snapshots = self.store.partition(&self.topic(partition), self.settings.keep);
        let cleared = still_runtime().block_on(snapshots.clear());
        cleared.expect("they can be deleted");
    }

    fn truncate(&mut self, partition: usize) {
        let log = &self.logs[partition];
        if let Some((epoch, offset)) = self.newest_snapshot(partition)
            && usize::from(epoch) == log.creation()
        {
            self.logs[partition].truncate(offset);
        }
    }

    fn configure(&mut self) {
        if self.setup + 1 == self.setups.len() {
            return;
        }
        self.setup += 1;
        // What was counted cannot be taken back: where less is counted from an offset on, nobody may go on behind it
        // who does not know. Where more is, who goes on with the old definitions is right about them.
        if self.setup == DROPS {
            (0..PROCESSES).for_each(|place| self.crash(place));
            self.clickhouse.lock().arrive(usize::MAX);
        }
        self.seen.later_setups += 1;
    }

    fn create_again(&mut self, asleep: usize) {
        let asleep: Vec<Option<Process>> = self
            .processes
            .iter_mut()
            .take(asleep)
            .map(std::mem::take)
            .collect();
        self.rest();
        for log in &mut self.logs {
            log.create_again();
        }
        self.seen.later_logs += 1;
        // Who slept while somebody was forgotten does not know, and must not go on.
        if self.is_forgotten {
            drop(asleep);
            self.clickhouse.lock().arrive(usize::MAX);
            return;
        }
        for (place, process) in asleep.into_iter().enumerate() {
            self.processes[place] = process;
        }
    }

    /// All is well again: what is under way ends, and each partition is counted to its end and given up.
    pub fn rest(&mut self) {
        {
            let mut server = self.clickhouse.lock();
            (server.is_away, _) = (false, server.trouble(0, 0));
        }
        let mut mood = self.objects.mood();
        mood.trouble(0, 0);
        mood.lists = Lists::Prompt;
        drop(mood);
        let late_ones_first = self.random.bool();
        if late_ones_first {
            self.clickhouse.lock().arrive(usize::MAX);
        }
        for place in 0..PROCESSES {
            if self.random.bool() {
                self.crash(place);
            }
        }
        while !self.owners().is_empty() {
            self.give_up(0);
        }
        for partition in 0..self.logs.len() {
            self.count_to_the_end(partition);
        }
        for process in self.processes.iter().flatten() {
            // What was on its way arrives.
            process.pass(10_000);
        }
        if self.is_forgotten {
            // What waits at the very end of a log is let in by a start.
            (0..self.logs.len()).for_each(|partition| self.count_to_the_end(partition));
            self.clickhouse.lock().arrive(usize::MAX);
            self.delete_rows();
            // Counted again from the beginning, what is theirs does not come back.
            for partition in 0..self.logs.len() {
                let log = &self.logs[partition];
                if !log.is_cut && log.creation() == 0 && self.random.bool() {
                    self.clear_snapshots(partition);
                    self.count_to_the_end(partition);
                    self.count_to_the_end(partition);
                }
            }
        }
        (0..PROCESSES).for_each(|place| self.processes[place] = None);
        self.clickhouse.lock().arrive(usize::MAX);
    }

    fn count_to_the_end(&mut self, partition: usize) {
        assert!(self.take(0, partition), "the last start failed");
        let log = &self.logs[partition];
        let Some(process) = &mut self.processes[0] else {
            return;
        };
        let number = partition as i32;
        // Records wait for what comes into force with a past.
        for _ in 0..1000 {
            process
                .read(number, log, (0, usize::MAX))
                .expect("the rest can be read");
            if process.has_read(number, log) {
                break;
            }
        }
        let ended = process.give_up(number).expect("the last owner ends");
        let ended = ended.expect("the last owner is there");
        // Who gives up where the last snapshot could not be written does not wait for the next; it is written all the same.
        process.pass(1000);
        let account = crate::replay::check::account(ended.partition());
        self.check_account(number, account);
    }

    /// From which offset of a partition on a setup, or a later one, is in force.
    pub fn since(&self, partition: i32, setup: usize) -> Option<i64> {
        let of_partition = self.in_force.range((partition, i64::MIN)..=(partition, i64::MAX));
        let mut since = of_partition.filter(|(_, one)| **one >= setup);
        since.next().map(|((_, from), _)| *from)
    }

    /// How records are judged; what is dropped from where on is what the journals say.
    pub fn rules(&self) -> Rules {
        let partitions = 0..self.case.partitions;
        let drops = partitions.filter_map(|partition| {
            Some(Dropped {
                partition,
                from: self.since(partition, DROPS)?,
                which: Which::Named(DROPPED.to_owned()),
            })
        });
        let of_user = self.forgotten_from.iter().map(|(partition, from)| Dropped {
            partition: *partition,
            from: *from,
            which: Which::OfUser(self.user),
        });
        let partitions = 0..self.case.partitions;
        let lateness_changes = partitions.filter_map(|partition| {
            Some(LatenessChange {
                partition,
                from: self.since(partition, DROPS)?,
                lateness_ms: LATER_LATENESS_HOURS * HOUR,
            })
        });
        Rules {
            lateness_changes: lateness_changes.collect(),
            drops: drops.chain(of_user).collect(),
            ..self.case.rules.clone()
        }
    }
}

/// A user of the case.
fn somebody(case: &Case, seed: u64) -> u64 {
    let mut random = Rng::with_seed(seed);
    let truth = Truth::new(&case.records, &case.rules);
    truth
        .events
        .get(random.usize(..truth.events.len().max(1)))
        .filter(|event| event.names_user)
        .map_or(hash("u0"), |event| event.user)
}

fn in_first_generation(setup: &Setup) -> Setup {
    let mut setup = setup.clone();
    setup.definitions.retain(|spec| spec.generation == 0);
    setup.forgotten.clear();
    setup
}
