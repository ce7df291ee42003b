//! The common funnel, followed in one pass: steps in their order, none optional, none a first time, nothing excluded.
//!
//! Where no two events that matter share an instant there is nothing to match: the next step is done by the next event
//! that fits it. For each event and step the place of that next one is worked out from the last event to the first,
//! so that all tries together cost what one walk over the events costs. Anything else is for [`crate::follow`], which
//! finds the same where both can.

use smallvec::SmallVec;

use crate::definition::Order;
use crate::follow::Reached;
use crate::history::Seen;
use crate::{Funnel, Span};

/// Room that is used again from user to user.
#[derive(Default)]
pub(crate) struct Ahead {
    /// For each event from `begin` on, and one behind the last, and each step: the place of the first event from there
    /// on that fits the step.
    next: Vec<u32>,
    begin: usize,
    /// How long a try may take.
    within_ms: i64,
}

const NONE: u32 = u32::MAX;

impl Funnel {
    /// How long a try may take, where tries are as simple as that.
    fn straight_within_ms(&self) -> Option<i64> {
        let is_plain = self.order == Order::InOrder
            && self.excludes.is_empty()
            && self.steps.iter().all(|step| !step.optional && !step.first_time);
        match self.within {
            Span::Milliseconds(within) if is_plain => Some(within),
            _ => None,
        }
    }

    /// Looks ahead from all events from `begin` on; false: they must be followed one by one.
    pub(crate) fn look_ahead(&self, seen: &[Seen], begin: usize, ahead: &mut Ahead) -> bool {
        let is_apart = || seen[begin..].windows(2).all(|two| two[0].time != two[1].time);
        let Some(within_ms) = self.straight_within_ms().filter(|_| is_apart()) else {
            return false;
        };
        let steps = self.steps.len();
        (ahead.begin, ahead.within_ms) = (begin, within_ms);
        ahead.next.clear();
        ahead.next.resize((seen.len() - begin + 1) * steps, NONE);
        for place in (begin..seen.len()).rev() {
            let at = (place - begin) * steps;
            ahead.next.copy_within(at + steps..at + 2 * steps, at);
            for step in (0..steps).filter(|step| seen[place].steps & (1 << step) != 0) {
                ahead.next[at + step] = place as u32;
            }
        }
        true
    }

    /// What the try that an event begins reaches.
    pub(crate) fn follow_straight(&self, seen: &[Seen], start: usize, ahead: &Ahead) -> Reached {
        let (end, steps) = (seen[start].time.saturating_add(ahead.within_ms), self.steps.len());
        let mut by: SmallVec<_> = smallvec::smallvec![None; steps];
        by[0] = Some(start);
        let mut place = start;
        for (step, done) in by.iter_mut().enumerate().skip(1) {
            let next = ahead.next[(place + 1 - ahead.begin) * steps + step];
            if next == NONE || seen[next as usize].time > end {
                break;
            }
            place = next as usize;
            *done = Some(place);
        }
        Reached { by }
    }
}
