//! Where a user came from, as one event says it.

use cambium_event::Event;

/// What stands in the place of a channel that the app does not send.
///
/// `utm_medium` decides, after the default channel groups of web analytics; without one it is "other" where there is a
/// `utm_source`. Without either the referrer's host decides: a search engine, a social network, or another site. None:
/// nothing says where from.
pub fn derived(medium: Option<&str>, source: Option<&str>, referrer: Option<&str>) -> Option<&'static str> {
    if let Some(medium) = medium.filter(|medium| !medium.is_empty()) {
        return Some(of_medium(medium));
    }
    if source.is_some_and(|source| !source.is_empty()) {
        return Some("other");
    }
    referrer.and_then(of_referrer)
}

fn of_medium(medium: &str) -> &'static str {
    let is = |names: &[&str]| names.iter().any(|name| medium.eq_ignore_ascii_case(name));
    if is(&["cpc", "ppc", "paid", "paidsearch", "retargeting"]) {
        "paid_search"
    } else if is(&["display", "banner", "cpm", "expandable", "interstitial"]) {
        "display"
    } else if is(&["social", "social-network", "social-media", "sm"]) {
        "social"
    } else if is(&["email", "e-mail", "mail", "newsletter"]) {
        "email"
    } else if is(&["affiliate", "affiliates"]) {
        "affiliate"
    } else if is(&["referral", "app", "link"]) {
        "referral"
    } else if is(&["organic"]) {
        "organic_search"
    } else if is(&["sms", "push"]) {
        "push"
    } else {
        "other"
    }
}

/// Parts of the names of hosts.
const SEARCH: [&str; 9] = [
    "google",
    "bing",
    "baidu",
    "duckduckgo",
    "yahoo",
    "yandex",
    "sogou",
    "naver",
    "ecosia",
];
const SOCIAL: [&str; 12] = [
    "facebook",
    "instagram",
    "twitter",
    "linkedin",
    "weibo",
    "weixin",
    "xiaohongshu",
    "douyin",
    "tiktok",
    "reddit",
    "pinterest",
    "youtube",
];
/// Hosts whose names alone say nothing.
const SHORT: [(&str, &str); 3] = [
    ("so.com", "organic_search"),
    ("x.com", "social"),
    ("t.co", "social"),
];

fn of_referrer(referrer: &str) -> Option<&'static str> {
    let behind_scheme = referrer.split_once("://").map_or(referrer, |(_, rest)| rest);
    let host = behind_scheme.split(['/', '?', '#', ':']).next().unwrap_or("");
    if host.is_empty() {
        return None;
    }
    let has = |names: &[&str]| {
        host.split('.')
            .any(|part| names.iter().any(|name| part.eq_ignore_ascii_case(name)))
    };
    let host = host.strip_prefix("www.").unwrap_or(host);
    if let Some((_, channel)) = SHORT.iter().find(|(short, _)| host.eq_ignore_ascii_case(short)) {
        return Some(channel);
    }
    Some(if has(&SEARCH) {
        "organic_search"
    } else if has(&SOCIAL) {
        "social"
    } else {
        "referral"
    })
}

/// The slots of the properties that say where from.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    pub medium: usize,
    pub source: usize,
    pub campaign: usize,
    pub referrer: usize,
}

impl Slots {
    /// Where an event says that the user came from: a channel and a campaign. None: it does not.
    pub fn touch<'e>(&self, event: &'e Event<'_>) -> Option<(&'e str, std::borrow::Cow<'e, str>)> {
        let text = |slot: usize| event.properties.get(slot).and_then(|value| value.slice_text());
        let campaign = || match event.dimensions[3] {
            "" => text(self.campaign).unwrap_or_default(),
            own => own.into(),
        };
        let own = event.dimensions[2];
        if !own.is_empty() {
            return Some((own, campaign()));
        }
        let (medium, source, referrer) = (text(self.medium), text(self.source), text(self.referrer));
        let channel = derived(medium.as_deref(), source.as_deref(), referrer.as_deref())?;
        Some((channel, campaign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_derived_as_the_documentation_says() {
        for (medium, source, referrer, channel) in [
            (Some("cpc"), Some("google"), None, Some("paid_search")),
            (
                Some("Email"),
                None,
                Some("https://www.google.com/"),
                Some("email"),
            ),
            (Some("whatever"), None, None, Some("other")),
            (None, Some("newsletter"), None, Some("other")),
            (
                None,
                None,
                Some("https://www.google.co.uk/search?q=a"),
                Some("organic_search"),
            ),
            (None, None, Some("http://m.weibo.cn:80/a"), Some("social")),
            (None, None, Some("https://t.co/x"), Some("social")),
            (None, None, Some("https://example.org/google"), Some("referral")),
            (None, None, Some(""), None),
            (Some(""), Some(""), None, None),
            (None, None, None, None),
        ] {
            assert_eq!(
                derived(medium, source, referrer),
                channel,
                "{medium:?} {source:?} {referrer:?}"
            );
        }
    }
}
