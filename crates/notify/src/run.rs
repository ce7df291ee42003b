//! What runs the rules. Of several processes one evaluates: the one that owns the only partition of the journal.
//!
//! Each change of an alert is appended to the journal before anything is said of it, and read back: an entry of
//! another leader in between means that another has taken over. That a message was sent is appended behind. So a
//! message goes out once or, where the process ended exactly between the two, again with the same id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use cambium_alerts::{Alert, State, Tracker, Verdict};
use cambium_clickhouse::{Client, Tables};
use cambium_engine::Rows;
use cambium_kafka::{Journal, JournalWriter};

use crate::Settings;
use crate::deliver::{Deliveries, Outcome, PATIENCE, is_owed, noted};
use crate::explain::explained;
use crate::lines::{Group, Moment};
use crate::meters;
use crate::pulse::{Health, Pulse, lasting};
use crate::register::{Entry, Register, put};
use crate::settings::{BEHIND, BROKER, CLICKHOUSE, CLOCKS, REJECTED};

const TICK: Duration = Duration::from_millis(1000);
const RETRY: Duration = Duration::from_secs(5);
/// A query that takes longer is given up; learning from the past may take longer.
const QUERY_PATIENCE: Duration = Duration::from_secs(60);
/// Until what was appended is read back.
const READ_BACK: Duration = Duration::from_secs(5);
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
const LAST_CHANCE: Duration = Duration::from_secs(5);
/// The broker is asked so often, and is unreachable when it has not answered for so long.
const ASK_BROKER: Duration = Duration::from_secs(2);
const BROKER_HELD_MS: i64 = 6_000;
/// Until producers and consumers have found a broker again that was away.
const RECONNECT_MS: i64 = 30_000;
const BROKER_AWAY_MS: i64 = 12_000;
/// Processes that see the same broker away give their alerts the same id.
const SAME_OUTAGE_MS: i64 = 600_000;

pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

/// Evaluates the rules until `stop` is set, whenever it is this process's turn; `has_joined` is set once it may
/// come to be.
pub async fn run(
    settings: Settings,
    client: Client,
    stop: Arc<AtomicBool>,
    has_joined: Arc<AtomicBool>,
) -> Result<()> {
    let journal = Arc::new(Journal::new(settings.journal.clone())?);
    let broker = Arc::new(Broker::new());
    let asking = tokio::spawn(ask_broker(journal.clone(), broker.clone()));
    let mut lookout = Lookout::new();
    let mut said = String::new();
    loop {
        let joined = tokio::select! {
            joined = journal.join() => joined,
            () = stopped(&stop) => return Ok(()),
        };
        let Err(error) = joined else { break };
        let text = format!("alerts: {error:#}; trying again");
        if said != text {
            tracing::warn!("{text}");
            said = text;
        }
        lookout.look(&settings, broker.answered_at(), &client, None).await;
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stopped(&stop) => return Ok(()),
        }
    }
    has_joined.store(true, Ordering::Relaxed);
    let mut desk = Desk {
        me: format!("{}-{}", std::process::id(), now_ms()),
        settings,
        client,
        journal,
        turn: None,
        leads: false,
        register: Register::default(),
        groups: Vec::new(),
        pulse: Pulse::default(),
        pipeline: BTreeMap::new(),
        deliveries: Deliveries::new(PATIENCE),
        outcomes: Vec::new(),
        unsaid: Vec::new(),
        is_held: true,
    };
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let writer = desk.journal.writer().clone();
        lookout
            .look(&desk.settings, broker.answered_at(), &desk.client, Some(&writer))
            .await;
        if let Err(error) = desk.tick(&broker).await {
            tracing::warn!("alerts: {error:#}");
        }
        desk.show();
    }
    asking.abort();
    desk.deliveries.finish(LAST_CHANCE).await;
    desk.note_deliveries().await
}

