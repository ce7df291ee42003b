//! Sessions as pieces of a user's time, for every processor that needs to know where one ends.
//!
//! A piece is a stretch that no cut can fall into. Without a maximum length, pieces that lie within
//! the gap of each other are one piece, whatever the order in which they came. With one, where a
//! session is cut depends on where it began, so events stay apart until nothing earlier can come.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::{Compiler, DefinitionError, Duration, EventNames, Zone};

/// `[session]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    #[serde(default = "half_an_hour")]
    pub gap: Duration,
    /// A pause of exactly the gap: the same session.
    #[serde(default = "yes")]
    pub gap_inclusive: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<Duration>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut_at_midnight: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Page>,
}

fn half_an_hour() -> Duration {
    Duration(30 * crate::MINUTE_MS)
}

fn yes() -> bool {
    true
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            gap: half_an_hour(),
            gap_inclusive: true,
            max_length: None,
            cut_at_midnight: false,
            ignore: Vec::new(),
            id: None,
            page: None,
        }
    }
}

/// Who says which session an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionId {
    /// The event's `session_id`, where it has one.
    Client,
}

/// Which events are pages, and which property is their path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    pub event: EventNames,
    pub property: String,
}

/// What a piece carries; joined in any order.
pub trait Join {
    /// Takes in another; at equal times the other is the later in the log.
    fn join(&mut self, other: Self);
}

impl Join for () {
    fn join(&mut self, (): ()) {}
}

/// A stretch of one session.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece<T> {
    /// 0, or the hash of the client's own session id.
    pub group: u64,
    pub start: i64,
    pub end: i64,
    pub data: T,
    /// Changed since its row was last left.
    pub dirty: bool,
}

impl<T: Serialize> Serialize for Piece<T> {
    /// With its length in the place of its end.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.group, self.start, self.end - self.start, &self.data).serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Piece<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (group, start, lasts, data) = <(u64, i64, i64, T)>::deserialize(deserializer)?;
        Ok(Piece {
            group,
            start,
            end: start.saturating_add(lasts),
            data,
            dirty: false,
        })
    }
}

/// A user's pieces: few have more than one.
pub type Pieces<T> = SmallVec<[Piece<T>; 1]>;

/// Sessions that ceased to exist: their group and start.
pub type Gone = SmallVec<[(u64, i64); 1]>;

/// One session, by the places of its pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub group: u64,
    pub start: i64,
    pub end: i64,
    pub pieces: std::ops::Range<usize>,
}

/// The rules, compiled for one app.
#[derive(Debug)]
pub struct Sessioniser {
    pub rules: Rules,
    zone: Zone,
}

impl Sessioniser {
    pub fn new(rules: Rules, compiler: &Compiler<'_>) -> Result<Self, DefinitionError> {
        if rules.gap.0 <= 0 {
            return Err(DefinitionError::new("gap: must be longer than nothing"));
        }
        if rules.max_length.is_some_and(|length| length.0 <= 0) {
            return Err(DefinitionError::new("max_length: must be longer than nothing"));
        }
        Ok(Sessioniser {
            rules,
            zone: compiler.zone()?,
        })
    }

    /// Whether an event is part of sessions at all.
    pub fn counts(&self, event: &str) -> bool {
        !self.rules.ignore.iter().any(|ignored| ignored == event)
    }

    /// The group of an event with this `session_id` of the client's.
    pub fn group(&self, session_id: &str) -> u64 {
        match self.rules.id {
            Some(SessionId::Client) if !session_id.is_empty() => {
                crate::identity::hash(&[session_id.as_bytes()]).max(1)
            }
            _ => 0,
        }
    }

    /// Whether two stretches of one group, the first before the second, hang together but for the
    /// maximum length.
    fn hang_together(&self, group: u64, end: i64, start: i64) -> bool {
        let pause = start - end;
        let near =
            group != 0 || pause < self.rules.gap.0 || (self.rules.gap_inclusive && pause == self.rules.gap.0);
        near && (!self.rules.cut_at_midnight || self.zone.day(end).number == self.zone.day(start).number)
    }

    /// Puts an event among the pieces, which lie in the order of group and start. Gives the sessions
    /// (group, start) that ceased to exist, to `gone`.
    pub fn insert<T: Join>(
        &self,
        pieces: &mut Pieces<T>,
        group: u64,
        time: i64,
        data: T,
        cutoff: i64,
        gone: &mut Gone,
    ) {
        match self.rules.max_length {
            None => self.insert_joined(
                pieces,
                Piece {
                    group,
                    start: time,
                    end: time,
                    data,
                    dirty: true,
                },
                gone,
            ),
            Some(_) => {
                let before = self.starts(pieces, group);
                self.insert_apart(
                    pieces,
                    Piece {
                        group,
                        start: time,
                        end: time,
                        data,
                        dirty: true,
                    },
                );
                self.compact(pieces, cutoff);
                let after = self.starts(pieces, group);
                gone.extend(
                    before
                        .into_iter()
                        .filter(|start| !after.contains(start))
                        .map(|start| (group, start)),
                );
            }
        }
    }

    fn starts<T>(&self, pieces: &[Piece<T>], group: u64) -> Vec<i64> {
        self.sessions(pieces)
            .filter(|one| one.group == group)
            .map(|one| one.start)
            .collect()
    }

    fn insert_joined<T: Join>(&self, pieces: &mut Pieces<T>, new: Piece<T>, gone: &mut Gone) {
        let time = new.start;
        let mut at = pieces.partition_point(|piece| (piece.group, piece.start) <= (new.group, time));
        let before = at > 0 && {
            let piece = &pieces[at - 1];
            piece.group == new.group
                && (time <= piece.end || self.hang_together(piece.group, piece.end, time))
        };
        if before {
            at -= 1;
            let piece = &mut pieces[at];
            piece.end = piece.end.max(time);
            piece.data.join(new.data);
            piece.dirty = true;
        } else {
            pieces.insert(at, new);
        }
        self.join_next(pieces, at, !before, gone);
    }

