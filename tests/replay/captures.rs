//! The property: a capture that is spread out, whatever comes in between, is the one that would have been taken at once
//! where it began.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cambium::Processors;
use cambium::config::Config;
use cambium_engine::{Capture, HashKey, Partition, Rows, Setup, Topic};
use cambium_event::Record;
use fastrand::Rng;

const CASES: u64 = 100;
const MINUTE: i64 = 60_000;
const START: i64 = 1_700_006_400_000;
/// Short enough for users to be forgotten again and again.
const CONFIGURATION: &str = r#"
[time]
lateness = "2 h"
horizon = "36 h"
[[funnel]]
name = "first"
steps = [{ event = ["a"], first_time = true }, { event = ["b"] }]
within = "1 h"
by = ["platform"]
[[funnel]]
name = "strict"
steps = ["a", "b", "c"]
within = "session"
order = "strict"
"#;
const MORE: &str = "[[unique]]\nname = \"more\"\nevent = [\"a\"]\n";

/// One partition twice: its captures are spread out here, and taken at once there.
struct Twins {
    spread: Partition<Processors>,
    at_once: Partition<Processors>,
    /// What the capture that is under way must become.
    expected: Option<Capture>,
    saved: BTreeMap<(u32, u64), Vec<u8>>,
    offset: i64,
    now: i64,
    /// How many captures had something come in between, and how many users were gone by them.
    disturbed: usize,
    gone: usize,
}

impl Twins {
    fn new(setup: &Setup) -> Twins {
        let topic = Topic {
            name: "t".to_owned(),
            partition: 0,
        };
        let begin = || Partition::new(topic.clone(), 0, 0, setup.clone(), HashKey::default()).unwrap();
        Twins {
            spread: begin(),
            at_once: begin(),
            expected: None,
            saved: BTreeMap::new(),
            offset: 0,
            now: START,
            disturbed: 0,
            gone: 0,
        }
    }

    fn both<R>(&mut self, mut work: impl FnMut(&mut Partition<Processors>) -> R) -> [R; 2] {
        [work(&mut self.spread), work(&mut self.at_once)]
    }

    /// A few users come again and again, many more once in a while.
    fn send(&mut self, random: &mut Rng) {
        self.now += match random.u8(..60) {
            0 => random.i64(0..20 * 60) * MINUTE,
            1..4 => random.i64(0..90) * MINUTE,
            _ => random.i64(0..3000),
        };
        let most = [6, 60][random.usize(..2)];
        let user = random.u32(..most);
        let late = [0, random.i64(0..130) * MINUTE];
        let time = self.now - late[usize::from(random.u8(..6) == 0)];
        let payload = format!(
            r#"{{"app":"{}","event":"{}","user_id":"u{user}","timestamp":{time},"message_id":"m{}","platform":"{}"}}"#,
            ["s", "t"][usize::from(user.is_multiple_of(7))],
            ["a", "b", "c", "d"][random.usize(..4)],
            if random.u8(..10) == 0 {
                random.i64(0..=self.offset)
            } else {
                self.offset
            },
            ["ios", "web", ""][random.usize(..3)],
        );
        let record = Record {
            offset: self.offset,
            timestamp: Some(self.now),
            payload: Some(payload.as_bytes()),
            ..Record::default()
        };
        let [here, there] = self.both(|partition| partition.apply(&record).unwrap());
        assert_eq!(here, there);
        self.offset += 1;
    }

    fn flush(&mut self) {
        let [here, there]: [Rows; 2] = self.both(|partition| partition.flush().unwrap());
        let bytes = |rows: Rows| {
            rows.tables
                .into_iter()
                .map(|one| {
                    let block = one.block().flat_map(|part| part.to_vec());
                    (one.table.name, block.collect::<Vec<u8>>())
                })
                .collect::<Vec<_>>()
        };
        assert!(bytes(here) == bytes(there), "the rows differ");
    }

    fn begin(&mut self, random: &mut Rng) {
        // As it is taken; and where nobody flushed, which must not matter either.
        if random.u8(..8) > 0 {
            self.flush();
        }
        self.spread.begin_capture().unwrap();
        self.expected = Some(self.at_once.capture().unwrap());
    }

    fn go_on(&mut self, most: usize) {
        let position = self.spread.position();
        let Some(capture) = self.spread.capture_more(most).unwrap() else {
            return;
        };
        let expected = self.expected.take().expect("a capture is under way");
        assert!(
            capture == expected,
            "the captures at {} differ",
            expected.position
        );
        self.disturbed += usize::from(capture.position < position);
        self.restore(capture);
    }

    /// What was captured so far is a state, and the same again when it is captured.
    fn restore(&mut self, capture: Capture) {
        for (app, user, state) in capture.users {
            match state {
                Some(state) => self.saved.insert((app, user), state),
                None => self.saved.remove(&(app, user)).inspect(|_| self.gone += 1),
            };
        }
        let users = self.saved.iter();
        let users = users.map(|((app, user), state)| (*app, *user, state.clone().into_boxed_slice()));
        let mut restored: Partition<Processors> =
            Partition::restore(&capture.head, users, HashKey::default()).unwrap();
        assert_eq!(restored.users(), self.saved.len());
        assert_eq!(restored.position(), capture.position);
        assert!(
            restored.capture().unwrap().head == capture.head,
            "the heads differ"
        );
    }
}

#[test]
fn a_capture_that_is_spread_out_is_the_one_at_once() {
    let setup = |text: &str| Config::parse(text, PathBuf::new()).unwrap().setup;
    let setups = [setup(CONFIGURATION), setup(&format!("{CONFIGURATION}{MORE}"))];
    let (mut disturbed, mut gone) = (0, 0);
    for seed in 0..CASES {
        println!("seed {seed}");
        let mut random = Rng::with_seed(seed);
        let mut twins = Twins::new(&setups[0]);
        for _ in 0..600 {
            match random.u8(..30) {
                0 if !twins.spread.is_capturing() => twins.begin(&mut random),
                1..8 => twins.go_on(random.usize(..4)),
                8 => twins.flush(),
                9 if random.u8(..10) == 0 => {
                    let setup = &setups[random.usize(..2)];
                    twins.both(|partition| partition.change_setup(setup.clone()).unwrap());
                }
                _ => twins.send(&mut random),
            }
        }
        twins.go_on(usize::MAX);
        disturbed += twins.disturbed;
        gone += twins.gone;
    }
    println!("{disturbed} captures had events come in between, {gone} users were gone");
    assert!(disturbed > 2 * CASES as usize && gone > CASES as usize);
}
