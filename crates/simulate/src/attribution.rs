//! Attribution, straight from the words of the documentation.

use std::collections::BTreeMap;

use crate::{Event, Truth};

const PAUSE_MS: i64 = 30 * 60_000;

/// When a touch began, when its last event was, and its channel.
type Touch = (i64, i64, String);

/// app, day, channel.
pub type ChannelKey = (String, i32, String);

/// How many goals each channel led to: by the first touch, the last one, equal shares, and by position.
pub fn attribution(
    truth: &Truth,
    look_back_ms: i64,
    is_goal: impl Fn(&Event) -> bool,
) -> BTreeMap<ChannelKey, [f64; 4]> {
    let mut credits: BTreeMap<ChannelKey, [f64; 4]> = BTreeMap::new();
    for ((app, _), events) in truth.by_user() {
        for (place, goal) in events.iter().enumerate().filter(|(_, event)| is_goal(event)) {
            let mut touches = touches(&events[..=place]);
            touches.retain(|(begun, _, _)| *begun >= goal.time - look_back_ms);
            if touches.is_empty() {
                touches.push((0, 0, String::new()));
            }
            let last = touches.len() - 1;
            for (place, (_, _, channel)) in touches.iter().enumerate() {
                let is_first = f64::from(u8::from(place == 0));
                let is_last = f64::from(u8::from(place == last));
                let position = match last {
                    0 => 1.0,
                    1 => 0.5,
                    _ if place == 0 || place == last => 0.4,
                    _ => 0.2 / (last - 1) as f64,
                };
                let key = (app.clone(), truth.day(goal.time), channel.clone());
                let credit = credits.entry(key).or_default();
                let shares = [is_first, is_last, 1.0 / touches.len() as f64, position];
                credit
                    .iter_mut()
                    .zip(shares)
                    .for_each(|(sum, share)| *sum += share);
            }
        }
    }
    credits
}

fn touches(events: &[&Event]) -> Vec<Touch> {
    let mut touches: Vec<Touch> = Vec::new();
    for event in events.iter().filter(|event| !event.dimensions[2].is_empty()) {
        let channel = &event.dimensions[2];
        match touches.last_mut() {
            Some((_, last, known)) if known == channel && event.time - *last <= PAUSE_MS => {
                *last = event.time
            }
            _ => touches.push((event.time, event.time, channel.clone())),
        }
    }
    touches
}
