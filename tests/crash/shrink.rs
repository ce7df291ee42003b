//! The fewest steps that still fail.

use super::schedule::Step;

/// Leaves out halves, quarters, … and at last single steps, for as long as it still fails without them.
pub fn shrink(mut steps: Vec<Step>, fails: impl Fn(&[Step]) -> bool) -> Vec<Step> {
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            if fails(&fewer) {
                steps = fewer;
            } else {
                at += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    steps
}

#[test]
fn what_does_not_matter_is_left_out() {
    let steps: Vec<Step> = (0..100).map(|owner| Step::Tick { owner }).collect();
    let (one, other) = (Step::Tick { owner: 17 }, Step::Tick { owner: 71 });
    let needs_both = |steps: &[Step]| steps.contains(&one) && steps.contains(&other);
    assert_eq!(shrink(steps, needs_both), [one, other]);
}
