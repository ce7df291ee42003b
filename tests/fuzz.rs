//! Any bytes are what they should be or an error: never a panic, and a record never takes more than a few times its
//! size in memory. A program of its own, because it counts what is allocated. `CASES=1000000` tries so many of each.

use cambium_tests::fuzz::{TARGETS, sample};
use fastrand::Rng;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Of records, and of what is not read for every event.
const RECORDS: u64 = 100_000;
const OTHERS: u64 = 3_000;
/// What a record may take beside its size: slots, and the text of an error.
const BESIDE: usize = 4096;
const TIMES: usize = 6;

/// Flips, cuts, repeats and inserts; now and then nothing of the sample is left.
fn broken(random: &mut Rng, sample: &[u8]) -> Vec<u8> {
    if random.u8(..20) == 0 {
        return (0..random.usize(..200)).map(|_| random.u8(..)).collect();
    }
    let mut bytes = sample.to_vec();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(..=bytes.len());
        match random.u8(..6) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 => bytes.truncate(at),
            3 => {
                let piece = bytes[at..].to_vec();
                let times = random.usize(..4);
                (0..times).for_each(|_| bytes.extend(&piece));
            }
            4 => bytes.insert(at, *random.choice(b"{}[]\",:\\0\xff\x80\x01\x02").unwrap()),
            _ => {
                let many = vec![*random.choice(b"[{(\x02\x00\xff\"9").unwrap(); random.usize(..3000)];
                bytes.splice(at..at, many);
            }
        }
    }
    bytes
}

#[test]
fn any_bytes_are_what_they_should_be_or_an_error() {
    let asked = std::env::var("CASES").ok().and_then(|text| text.parse().ok());
    for (number, (name, target)) in TARGETS.into_iter().enumerate() {
        let sample = sample(name);
        assert!(target(&sample), "{name}: the sample is none");
        let is_record = number < 3;
        let (mut right, mut wrong) = (0u64, 0u64);
        for seed in 0..asked.unwrap_or(if is_record { RECORDS } else { OTHERS }) {
            let bytes = broken(&mut Rng::with_seed(seed), &sample);
            let before = ALLOCATOR.current_usage();
            ALLOCATOR.reset_peak_usage();
            *if target(&bytes) { &mut right } else { &mut wrong } += 1;
            let taken = ALLOCATOR.peak_usage().saturating_sub(before);
            assert!(
                !is_record || taken <= TIMES * bytes.len() + BESIDE,
                "{name}, seed {seed}: {taken} bytes for a record of {}",
                bytes.len()
            );
        }
        println!("{name}: {right} right, {wrong} wrong");
        assert!(
            wrong > 0 && (!is_record || right > 300),
            "{name}: {right} right, {wrong} wrong"
        );
    }
}