async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// When the broker answered last, and when it was last seen to be away: by who asks it and does nothing else, because
/// a turn of the desk may wait for the broker itself, and see nothing of an outage.
struct Broker {
    answered_at: AtomicI64,
    away_at: AtomicI64,
}

impl Broker {
    fn new() -> Broker {
        Broker {
            answered_at: AtomicI64::new(now_ms()),
            away_at: AtomicI64::new(i64::MIN / 2),
        }
    }

    fn answered_at(&self) -> i64 {
        self.answered_at.load(Ordering::Relaxed)
    }

    fn away_at(&self) -> i64 {
        self.away_at.load(Ordering::Relaxed)
    }

    /// It was asked, and answered or did not.
    fn note(&self, has_answered: bool, now: i64) {
        if now - self.answered_at() >= BROKER_HELD_MS {
            self.away_at.store(now, Ordering::Relaxed);
        }
        if has_answered {
            self.answered_at.store(now, Ordering::Relaxed);
        }
    }
}

async fn ask_broker(journal: Arc<Journal>, broker: Arc<Broker>) {
    loop {
        let has_answered = journal.topics().await.is_ok();
        broker.note(has_answered, now_ms());
        tokio::time::sleep(ASK_BROKER).await;
    }
}

/// Watches the broker. Where it is the broker that is away, there is no journal to agree by: each process that sees
/// it says so on its own.
struct Lookout {
    tracker: Tracker,
    deliveries: Deliveries,
}

impl Lookout {
    fn new() -> Lookout {
        Lookout {
            tracker: Tracker::default(),
            deliveries: Deliveries::new(PATIENCE),
        }
    }

    async fn look(
        &mut self,
        settings: &Settings,
        answered_at: i64,
        client: &Client,
        writer: Option<&JournalWriter>,
    ) {
        for outcome in self.deliveries.done() {
            if let Some(alert) = &mut self.tracker.alert {
                *alert = noted(alert, &outcome);
            }
            self.record(client, writer).await;
            if let Some(alert) = self.tracker.alert.clone() {
                self.deliveries.start(&alert, &settings.channels);
            }
        }
        let Some(rule) = settings.rule(BROKER) else { return };
        let now = now_ms();
        let verdict = lasting(now - answered_at, BROKER_AWAY_MS);
        let changed = self.tracker.step(rule, "", &verdict, now);
        meters::broker(self.tracker.is_on());
        if changed.is_none() {
            return;
        }
        let Some(alert) = &mut self.tracker.alert else {
            return;
        };
        if alert.state == State::Firing {
            alert.started_at = answered_at;
            alert.id = format!("broker-{}", answered_at / SAME_OUTAGE_MS);
            alert.evidence.note = format!("Kafka at {} does not answer", settings.journal.brokers);
        }
        let known = Register::default();
        if let Some(settled) = known.settled(alert, settings, now) {
            *alert = settled;
        }
        tracing::warn!("alert {}: {} is {}", alert.id, alert.rule, alert.state.name());
        self.deliveries.start(&alert.clone(), &settings.channels);
        self.record(client, writer).await;
    }

    /// Leaves the alert where it can be read, as far as that can be reached.
    async fn record(&self, client: &Client, writer: Option<&JournalWriter>) {
        let Some(alert) = &self.tracker.alert else { return };
        let entry = Entry::Alert(Box::new(alert.clone()));
        if alert.state == State::Resolved
            && let (Some(writer), Ok(payload)) = (writer, serde_json::to_vec(&entry))
            && let Err(error) = writer.append(&entry.key(), &payload).await
        {
            tracing::debug!("alerts: {error:#}");
        }
        let mut rows = Rows::default();
        // The journal has no place for it while it lasts: time gives the order.
        let version = now_ms().max(0) as u64;
        if put(&mut rows, alert, version).is_ok() {
            let _ = tokio::time::timeout(WRITE_PATIENCE, client.write(&rows)).await;
        }
    }
}

