//! Devices that become their users.
//!
//! A link takes what the device did, as far as it reaches, out of the device's state and applies it to the user's, like
//! events that come late. What the device's state is without it is worked out from what was known before the records that
//! are kept of it: in each processor the difference is then taken out of where the device was counted.

use cambium_event::{Decoders, Event, Record, Rejection};

use super::{Accepted, App, Ids, Partition};
use crate::devices::{Device, Headers, Kept, Known};
use crate::{
    Bug, Context, Identity, Input, List, Map, Names, Renames, Replaced, Rows, SnapshotError, Times, bug,
};

/// What a device that did more did before a link stays its own: it is a machine, and would fill the memory.
const MOST_KEPT: usize = 10_000;

/// What an event has to do with a device.
#[derive(Clone, Copy)]
pub(super) struct Whose {
    /// Its user is a device that may still become somebody's.
    pub is_guest: bool,
    /// The device that it names beside its user.
    pub device: Option<u64>,
}

impl Whose {
    /// Nothing: it is its user's.
    #[inline]
    pub fn its_own() -> Whose {
        Whose {
            is_guest: false,
            device: None,
        }
    }
}

impl<L: List> App<L> {
    /// What a context of the device's own past is: events are counted one by one, each as the newest that may come, and
    /// nothing else is changed by it.
    fn looking_back<'a>(
        &'a self,
        rows: &'a mut Rows,
        names: &'a mut Names,
        watermark: i64,
        input: &Input<'_>,
    ) -> Context<'a> {
        let times = Times {
            late_before: i64::MIN,
            ..self.times()
        };
        let as_of = watermark.min(input.time.saturating_add(times.reach_ms()));
        Context::of_app(&self.name, times, (rows, names), input.version, as_of)
    }
}