    /// Joins the piece at `at` with the one behind it, where they hang together now.
    fn join_next<T: Join>(&self, pieces: &mut Pieces<T>, at: usize, is_new: bool, gone: &mut Gone) {
        let Some(next) = pieces.get(at + 1) else { return };
        let this = &pieces[at];
        if this.group != next.group || !self.hang_together(this.group, this.end, next.start) {
            return;
        }
        gone.push((next.group, next.start));
        let mut next = pieces.remove(at + 1);
        let this = &mut pieces[at];
        if is_new {
            // The event is the later in the log: it joins what was there.
            std::mem::swap(&mut this.data, &mut next.data);
        }
        this.data.join(next.data);
        this.end = next.end.max(this.end);
        this.dirty = true;
    }

    fn insert_apart<T: Join>(&self, pieces: &mut Pieces<T>, new: Piece<T>) {
        let (group, time) = (new.group, new.start);
        let at = pieces.partition_point(|piece| (piece.group, piece.start) <= (group, time));
        match at.checked_sub(1).map(|before| &mut pieces[before]) {
            Some(piece) if piece.group == group && time <= piece.end => piece.data.join(new.data),
            _ => {
                pieces.insert(at, new);
            }
        }
        // Everything of its group from the piece before on may be cut elsewhere now.
        let from = at.saturating_sub(1);
        for piece in pieces[from..].iter_mut().filter(|piece| piece.group == group) {
            piece.dirty = true;
        }
    }

    /// Joins what no event can part any more: stretches of one session that all lie before the cutoff.
    fn compact<T: Join>(&self, pieces: &mut Pieces<T>, cutoff: i64) {
        let sessions: Vec<Session> = self.sessions(pieces).collect();
        for session in sessions.into_iter().rev() {
            for at in session.pieces.clone().skip(1).rev() {
                if pieces[at].end < cutoff {
                    let piece = pieces.remove(at);
                    let before = &mut pieces[at - 1];
                    before.end = piece.end;
                    before.dirty |= piece.dirty;
                    before.data.join(piece.data);
                }
            }
        }
    }

    /// The sessions that the pieces make, in their order.
    pub fn sessions<'p, T>(&'p self, pieces: &'p [Piece<T>]) -> impl Iterator<Item = Session> + 'p {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = pieces.get(next)?;
            let mut session = Session {
                group: first.group,
                start: first.start,
                end: first.end,
                pieces: next..next + 1,
            };
            next += 1;
            while let Some(piece) = pieces.get(next).filter(|piece| self.goes_on(&session, piece)) {
                session.end = piece.end;
                next += 1;
                session.pieces.end = next;
            }
            Some(session)
        })
    }

    fn goes_on<T>(&self, session: &Session, piece: &Piece<T>) -> bool {
        session.group == piece.group
            && self.hang_together(piece.group, session.end, piece.start)
            && self
                .rules
                .max_length
                .is_none_or(|length| piece.start <= session.start + length.0)
    }

    /// Whether no event can change a session any more. A client's own session ends with what is
    /// remembered of the user.
    pub fn is_settled(&self, session: &Session, cutoff: i64, remembered_since: i64) -> bool {
        if session.group == 0 {
            session.end.saturating_add(self.rules.gap.0) < cutoff
        } else {
            session.end < remembered_since
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sessions of events at these minutes, in this order of arrival, as "start-end".
    #[track_caller]
    fn check(rules: &str, minutes: &[i64], expected: &str) {
        let rules: Rules = serde_json::from_str(rules).unwrap();
        let sessioniser = Sessioniser {
            rules,
            zone: Zone::new("UTC").unwrap(),
        };
        let (mut pieces, mut gone) = (Pieces::new(), Gone::new());
        for minute in minutes {
            sessioniser.insert(&mut pieces, 0, minute * 60_000, (), i64::MIN, &mut gone);
        }
        let sessions: Vec<Session> = sessioniser.sessions(&pieces).collect();
        let found: Vec<_> = sessions
            .iter()
            .map(|one| format!("{}-{}", one.start / 60_000, one.end / 60_000))
            .collect();
        assert_eq!(found.join(" "), expected);
        for (_, start) in gone {
            assert!(!sessions.iter().any(|one| one.start == start) || rules_cut(&sessioniser));
        }
    }

    fn rules_cut(sessioniser: &Sessioniser) -> bool {
        sessioniser.rules.max_length.is_some()
    }

    #[test]
    fn a_pause_of_the_gap_is_the_same_session() {
        check("{}", &[0, 30, 61], "0-30 61-61");
        check(r#"{"gap_inclusive":false}"#, &[0, 30, 59], "0-0 30-59");
    }

    #[test]
    fn late_events_extend_bridge_and_merge() {
        check("{}", &[100, 0, 50], "0-0 50-50 100-100");
        check("{}", &[60, 0, 30], "0-60");
        check("{}", &[50, 40, 60], "40-60");
    }

    #[test]
    fn cuts_are_worked_out_anew_when_the_start_moves() {
        let hour = r#"{"max_length":"1 h"}"#;
        check(hour, &[0, 25, 50, 60, 61, 80], "0-60 61-80");
        check(hour, &[25, 50, 60, 61, 80, 0], "0-60 61-80");
        check(hour, &[20, 40, 60, 80, 100, 0], "0-60 80-100");
        check(
            r#"{"cut_at_midnight":true}"#,
            &[1430, 1439, 1440, 1450],
            "1430-1439 1440-1450",
        );
    }
}