/// Where alerts are decided on and written down.
struct Desk {
    /// Tells this leader from others.
    me: String,
    settings: Settings,
    client: Client,
    journal: Arc<Journal>,
    turn: Option<u64>,
    leads: bool,
    register: Register,
    groups: Vec<Group>,
    pulse: Pulse,
    pipeline: BTreeMap<&'static str, Tracker>,
    deliveries: Deliveries,
    /// What was sent and is not written down yet.
    outcomes: Vec<Outcome>,
    /// Changes that the journal did not take yet.
    unsaid: Vec<Alert>,
    is_held: bool,
}

impl Desk {
    async fn tick(&mut self, broker: &Broker) -> Result<()> {
        self.take_turns().await?;
        if !self.leads {
            return Ok(());
        }
        self.note_deliveries().await?;
        let mut unsaid = std::mem::take(&mut self.unsaid).into_iter();
        while let Some(alert) = unsaid.next() {
            if let Err(error) = self.change(alert).await {
                self.unsaid.extend(unsaid);
                return Err(error);
            }
        }
        let now = now_ms();
        let health = self.pulse.look(&self.client, &self.settings.topics, now).await;
        self.watch_pipeline(&health, now).await?;
        self.watch_metrics(&health, broker).await?;
        self.settle().await?;
        if self.register.has_unwritten() && self.pulse_is_well(&health) {
            let written = self.register.write(&self.client, now);
            let written = tokio::time::timeout(WRITE_PATIENCE, written).await;
            written.context("ClickHouse did not take alerts in time")??;
        }
        Ok(())
    }

    fn show(&self) {
        meters::turn(self.leads, self.is_held);
        let known = self.register.alerts().filter(|_| self.leads);
        meters::alerts(&self.settings, &known.collect::<Vec<_>>());
    }

    fn pulse_is_well(&self, health: &Health) -> bool {
        !health.clickhouse.breaches
    }

    /// Follows the journal, and takes over where its partition has become ours.
    async fn take_turns(&mut self) -> Result<()> {
        let turn = self.journal.turn();
        if turn != self.turn {
            self.step_down();
            self.turn = turn;
            if turn.is_some() {
                self.register = Register::default();
                let entry = Entry::Leader {
                    name: self.me.clone(),
                };
                let offset = self.append(&entry).await?;
                self.read_to(offset).await?;
                self.leads = true;
                self.begin();
            }
        }
        self.follow()
    }

    fn step_down(&mut self) {
        if self.leads {
            tracing::info!("alerts: another process evaluates the rules now");
        }
        self.leads = false;
        self.deliveries.stop();
        self.outcomes.clear();
        self.groups.clear();
        self.unsaid.clear();
    }

    fn begin(&mut self) {
        tracing::info!(
            "alerts: this process evaluates {} rules",
            self.settings.rules.len()
        );
        self.pulse = Pulse::default();
        self.is_held = true;
        let metrics = self.settings.rules.iter().filter(|rule| rule.is_metric());
        self.groups = metrics.flat_map(|rule| Group::of(rule, &self.settings)).collect();
        self.pipeline = [BEHIND, CLICKHOUSE, REJECTED, CLOCKS]
            .into_iter()
            .map(|name| (name, self.register.tracker(name, "")))
            .collect();
    }

    /// Takes what the journal has; another's entry of having taken over ends this one's turn.
    fn follow(&mut self) -> Result<()> {
        for entry in self.journal.poll()? {
            if let Some(changed) = self.register.take(&entry) {
                self.unsaid.push(changed);
            }
        }
        if self.leads && self.register.leader.as_ref() != Some(&self.me) {
            self.step_down();
        }
        Ok(())
    }

    async fn append(&self, entry: &Entry) -> Result<i64> {
        let payload = serde_json::to_vec(entry).context("an entry of the journal cannot be written")?;
        self.journal.writer().append(&entry.key(), &payload).await
    }