/// Reads records again that were kept. None where one cannot be read any more.
fn read_again<R>(
    decoders: &Decoders,
    log: &[Kept],
    use_events: impl FnOnce(&[(&Kept, &Event<'_>)]) -> R,
) -> Option<R> {
    let headers: Vec<Headers<'_>> = log.iter().map(Kept::headers).collect();
    let records: Vec<Record<'_>> = log
        .iter()
        .zip(&headers)
        .map(|(kept, headers)| kept.record(headers))
        .collect();
    decoders.read_together(&records, |events| {
        for (event, kept) in events.iter_mut().zip(log) {
            if let Ok(event) = event {
                event.time = kept.time;
            }
        }
        let events: Result<Vec<&Event<'_>>, &Rejection> = events.iter().map(Result::as_ref).collect();
        let events: Vec<_> = log.iter().zip(events.ok()?).collect();
        Some(use_events(&events))
    })
}

/// An event that is looked at once more.
fn input_again<'e>(names: &mut Names, kept: &Kept, event: &'e Event<'e>, user: u64) -> Input<'e> {
    Input {
        is_moved: true,
        ..Input::new(names, event, (user, kept.time), (kept.place, kept.version))
    }
}

/// An event names this id as a user's: it is no device, and what was kept of it as such is its own for good.
pub(super) fn note_user<L: List>(instances: &mut L::Instances, parts: &mut L::Parts) {
    if let Some((_, known)) = L::of::<Identity>(instances, parts)
        && !matches!(known, Known::Device(device) if device.has_user())
    {
        *known = Known::User;
    }
}

/// What a partition that takes another's state over knew of a device: the records that were kept, and its parts before
/// them.
pub(super) struct KnownBefore<P> {
    log: Vec<(i64, i64)>,
    parts: P,
}

/// To be asked before the other's parts come to stand beside these. None where devices and users are kept apart.
pub(super) fn known_before<L: List>(
    instances: &mut L::Instances,
    parts: &mut L::Parts,
) -> Result<Option<KnownBefore<L::Parts>>, SnapshotError> {
    let Some((_, known)) = L::of::<Identity>(instances, parts) else {
        return Ok(None);
    };
    let (log, before) = match known {
        Known::Device(device) if !device.log.is_empty() => {
            let log = device.log.iter().map(|kept| (kept.time, kept.place));
            (log.collect(), std::mem::take(&mut device.before))
        }
        // Nothing of what a link reaches is counted: what is known is what was known before.
        _ => (Vec::new(), encoded(parts)?),
    };
    Ok(Some(KnownBefore {
        log,
        parts: decoded(&before)?,
    }))
}

/// What both knew of a device before the records that are kept of it. Where that does not go together, since one began to
/// count later, no link reaches back there.
pub(super) fn join_before<L: List>(
    instances: &mut L::Instances,
    parts: &mut L::Parts,
    own: Option<KnownBefore<L::Parts>>,
    renames: &Renames,
    slots: &Map<u32, u32>,
) -> Result<(), SnapshotError> {
    let (Some(mut own), Some((_, Known::Device(device)))) = (own, L::of::<Identity>(instances, parts)) else {
        return Ok(());
    };
    let theirs = device.log.iter().map(|kept| (kept.time, kept.place));
    if !own.log.is_empty() && !theirs.eq(own.log.iter().copied()) {
        device.log = Vec::new();
    }
    if device.log.is_empty() {
        device.before = Vec::new();
        return Ok(());
    }
    let before = decoded(&std::mem::take(&mut device.before))?;
    L::take_over_parts(instances, &mut own.parts, before, renames, slots);
    let joined = encoded(&own.parts)?;
    if let Some((_, Known::Device(device))) = L::of::<Identity>(instances, parts) {
        device.before = joined;
    }
    Ok(())
}

/// The parts of somebody; of whom there are no bytes, those of nobody.
fn decoded<P: Default + serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<P, SnapshotError> {
    match bytes {
        [] => Ok(P::default()),
        bytes => postcard::from_bytes(bytes).map_err(|_| SnapshotError::User),
    }
}

fn encoded<P: serde::Serialize>(parts: &P) -> Result<Vec<u8>, SnapshotError> {
    postcard::to_stdvec(parts).map_err(|_| SnapshotError::User)
}

impl<L: List> Partition<L> {
    /// Whose an event is, as far as is known: the user's whom it names; or of the user whom its device belongs to.
    pub(super) fn whose(
        &mut self,
        number: usize,
        event: &Event<'_>,
        (own, link_within_ms): (u64, i64),
    ) -> Result<(u64, Whose), SnapshotError> {
        let app = &mut self.apps[number];
        let (mut user, mut whose) = (own, Whose::its_own());
        if !event.user_id.is_empty() {
            let device = (!event.anonymous_id.is_empty()).then(|| self.key.user(event.anonymous_id));
            whose.device = device.filter(|device| *device != own);
            return Ok((user, whose));
        }
        let watermark = self.watermark.unwrap_or(event.time);
        let visit = app.users.visit(own)?;
        match L::part_of::<Identity>(&app.instances, &visit.user.parts) {
            None | Some(Known::Nothing) => whose.is_guest = true,
            Some(Known::User) => {}
            Some(Known::Device(device)) => {
                whose.is_guest = !device.has_user();
                if let Some(owner) = device.user_at(event.time, link_within_ms) {
                    user = owner;
                    // The device is there, though nothing is counted of it.
                    self.captures.change(number as u32, own, visit.user)?;
                    visit.user.last_seen = visit.user.last_seen.max(event.time);
                }
            }
        }
        visit.note(watermark);
        Ok((user, whose))
    }

    /// Before an event of a device is counted that may still become somebody's: keeps its record, and what was known
    /// before it where it is the first.
    pub(super) fn keep_for_link(
        &mut self,
        number: usize,
        id: u64,
        kept: Kept,
        decoders: &Decoders,
    ) -> Result<(), SnapshotError> {
        let watermark = self.watermark.unwrap_or(kept.time);
        let app = &mut self.apps[number];
        let reach = Device::out_of_reach(app.times().cutoff(watermark));
        let user = app.users.visit(id)?.user;
        self.captures.change(number as u32, id, user)?;
        let is_new = user.is_new();
        let Some((_, known)) = L::of::<Identity>(&mut app.instances, &mut user.parts) else {
            return Ok(());
        };
        let mut device = match std::mem::take(known) {
            Known::Device(device) => device,
            Known::Nothing | Known::User => Box::default(),
        };
        if device.log.last().is_none_or(|last| last.time < reach) {
            device.log.clear();
            device.before = if is_new { Vec::new() } else { encoded(&user.parts)? };
        } else if device.log.len() == MOST_KEPT {
            return self.put_known(number, id, Known::Device(device));
        } else if device.log[0].time < reach - crate::DAY_MS {
            self.forget_reach(number, &mut device, reach, decoders)?;
        }
        device.keep(kept);
        self.put_known(number, id, Known::Device(device))
    }

    fn put_known(&mut self, number: usize, id: u64, known: Known) -> Result<(), SnapshotError> {
        let app = &mut self.apps[number];
        let user = app.users.visit(id)?.user;
        if let Some((_, place)) = L::of::<Identity>(&mut app.instances, &mut user.parts) {
            *place = known;
        }
        Ok(())
    }

    /// Of the records that are kept of a device those that no link reaches any more go into what was known before them.
    fn forget_reach(
        &mut self,
        number: usize,
        device: &mut Device,
        reach: i64,
        decoders: &Decoders,
    ) -> Result<(), SnapshotError> {
        let out = device.log.partition_point(|kept| kept.time < reach);
        let parts = self.worked_out(number, device, out, decoders)?;
        if let Some(parts) = parts {
            device.before = encoded(&parts)?;
            device.log.drain(..out);
        }
        Ok(())
    }

    /// A device's parts after the first records that are kept of it. None where one cannot be read any more.
    fn worked_out(
        &mut self,
        number: usize,
        device: &Device,
        first: usize,
        decoders: &Decoders,
    ) -> Result<Option<L::Parts>, SnapshotError> {
        let mut parts: L::Parts = decoded(&device.before)?;
        let watermark = self.watermark.unwrap_or(0);
        let (app, names) = (&self.apps[number], &mut self.names);
        let done = read_again(decoders, &device.log[..first], |events| {
            for (kept, event) in events {
                let input = input_again(names, kept, event, 0);
                let mut nowhere = Rows::default();
                let mut context = app.looking_back(&mut nowhere, names, watermark, &input);
                L::work_out(&app.instances, &mut parts, &input, &mut context);
            }
        });
        Ok(done.map(|()| parts))
    }

    /// A device comes to be a user's, from a link of this time on; and as far before it as a link reaches, where it is the
    /// first.
    pub(super) fn link(
        &mut self,
        number: usize,
        id: u64,
        (user, time): (u64, i64),
        decoders: &Decoders,
    ) -> Result<(), SnapshotError> {
        let watermark = self.watermark.unwrap_or(time);
        let app = &mut self.apps[number];
        let times = app.times();
        let accepts_from = times.accepts_from(watermark);
        let visit = app.users.visit(id)?;
        let was_seen = !visit.user.is_new();
        self.captures.change(number as u32, id, visit.user)?;
        visit.user.last_seen = visit.user.last_seen.max(time);
        let Some((links, known)) = L::of::<Identity>(&mut app.instances, &mut visit.user.parts) else {
            return Ok(());
        };
        let mut device = match known {
            // What names users is no device, whatever else it names.
            Known::User => {
                visit.note(watermark);
                return Ok(());
            }
            Known::Device(device) if device.has_user() => {
                device.link(time, user, accepts_from);
                visit.note(watermark);
                return Ok(());
            }
            Known::Device(device) => std::mem::take(device),
            Known::Nothing => Box::default(),
        };
        device.link(time, user, accepts_from);
        let since = time.saturating_sub(times.link_within_ms);
        let stays = device.log.partition_point(|kept| kept.time < since);
        let is_whole = device.log.len() < MOST_KEPT;
        let is_all =
            is_whole && stays == 0 && device.before.is_empty() && (!device.log.is_empty() || !was_seen);
        links.add(!is_all);
        visit.note(watermark);
        if is_whole
            && stays < device.log.len()
            && let Some(without) = self.worked_out(number, &device, stays, decoders)?
        {
            self.move_events(number, (id, without), &device.log, (since, user), decoders)?;
        }
        (device.log, device.before) = (Vec::new(), Vec::new());
        self.put_known(number, id, Known::Device(device))
    }

    /// The events of a device from a time on are counted as a user's.
    fn move_events(
        &mut self,
        number: usize,
        (id, mut without): (u64, L::Parts),
        log: &[Kept],
        (since, user): (i64, u64),
        decoders: &Decoders,
    ) -> Result<(), SnapshotError> {
        let version = self.version();
        let watermark = self.watermark.unwrap_or(0);
        read_again(decoders, log, |events| {
            let again = |names: &mut Names, user| -> Vec<Input<'_>> {
                let events = events.iter();
                events
                    .map(|(kept, event)| input_again(names, kept, event, user))
                    .collect()
            };
            let inputs = again(&mut self.names, id);
            let (stays, moved) = inputs.split_at(inputs.partition_point(|input| input.time < since));
            let app = &mut self.apps[number];
            let times = app.times();
            let visit = app.users.visit(id)?;
            if !std::mem::replace(&mut visit.user.touched.owes, true) {
                self.touched.push_back((number as u32, id));
            }
            let mut nowhere = Rows::default();
            let out = (&mut nowhere, &mut self.names);
            let mut context = Context::of_app(&app.name, times, out, version, watermark);
            L::rest(&mut app.instances, id, &mut without, &mut context);
            let out = (&mut self.rows, &mut self.names);
            let mut context = Context::of_app(&app.name, times, out, version, watermark);
            context.version_behind = if self.is_in_front { version } else { version + 1 };
            context.leave_out(self.left_out.contains_key(&id));
            // What they owe may be settled by now, and is not left by what comes of it without the events that go.
            L::settle(&mut app.instances, id, &mut visit.user.parts, &mut context);
            L::rest(&mut app.instances, id, &mut visit.user.parts, &mut context);
            let replaced = Replaced {
                user: id,
                moved,
                stays,
            };
            let parts = &mut visit.user.parts;
            if !bug(Bug::DeviceStaysCounted) {
                L::replace(&mut app.instances, parts, &mut without, &replaced, &mut context);
            }
            visit.user.parts = without;
            visit.note(watermark);
            // In the order in which they came.
            let mut in_order: Vec<_> = again(&mut self.names, user).into_iter().zip(log).collect();
            in_order.retain(|(input, _)| input.time >= since && !bug(Bug::LinkedEventsLost));
            in_order.sort_by_key(|(input, _)| input.place);
            for (input, kept) in in_order {
                let accepted = Accepted {
                    ids: Ids {
                        user,
                        message: kept.message,
                    },
                    time: kept.time,
                    offset: kept.offset,
                    unless_since: None,
                };
                self.count(number, accepted, |_| input)?;
            }
            Ok(())
        })
        .unwrap_or(Ok(()))
    }
}
