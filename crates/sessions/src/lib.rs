//! Sessions: what a user did in an app without a longer pause.
//!
//! A session is a versioned row of its own, because a late event can extend, bridge and merge
//! sessions: the row of one that ceased to exist is written once more, as deleted.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod dimensions;

use cambium_engine::sessionise::{Gone, Join, Pieces, Rules, Session, Sessioniser};
use cambium_engine::{
    Bug, Compiler, Context, DefinitionError, EventNames, Input, Kind, MINUTE_MS, Matcher, Processor, Renames,
    Replaced, Table, Zone, bug,
};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use dimensions::Dimensions;

pub static SESSIONS: Table = Table {
    name: "session_rows",
    columns: &[
        ("definition", "UInt64"),
        ("origin", "UInt64"),
        ("app", "LowCardinality(String)"),
        ("version", "UInt64"),
        ("deleted", "UInt8"),
        ("user", "UInt64"),
        ("session_id", "UInt64"),
        ("day", "Date"),
        ("started_at", "DateTime64(3, 'UTC')"),
        ("ended_at", "DateTime64(3, 'UTC')"),
        ("events", "UInt64"),
        ("pages", "UInt64"),
        ("entry", "String"),
        ("exit", "String"),
        ("bounced", "UInt8"),
        ("gap_ms", "Int64"),
        ("platform", "LowCardinality(String)"),
        ("app_version", "LowCardinality(String)"),
        ("channel", "LowCardinality(String)"),
        ("campaign", "LowCardinality(String)"),
        ("country", "LowCardinality(String)"),
    ],
};

/// What is known of a stretch of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    events: u32,
    pages: u32,
    /// None: there were no pages.
    ends: Option<Box<Ends>>,
    dimensions: Dimensions,
}

/// The first and the last page, with their times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Ends {
    entry: (i64, Box<str>),
    exit: (i64, Box<str>),
}

impl Join for Summary {
    fn join(&mut self, other: Summary) {
        self.events += other.events;
        self.pages += other.pages;
        match (&mut self.ends, other.ends) {
            (Some(mine), Some(other)) => {
                if other.entry.0 < mine.entry.0 {
                    mine.entry = other.entry;
                }
                if other.exit.0 >= mine.exit.0 {
                    mine.exit = other.exit;
                }
            }
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
        self.dimensions.join(other.dimensions);
    }
}

/// A user's sessions that events may still change.
#[derive(Default, Serialize, Deserialize)]
pub struct Recent {
    pieces: Pieces<Summary>,
    /// Sessions that ceased to exist since the last flush: their group and start.
    #[serde(skip)]
    gone: Gone,
}

pub struct Sessions {
    sessioniser: Sessioniser,
    page: Option<(Matcher, usize)>,
    zone: Zone,
}

impl Processor for Sessions {
    const KIND: &'static str = "session";
    const SEMANTICS: u32 = 1;
    const SETTLES: bool = true;
    type Definition = Rules;
    type User = Recent;
    type State = ();
    const IS_SINGLE: bool = true;

    fn built_in() -> &'static [&'static str] {
        &[""]
    }

    fn new(rules: Rules, compiler: &mut Compiler<'_>) -> Result<Self, DefinitionError> {
        let page = match &rules.page {
            None => None,
            Some(page) => Some((
                page_matcher(&page.event, compiler)?,
                compiler.property_slot(&page.property)?,
            )),
        };
        Ok(Sessions {
            sessioniser: Sessioniser::new(rules, compiler)?,
            page,
            zone: compiler.zone()?,
        })
    }

    fn apply(&self, (): &mut (), recent: &mut Recent, input: &Input<'_>, context: &mut Context<'_>) {
        if !self.sessioniser.counts(input.event.event) {
            return;
        }
        let summary = self.summary(input);
        let group = self.sessioniser.group(input.event.session_id);
        let cutoff = context.cutoff();
        self.sessioniser.insert(
            &mut recent.pieces,
            group,
            input.time,
            summary,
            cutoff,
            &mut recent.gone,
        );
        self.forget_settled(recent, input.user, context);
    }

    /// Sessions that are not there any more cease to exist, and what is there is written anew.
    fn replace(
        &self,
        (): &mut (),
        before: Recent,
        recent: &mut Recent,
        _: &Replaced<'_>,
        _: &mut Context<'_>,
    ) {
        let sessions = self.sessioniser.sessions(&before.pieces);
        let were = sessions.map(|session| (session.group, session.start));
        recent.gone = before.gone.iter().copied().chain(were).collect();
        recent.pieces.iter_mut().for_each(|piece| piece.dirty = true);
    }

    fn touch(recent: &Recent) -> i64 {
        recent.pieces.last().map_or(0, |piece| piece.end)
    }

