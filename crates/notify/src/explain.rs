//! One incident is told once: where a rule watches the whole and its slices, by the one that says most.

use cambium_alerts::{Alert, State};

use crate::lines::Group;
use crate::register::Register;

/// An alert of a rule as it is to be told: of the whole, with the slice that explains most. None where another
/// alert of the same rule says it already, or did just before: its longer windows still lack what it has told of.
pub(crate) fn explained(
    groups: &mut [Group],
    register: &Register,
    index: usize,
    mut alert: Alert,
    now_ms: i64,
) -> Option<Alert> {
    let is_new = matches!(alert.state, State::Firing | State::Pending);
    let is_part_of_rule = |group: &&Group| group.rule.name == alert.rule && group.by.is_some();
    if !is_new || !groups.iter().any(|group| is_part_of_rule(&group)) {
        return Some(alert);
    }
    let app = groups[index].app_of(&alert.slice).unwrap_or_default().to_owned();
    let span = (alert.started_at, now_ms);
    if groups[index].by.is_some() {
        let mut wholes = groups
            .iter()
            .filter(|group| group.rule.name == alert.rule && group.by.is_none());
        let is_told = wholes.any(|whole| whole.has_told(&app, span));
        return if is_told {
            taken_back(&mut groups[index], register, alert)
        } else {
            Some(alert)
        };
    }
    let missing = alert.missing();
    if missing <= 0.0 {
        return Some(alert);
    }
    let window_ms = alert.evidence.window_seconds * 1000.0;
    let parts = groups.iter().filter(is_part_of_rule);
    // Each field divides the same whole.
    let told = parts.map(|group| group.told_missing(&app, window_ms, span));
    if told.fold(0.0, f64::max) >= missing / 2.0 {
        return taken_back(&mut groups[index], register, alert);
    }
    let parts = groups.iter().filter(is_part_of_rule);
    let most = parts
        .filter_map(|group| group.most_missing(&app, window_ms))
        .max_by(|left, right| left.1.total_cmp(&right.1));
    if let Some((slice, lacks)) = most {
        alert.evidence.mostly = Some((slice, (lacks / missing).min(1.0)));
    }
    Some(alert)
}

/// What is not told leaves nothing behind: one that was pending is forgotten.
fn taken_back(group: &mut Group, register: &Register, mut alert: Alert) -> Option<Alert> {
    group.take_back(&alert.slice);
    register.get(&alert.id)?;
    alert.state = State::Forgotten;
    Some(alert)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::register::tests::settings;
    use cambium_alerts::{Judgement, Kind, Look, Metric, Options, Rule, Severity, Verdict};

    const NOW: i64 = 1_700_000_000_000;

    fn rule() -> Rule {
        Rule {
            name: "payments".to_owned(),
            apps: Vec::new(),
            metric: Metric::Events(vec!["pay".to_owned()]),
            filter: None,
            by: vec!["platform".to_owned()],
            options: Options::new(Kind::Count),
            over_ms: None,
            min_expected: 20.0,
            cool_down_ms: 600_000,
            resolve_after_ms: 30_000,
            severity: Severity::Error,
            channels: None,
            quiet_hours: None,
            link: String::new(),
        }
    }

    fn verdict(value: f64, expected: f64, window_ms: i64) -> Verdict {
        let breaches = value < expected * 0.6;
        let judgement = Judgement {
            value: Some(value),
            expected: Some(expected),
            low: Some(expected * 0.6),
            breaches,
            ..Judgement::default()
        };
        Verdict {
            looks: vec![Look { window_ms, judgement }],
            breaches,
            fires: breaches,
        }
    }

    /// The whole and the platforms of a shop, and what becomes of each number in turn.
    struct Shop {
        settings: Settings,
        groups: Vec<Group>,
    }

    impl Shop {
        fn new() -> Shop {
            let settings = settings(None);
            let groups = Group::of(&rule(), &settings);
            Shop { settings, groups }
        }

        /// What is told when a minute's number of an app is so.
        fn see(&mut self, app: &str, platform: &str, value: f64, expected: f64, at: i64) -> Option<Alert> {
            let index = usize::from(!platform.is_empty());
            // The shop itself is judged over a minute, its platforms over half of one.
            let (part, window_ms) = if index == 0 { (1.0, 60_000) } else { (0.5, 30_000) };
            let verdict = verdict(value * part, expected * part, window_ms);
            let alert = self.groups[index].judged((app, platform), verdict, &self.settings, at)?;
            explained(&mut self.groups, &Register::default(), index, alert, at)
        }
    }

    #[test]
    fn the_whole_names_what_explains_most_and_speaks_for_its_parts() {
        let mut shop = Shop::new();
        for (platform, value) in [("ios", 40.0), ("web", 25.0)] {
            // They miss too little to speak for themselves.
            assert_eq!(shop.see("shop", platform, value, 60.0 * value / 40.0, NOW), None);
        }
        let whole = shop.see("shop", "", 20.0, 100.0, NOW).unwrap();
        let (slice, share) = whole.evidence.mostly.unwrap();
        assert_eq!((slice.as_str(), share), ("app = shop, platform = ios", 0.25));
        assert_eq!(shop.see("shop", "ios", 0.0, 60.0, NOW), None);
        // Another shop whose name begins like this one's is another.
        let other = shop.see("shop2", "ios", 0.0, 60.0, NOW).unwrap();
        assert_eq!(other.slice, "app = shop2, platform = ios");
        // When the whole is back, longer windows of its parts still lack what it told of.
        assert_eq!(shop.see("shop", "", 100.0, 100.0, NOW + 60_000), None);
        let back = shop.see("shop", "", 100.0, 100.0, NOW + 90_000).unwrap();
        assert_eq!(back.state, State::Resolved);
        assert_eq!(shop.see("shop", "ios", 0.0, 60.0, NOW + 91_000), None);
        assert!(shop.see("shop", "ios", 0.0, 60.0, NOW + 700_000).is_some());
        // So it is where a rule has no cool-down.
        let mut shop = Shop::new();
        for group in &mut shop.groups {
            group.rule.cool_down_ms = 0;
        }
        assert!(shop.see("shop", "", 20.0, 100.0, NOW).is_some());
        assert_eq!(shop.see("shop", "", 100.0, 100.0, NOW + 60_000), None);
        assert!(shop.see("shop", "", 100.0, 100.0, NOW + 90_000).is_some());
        assert_eq!(shop.see("shop", "ios", 0.0, 60.0, NOW + 89_000), None);
        assert!(shop.see("shop", "ios", 0.0, 60.0, NOW + 91_000).is_some());
    }

    #[test]
    fn a_part_that_has_told_speaks_for_the_whole_where_it_explains_it() {
        let mut shop = Shop::new();
        assert!(shop.see("shop2", "web", 0.0, 1000.0, NOW).is_some());
        assert!(shop.see("shop", "ios", 0.0, 60.0, NOW).is_some());
        assert_eq!(shop.see("shop", "", 40.0, 100.0, NOW), None);
        // What is missing beside it is news.
        assert!(shop.see("shop", "", 20.0, 200.0, NOW).is_some());
    }
}