    /// Reads until an entry of one's own comes back.
    async fn read_to(&mut self, offset: i64) -> Result<()> {
        let deadline = tokio::time::Instant::now() + READ_BACK;
        loop {
            let entries = self.journal.poll()?;
            let is_there = entries.iter().any(|entry| entry.offset >= offset);
            for entry in entries {
                if let Some(changed) = self.register.take(&entry) {
                    self.unsaid.push(changed);
                }
            }
            if is_there {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("the journal does not give back what was written");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Writes a change down, and only then says it; who leads no more does neither.
    async fn change(&mut self, alert: Alert) -> Result<()> {
        if !self.leads {
            return Ok(());
        }
        let mut alert = alert;
        if let Some(known) = self.register.get(&alert.id) {
            // What was said meanwhile was not known to who followed the number.
            alert.told.clone_from(&known.told);
        }
        if let Some(settled) = self.register.settled(&alert, &self.settings, now_ms()) {
            alert = settled;
        }
        let written = self.append(&Entry::Alert(Box::new(alert.clone()))).await;
        let offset = match written {
            Ok(offset) => offset,
            Err(error) => {
                self.unsaid.push(alert);
                return Err(error);
            }
        };
        self.read_to(offset).await?;
        self.follow()?;
        if self.leads {
            tracing::info!(
                "alert {}: {} {} is {}",
                alert.id,
                alert.rule,
                alert.slice,
                alert.state.name()
            );
            // Whoever is told finds the same in the metrics.
            self.show();
            self.deliveries.start(&alert, &self.settings.channels);
        }
        Ok(())
    }

    /// Writes down what was sent.
    async fn note_deliveries(&mut self) -> Result<()> {
        self.outcomes.extend(self.deliveries.done());
        while let Some(outcome) = self.outcomes.first() {
            if let Some(alert) = self.register.get(&outcome.id) {
                let noted = noted(alert, outcome);
                let offset = self.append(&Entry::Alert(Box::new(noted))).await?;
                self.read_to(offset).await?;
            }
            self.outcomes.remove(0);
        }
        Ok(())
    }

    /// What time alone changes: a silence that ends, quiet hours that are over, messages that a leader before left.
    async fn settle(&mut self) -> Result<()> {
        let now = now_ms();
        let changed: Vec<Alert> = self
            .register
            .alerts()
            .filter(|alert| alert.rule != BROKER)
            .filter_map(|alert| self.register.settled(alert, &self.settings, now))
            .collect();
        for alert in changed {
            self.change(alert).await?;
        }
        let owed: Vec<Alert> = self
            .register
            .alerts()
            .filter(|alert| alert.rule != BROKER && is_owed(alert))
            .cloned()
            .collect();
        for alert in owed {
            self.deliveries.start(&alert, &self.settings.channels);
        }
        Ok(())
    }

    async fn watch_pipeline(&mut self, health: &Health, now: i64) -> Result<()> {
        let verdicts = [
            (BEHIND, health.behind.clone()),
            (CLICKHOUSE, Some(health.clickhouse.clone())),
            (REJECTED, health.rejected.clone()),
            (CLOCKS, health.ahead.clone()),
        ];
        for (name, verdict) in verdicts {
            let (Some(verdict), Some(rule)) = (verdict, self.settings.rule(name).cloned()) else {
                continue;
            };
            let Some(tracker) = self.pipeline.get_mut(name) else {
                continue;
            };
            if let Some(mut alert) = tracker.step(&rule, "", &verdict, now) {
                noted_pipeline(&mut alert, &verdict);
                tracker.alert = Some(alert.clone());
                self.change(alert).await?;
            }
        }
        Ok(())
    }

    /// Metric rules are held while the numbers are not those of now.
    async fn watch_metrics(&mut self, health: &Health, broker: &Broker) -> Result<()> {
        let (now, answered_at) = (now_ms(), broker.answered_at());
        let is_settled = now - answered_at < BROKER_HELD_MS && now - broker.away_at() > RECONNECT_MS;
        let Some(as_of_ms) = health.as_of_ms.filter(|_| is_settled) else {
            if !self.is_held {
                tracing::info!("alerts: the numbers are behind; metric rules are held");
                self.groups.iter_mut().for_each(|group| group.interrupt(None));
            }
            self.is_held = true;
            return Ok(());
        };
        if self.is_held {
            self.is_held = false;
            self.groups
                .iter_mut()
                .for_each(|group| group.interrupt(Some(as_of_ms)));
        }
        let mut changed: Vec<(usize, Alert)> = Vec::new();
        for (index, group) in self.groups.iter_mut().enumerate() {
            let now = now_ms();
            if !group.is_due(now) {
                continue;
            }
            let moment = Moment {
                as_of_ms,
                // What a broker holds that does not answer nobody can know.
                unread_ms: health.unread_ms.max(as_of_ms - answered_at),
                now_ms: now,
            };
            let step = group.step(&self.client, &self.settings, &self.register, moment);
            match tokio::time::timeout(QUERY_PATIENCE, step).await {
                Ok(Ok(alerts)) => changed.extend(alerts.into_iter().map(|alert| (index, alert))),
                Ok(Err(error)) => tracing::warn!("alerts: {error:#}"),
                Err(_) => tracing::warn!("alerts: {}: the query takes too long", group.rule.name),
            }
        }
        self.write_down(changed).await
    }

    /// Writes down what changed in groups. What is found while the journal takes nothing is found in numbers that
    /// may lack what the broker has: it is taken back, and found again if it is so.
    async fn write_down(&mut self, changed: Vec<(usize, Alert)>) -> Result<()> {
        let mut written = Ok(());
        for (index, alert) in changed {
            // Another may have taken over at the change before.
            if !self.leads {
                break;
            }
            let Some(alert) = explained(&mut self.groups, &self.register, index, alert, now_ms()) else {
                continue;
            };
            if written.is_ok() {
                written = self.change(alert.clone()).await;
            } else {
                self.unsaid.push(alert.clone());
            }
            let is_unsaid = self.unsaid.iter().any(|unsaid| unsaid.id == alert.id);
            if is_unsaid && matches!(alert.state, State::Pending | State::Firing) {
                self.unsaid.retain(|unsaid| unsaid.id != alert.id);
                self.groups[index].take_back(&alert.slice);
            }
        }
        written
    }
}

/// Says what a pipeline's number is.
fn noted_pipeline(alert: &mut Alert, verdict: &Verdict) {
    let value = verdict
        .telling()
        .and_then(|look| look.judgement.value)
        .unwrap_or(0.0);
    let note = match alert.rule.as_str() {
        BEHIND => format!("the numbers are {value:.0} s behind the log; metric alerts are held"),
        CLICKHOUSE => format!("ClickHouse has not answered for {value:.0} s; metric alerts are held"),
        REJECTED => format!(
            "{:.1} % of the records are rejected; see rejected_events",
            value * 100.0
        ),
        _ => format!(
            "{:.1} % of the events come from the future: clocks of producers are wrong",
            value * 100.0
        ),
    };
    if alert.state == State::Firing {
        alert.evidence.note = note;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_seen_whether_or_not_anybody_looked_meanwhile() {
        let broker = Broker::new();
        let begun = broker.answered_at();
        let ask = |after_ms: i64, has_answered| {
            broker.note(has_answered, begun + after_ms);
            (broker.answered_at() - begun, broker.away_at() - begun)
        };
        let never = ask(2_000, true).1;
        assert!(never < -RECONNECT_MS);
        // One answer that is missing is no outage.
        assert_eq!(ask(4_000, false), (2_000, never));
        assert_eq!(ask(6_000, true), (6_000, never));
        assert_eq!(ask(12_000, false), (6_000, 12_000));
        // It answers again, after a question that took long.
        assert_eq!(ask(40_000, true), (40_000, 40_000));
        assert_eq!(ask(42_000, true), (42_000, 40_000));
    }
}
