//! Sessions, by going through a user's events in order.

use serde_json::Value;

use crate::Event;

/// The rules of `[session]` that decide where one ends.
#[derive(Clone, Debug)]
pub struct Rules {
    pub gap_ms: i64,
    pub gap_inclusive: bool,
    pub max_length_ms: Option<i64>,
    pub cut_at_midnight: bool,
    pub client_ids: bool,
    pub ignore: Vec<String>,
    /// The event that is a page, and the property that is its path.
    pub page: Option<(String, String)>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            gap_ms: 30 * 60_000,
            gap_inclusive: true,
            max_length_ms: None,
            cut_at_midnight: false,
            client_ids: false,
            ignore: Vec::new(),
            page: None,
        }
    }
}

/// The text of a property, as a slice has it.
pub fn slice_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => number.as_f64().map(|number| number.to_string()),
        _ => None,
    }
}

/// One session: the places of its events among the user's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub client_id: String,
    pub events: Vec<usize>,
    pub start: i64,
    pub end: i64,
}

impl Session {
    /// The paths of its pages, '' where one has none.
    pub fn pages(&self, events: &[&Event], rules: &Rules) -> Vec<String> {
        let Some((page, path)) = &rules.page else {
            return Vec::new();
        };
        let events = self.events.iter().map(|place| events[*place]);
        events
            .filter(|event| event.event == *page)
            .map(|event| slice_text(&event.properties[path.as_str()]).unwrap_or_default())
            .collect()
    }
}

/// The sessions of one user in one app; `events` in order, `day` the local day of a time.
pub fn sessions(events: &[&Event], rules: &Rules, day: &dyn Fn(i64) -> i32) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for (place, event) in events.iter().enumerate() {
        if rules.ignore.contains(&event.event) {
            continue;
        }
        let client_id = if rules.client_ids {
            event.session_id.clone()
        } else {
            String::new()
        };
        let last = sessions
            .iter_mut()
            .rev()
            .find(|session| session.client_id == client_id);
        match last {
            Some(session) if goes_on(session, event.time, rules, day) => {
                session.events.push(place);
                session.end = event.time;
            }
            _ => sessions.push(Session {
                client_id,
                events: vec![place],
                start: event.time,
                end: event.time,
            }),
        }
    }
    sessions
}

fn goes_on(session: &Session, time: i64, rules: &Rules, day: &dyn Fn(i64) -> i32) -> bool {
    let pause = time - session.end;
    let near = !session.client_id.is_empty()
        || pause < rules.gap_ms
        || (rules.gap_inclusive && pause == rules.gap_ms);
    near && rules
        .max_length_ms
        .is_none_or(|length| time <= session.start + length)
        && (!rules.cut_at_midnight || day(time) == day(session.end))
}
