//! Bins of times that grow by 2 %, so that a quantile is right within 1 %, as in DDSketch (Masson, Rim, Lee: "DDSketch",
//! VLDB 2019).

/// Each bin ends 2 % above the one before.
const GROWTH: f64 = 1.02;

/// The bin of a time in milliseconds: 0 for none at all, n for up to 1.02^n ms.
pub fn time_bin(ms: i64) -> u16 {
    if ms <= 0 {
        0
    } else {
        1 + ((ms as f64).ln() / GROWTH.ln()).floor() as u16
    }
}