    fn settle(&self, (): &mut (), user: u64, recent: &mut Recent, context: &mut Context<'_>) {
        for session in self.sessioniser.sessions(&recent.pieces) {
            self.put_if_changed(recent, &session, user, context);
        }
        for (group, start) in std::mem::take(&mut recent.gone) {
            let mut sessions = self.sessioniser.sessions(&recent.pieces);
            if !sessions.any(|session| session.group == group && session.start == start) {
                self.put_gone(group, start, user, context);
            }
        }
        recent.pieces.iter_mut().for_each(|piece| piece.dirty = false);
    }

    fn rest(&self, user: u64, recent: &mut Recent, context: &mut Context<'_>) {
        self.forget_settled(recent, user, context);
    }

    fn rename(&self, (): &mut (), _: &Renames) {}

    fn rename_user(&self, recent: &mut Recent, renames: &Renames) {
        let pieces = recent.pieces.iter_mut();
        pieces.for_each(|piece| piece.data.dimensions.rename(renames));
    }

    fn settled_after_ms(&self) -> i64 {
        self.sessioniser.rules.gap.0.saturating_add(MINUTE_MS)
    }
}

fn page_matcher(names: &EventNames, compiler: &mut Compiler<'_>) -> Result<Matcher, DefinitionError> {
    Matcher::new(names, None, compiler)
}

impl Sessions {
    fn summary(&self, input: &Input<'_>) -> Summary {
        let page = self
            .page
            .as_ref()
            .filter(|(matcher, _)| matcher.fits(input.event));
        let ends = page.map(|(_, slot)| {
            let path = input.event.properties.get(*slot);
            let path = path.and_then(|value| value.slice_text());
            let page: (i64, Box<str>) = (input.time, path.as_deref().unwrap_or_default().into());
            Box::new(Ends {
                entry: page.clone(),
                exit: page,
            })
        });
        Summary {
            events: 1,
            pages: u32::from(ends.is_some()),
            ends,
            dimensions: Dimensions::new(input.dimensions, input.time),
        }
    }

    /// A session that no event can change any more leaves its last row and is forgotten.
    fn forget_settled(&self, recent: &mut Recent, user: u64, context: &mut Context<'_>) {
        let (cutoff, remembered_since) = (context.cutoff(), context.watermark - context.horizon_ms);
        let is_settled = |session: &Session| self.sessioniser.is_settled(session, cutoff, remembered_since);
        if !self
            .sessioniser
            .sessions(&recent.pieces)
            .any(|one| is_settled(&one))
        {
            return;
        }
        let sessions: Vec<Session> = self.sessioniser.sessions(&recent.pieces).collect();
        for session in sessions.iter().rev().filter(|session| is_settled(session)) {
            self.put_if_changed(recent, session, user, context);
            recent.pieces.drain(session.pieces.clone());
            // It had ceased to exist once, and came to be again: it stays.
            let key = (session.group, session.start);
            recent.gone.retain(|gone| *gone != key);
        }
    }

    fn put_if_changed(&self, recent: &Recent, session: &Session, user: u64, context: &mut Context<'_>) {
        let pieces = &recent.pieces[session.pieces.clone()];
        if pieces.iter().any(|piece| piece.dirty) {
            let mut summary = pieces[0].data.clone();
            pieces[1..]
                .iter()
                .for_each(|piece| summary.join(piece.data.clone()));
            self.put(
                session.group,
                session.start,
                session.end,
                Some(&summary),
                user,
                context,
            );
        }
    }

    fn put_gone(&self, group: u64, start: i64, user: u64, context: &mut Context<'_>) {
        if !bug(Bug::DeletedKeyNotWritten) {
            self.put(group, start, start, None, user, context);
        }
    }

    fn put(
        &self,
        group: u64,
        start: i64,
        end: i64,
        summary: Option<&Summary>,
        user: u64,
        context: &mut Context<'_>,
    ) {
        let id = session_id(context.app, user, group, start);
        let (row, names) = context.versioned(&SESSIONS, summary.is_none());
        let (events, pages) = summary.map_or((0, 0), |summary| (summary.events, summary.pages));
        let ends = summary.and_then(|summary| summary.ends.as_deref());
        let bounced = if self.page.is_some() {
            pages <= 1
        } else {
            events <= 1
        };
        let mut row = row
            .u64(user)
            .u64(id)
            .date(self.zone.day(start).number)
            .i64(start)
            .i64(end)
            .u64(events.into())
            .u64(pages.into())
            .text(ends.map_or("", |ends| &ends.entry.1))
            .text(ends.map_or("", |ends| &ends.exit.1))
            .bool(bounced)
            .i64(self.sessioniser.rules.gap.0);
        for place in 0..5 {
            let value = summary.map_or(0, |summary| summary.dimensions.value(place));
            row = row.text(names.text(Kind::Dimension(place), value));
        }
    }
}

/// A session's number: of its app, user and start, and of the client's own id where that decides.
fn session_id(app: &str, user: u64, group: u64, start: i64) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&user.to_le_bytes());
    hasher.update(&start.to_le_bytes());
    hasher.update(&group.to_le_bytes());
    hasher.update(app.as_bytes());
    hasher.digest()
}
