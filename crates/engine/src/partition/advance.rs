//! What happens as the watermark moves, and at a flush.

use cambium_event::TOGETHER;
use smallvec::SmallVec;

use super::{App, Ids, Partition, tables};
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::users::{RESTS, Users};
use crate::{Bug, Context, Identity, List, Names, Processor, Rows, SnapshotError, Times, bug, origin_hash};

/// Who was not touched for so long falls asleep when there is time for it.
const QUIET_MS: i64 = 5 * MINUTE_MS;

impl<L: List> App<L> {
    /// What its processors work on, and what they work with.
    fn open<'a>(
        &'a mut self,
        out: (&'a mut Rows, &'a mut Names),
        version: u64,
        watermark: i64,
    ) -> (&'a mut L::Instances, &'a mut Users<L::Parts>, Context<'a>) {
        let context = Context::of_app(&self.name, self.times(), out, version, watermark);
        (&mut self.instances, &mut self.users, context)
    }

    #[inline]
    pub(super) fn times(&self) -> Times {
        Times {
            rules: self.time,
            link_within_ms: self.link_within_ms.unwrap_or(0),
            late_before: self.late_before,
        }
    }

    /// The times before which users were seen last who have had each rest: first when no event as old as theirs is
    /// accepted any more and most sessions are over, then when nothing of theirs can change. Known to the minute, as
    /// users rest when one begins.
    pub(super) fn rested(&self, watermark: i64) -> [i64; RESTS] {
        let minute = watermark.div_euclid(MINUTE_MS) * MINUTE_MS;
        let cutoff = self.times().cutoff(minute);
        let settled_after_ms = L::settled_after_ms(&self.instances).max(HOUR_MS);
        [HOUR_MS, settled_after_ms].map(|after_ms| cutoff.saturating_sub(after_ms))
    }
}

impl<L: List> Partition<L> {
    /// What changed since the last flush and does not depend on what users owe, as rows: counts and active users. The
    /// number of sessions and tries that changed is that of the users that were touched, and rows of theirs that are
    /// older than the version they bear would be lies: they wait for [`Partition::settle`].
    pub fn flush_running(&mut self) -> Rows {
        self.each_app(|instances, context| L::flush(instances, false, context));
        if self.setup.only.is_none() {
            let origin = origin_hash(&self.topic.name, self.topic.partition, self.start);
            let version = self.version();
            tables::put_records(&mut self.rows, &self.topic, origin, version, &self.account);
        }
        self.rows.take()
    }

    /// Lets some of the users who owe rows leave them, those who have owed them for longest first: where there are many,
    /// it takes a while, and need not be done at once. The rows wait for [`Partition::settle`].
    pub fn settle_some(&mut self, most: usize) -> Result<(), SnapshotError> {
        let version = self.version();
        let watermark = self.watermark.unwrap_or(0);
        let mut left = most.min(self.touched.len());
        while let Some(&(number, _)) = self.touched.front().filter(|_| left > 0) {
            let app = &mut self.apps[number as usize];
            let mut together = SmallVec::<[Ids; TOGETHER]>::new();
            while together.len() < TOGETHER.min(left)
                && let Some((_, user)) = self.touched.pop_front_if(|(of, _)| *of == number)
            {
                together.push(Ids { user, message: None });
            }
            left -= together.len();
            let rows = if self.is_in_front {
                &mut self.rows
            } else {
                &mut self.settled
            };
            let out = (rows, &mut self.names);
            let (instances, users, mut context) = app.open(out, version, watermark);
            users.foresee(&together, L::touch);
            for Ids { user: id, .. } in together {
                let Some(user) = users.hot(id) else { continue };
                self.captures.change(number, id, user)?;
                context.leave_out(self.left_out.contains_key(&id));
                L::settle(instances, id, &mut user.parts, &mut context);
                user.touched.owes = false;
            }
        }
        Ok(())
    }

    /// What users owe, as rows, and what depends on it. Behind [`Partition::flush_running`], with no record in between,
    /// it is all that was still missing.
    pub fn settle(&mut self) -> Result<Rows, SnapshotError> {
        self.settle_touched()?;
        self.flush_aggregates();
        let mut rows = self.settled.take();
        rows.append(self.rows.take());
        Ok(rows)
    }

    /// How many users owe rows.
    pub fn owing(&self) -> usize {
        self.touched.len()
    }

    /// Everything that changed since the last flush, as rows; the state stays as it is.
    pub fn flush(&mut self) -> Result<Rows, SnapshotError> {
        let mut rows = self.flush_running();
        rows.append(self.settle()?);
        self.lay_down_quiet(usize::MAX)?;
        Ok(rows)
    }

    /// Lets some users fall asleep who are not likely to come back soon. Gives how many did. Being awake or asleep
    /// changes no number and no byte of a snapshot: it may be done whenever there is time, best when few owe rows.
    pub fn lay_down_quiet(&mut self, most: usize) -> Result<usize, SnapshotError> {
        let watermark = self.watermark.unwrap_or(0);
        let mut asleep = 0;
        for app in &mut self.apps {
            let most = most - asleep;
            asleep += app.users.lay_down_quiet(watermark - QUIET_MS, watermark, most)?;
        }
        Ok(asleep)
    }

    /// The watermark entered a new minute: rows that are due are left, what no event can change
    /// any more is forgotten, and users who stayed away rest.
    pub(super) fn advance(&mut self, before: i64) -> Result<(), SnapshotError> {
        if self
            .each_app(|instances, context| L::settles_before(instances, context))
            .into_iter()
            .any(|due| due)
        {
            self.settle_touched()?;
        }
        self.each_app(|instances, context| L::advance(instances, context));
        let watermark = self.watermark.unwrap_or(before);
        self.rest(watermark)?;
        if before.div_euclid(DAY_MS) != watermark.div_euclid(DAY_MS) {
            self.forget(watermark)?;
        }
        Ok(())
    }

    /// Lets every user leave the rows they owe.
    pub(super) fn settle_touched(&mut self) -> Result<(), SnapshotError> {
        self.settle_some(usize::MAX)
    }

    pub(super) fn flush_aggregates(&mut self) {
        self.each_app(|instances, context| L::flush(instances, true, context));
    }

    fn each_app<R>(&mut self, mut work: impl FnMut(&mut L::Instances, &mut Context<'_>) -> R) -> Vec<R> {
        let version = self.version();
        let watermark = self.watermark.unwrap_or(0);
        let mut results = Vec::with_capacity(self.apps.len());
        for app in &mut self.apps {
            let (instances, _, mut context) = app.open((&mut self.rows, &mut self.names), version, watermark);
            results.push(work(instances, &mut context));
        }
        results
    }

    /// What no event can change any more is taken out of the states of those who were not seen for that long.
    fn rest(&mut self, watermark: i64) -> Result<(), SnapshotError> {
        let version = self.version();
        for (number, app) in self.apps.iter_mut().enumerate() {
            let accepts_from = app.times().accepts_from(watermark);
            let rested = app.rested(watermark);
            let out = (&mut self.rows, &mut self.names);
            let (instances, users, mut context) = app.open(out, version, watermark);
            for (rest, since) in rested.into_iter().enumerate() {
                for id in users.take_waiting(rest, since) {
                    users.rest(id, (rest, since), |user| {
                        self.captures.change(number as u32, id, user)?;
                        user.recent.forget_before(accepts_from);
                        context.leave_out(self.left_out.contains_key(&id));
                        L::rest(instances, id, &mut user.parts, &mut context);
                        Ok(())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Nothing is kept of users whom the setup says to forget. What they owed is left before.
    pub(super) fn forget_users(&mut self) -> Result<(), SnapshotError> {
        if bug(Bug::ForgottenKept) {
            return Ok(());
        }
        for (number, app) in self.apps.iter_mut().enumerate() {
            for id in &self.setup.forgotten {
                if let Some(mut user) = app.users.take(*id)? {
                    self.captures.change(number as u32, *id, &mut user)?;
                }
            }
        }
        Ok(())
    }

    /// Who was not seen for longer than the horizon is forgotten, but for what is kept for ever.
    fn forget(&mut self, watermark: i64) -> Result<(), SnapshotError> {
        self.settle_touched()?;
        for (number, app) in self.apps.iter_mut().enumerate() {
            let before = watermark.saturating_sub(app.time.horizon_ms);
            let cutoff = app.times().cutoff(watermark);
            if before <= 0 {
                continue;
            }
            for id in app.users.not_seen_since(before) {
                let visit = app.users.visit(id)?;
                self.captures.change(number as u32, id, visit.user)?;
                visit.user.recent = Default::default();
                if L::remember(&app.instances, &mut visit.user.parts, cutoff) {
                    visit.note(watermark);
                } else {
                    app.users.remove(id);
                }
            }
        }
        Ok(())
    }

    /// What no partition does: forgets message ids whatever the log says.
    #[cfg(feature = "bugs")]
    pub fn forget_message_ids(&mut self) -> Result<(), SnapshotError> {
        for app in &mut self.apps {
            for id in app.users.not_seen_since(i64::MAX) {
                app.users.visit(id)?.user.recent = Default::default();
            }
        }
        Ok(())
    }

    pub(super) fn put_all_definitions(&mut self) {
        (0..self.apps.len()).for_each(|app| self.put_definitions(app));
    }

    /// Leaves the rows that say which definitions count an app, and since where.
    pub(super) fn put_definitions(&mut self, app: usize) {
        let started_at = self.watermark.unwrap_or(0);
        let mut in_force = Vec::new();
        L::in_force(&self.apps[app].instances, &mut in_force);
        let is_beside = self.setup.only.is_some();
        let told = in_force
            .iter()
            .filter(|one| !is_beside || one.definition.kind != Identity::KIND);
        for one in told {
            tables::put_definition(&mut self.rows, &self.topic, one, started_at);
        }
    }
}
