use super::*;
use crate::Language;

fn message(state: Said) -> Message {
    Message {
        id: "a1".to_owned(),
        rule: "payments".to_owned(),
        state,
        severity: "critical".to_owned(),
        metric: "event_counts pay".to_owned(),
        slice: "platform = ios".to_owned(),
        value: Some(12.0),
        expected: Some(200.0),
        low: Some(150.0),
        high: Some(260.5),
        started_at: 1_600_000_000_000,
        detected_at: 1_600_000_030_000,
        resolved_at: (state == Said::Resolved).then_some(1_600_000_090_000),
        evidence: cambium_alerts::Evidence::default(),
        link: String::new(),
    }
}

fn channel(kind: Kind, url: &str, secret: Option<&str>) -> Channel {
    Channel {
        name: "ops".to_owned(),
        kind,
        url: url.to_owned(),
        secret: secret.map(str::to_owned),
        language: Language::En,
    }
}

const TEXT: &str = "[critical] payments: event_counts pay (platform = ios)\\nnow 12, expected 200 (-94 %)\\n\
                    usual range 150 – 260.50\\nsince 2020-09-13T12:26:40Z\\nid a1";

fn body(channel: &Channel, state: Said) -> Value {
    serde_json::from_str(&request(channel, &message(state), 1_599_360_473_000).unwrap().body).unwrap()
}

#[test]
fn chats_get_text() {
    let slack = request(
        &channel(Kind::Slack, "https://hooks.slack.com/services/x", None),
        &message(Said::Firing),
        0,
    );
    assert_eq!(slack.unwrap().body, format!("{{\"text\":\"{TEXT}\"}}"));
    let wecom = request(
        &channel(Kind::WeCom, "https://qyapi.weixin.qq.com/x", None),
        &message(Said::Firing),
        0,
    );
    assert_eq!(
        wecom.unwrap().body,
        format!("{{\"msgtype\":\"text\",\"text\":{{\"content\":\"{TEXT}\"}}}}")
    );
    let mut chinese = channel(Kind::Slack, "", None);
    chinese.language = Language::Zh;
    let text = body(&chinese, Said::Resolved)["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text.starts_with("[已恢复] payments：") && text.contains("预期 200") && text.contains("恢复于"),
        "{text}"
    );
}

/// Signatures worked out by Python's `hmac`, as the makers' pages show it.
#[test]
fn signatures_are_those_of_the_makers() {
    let feishu = body(&channel(Kind::Feishu, "u", Some("demo")), Said::Firing);
    assert_eq!(feishu["timestamp"], "1599360473");
    assert_eq!(feishu["sign"], "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=");
    let ding = channel(
        Kind::DingTalk,
        "https://oapi.dingtalk.com/robot/send?access_token=x",
        Some("this is secret"),
    );
    let ding = request(&ding, &message(Said::Firing), 1_577_262_236_757).unwrap();
    assert_eq!(
        ding.url,
        "https://oapi.dingtalk.com/robot/send?access_token=x&timestamp=1577262236757&sign=hmPWwU%2B7lVdm3ZZz0r9tSfx0L4Q26jWOZr9%2BGs6EZQM%3D"
    );
    let hook = request(
        &channel(Kind::Webhook, "u", Some("key")),
        &message(Said::Firing),
        1_599_360_473_000,
    )
    .unwrap();
    assert_eq!(
        hook.body,
        r#"{"id":"a1","rule":"payments","state":"firing","severity":"critical","metric":"event_counts pay","slice":"platform = ios","value":12.0,"expected":200.0,"low":150.0,"high":260.5,"started_at":1600000000000,"detected_at":1600000030000,"resolved_at":null,"link":"","evidence":{"window_seconds":0.0,"score":null}}"#
    );
    assert_eq!(hook.headers[0], ("X-Cambium-Timestamp", "1599360473".to_owned()));
    assert_eq!(
        hook.headers[1],
        (
            "X-Cambium-Signature",
            "sha256=7dfe9b5706bd84af9fef614f17c34915ec00be738edf62069701fefba4adbc52".to_owned()
        )
    );
}

#[test]
fn pagers_and_alertmanagers_know_that_it_is_the_same() {
    let pager = channel(Kind::PagerDuty, "", Some("R0"));
    let firing = request(&pager, &message(Said::Firing), 0).unwrap();
    assert_eq!(firing.url, "https://events.pagerduty.com/v2/enqueue");
    let (firing, resolved) = (body(&pager, Said::Firing), body(&pager, Said::Resolved));
    assert_eq!(
        (&firing["event_action"], &resolved["event_action"]),
        (&"trigger".into(), &"resolve".into())
    );
    assert_eq!(
        (&firing["dedup_key"], &firing["routing_key"]),
        (&"a1".into(), &"R0".into())
    );
    assert_eq!(firing["dedup_key"], resolved["dedup_key"]);
    assert_eq!(firing["payload"]["severity"], "critical");
    assert_eq!(firing["payload"]["timestamp"], "2020-09-13T12:26:40Z");
    assert!(request(&channel(Kind::PagerDuty, "", None), &message(Said::Firing), 0).is_err());

    let manager = channel(Kind::Alertmanager, "http://alerts:9093/", None);
    assert_eq!(
        request(&manager, &message(Said::Firing), 0).unwrap().url,
        "http://alerts:9093/api/v2/alerts"
    );
    let (firing, resolved) = (body(&manager, Said::Firing), body(&manager, Said::Resolved));
    assert_eq!(firing[0]["labels"], resolved[0]["labels"]);
    assert_eq!(firing[0]["startsAt"], "2020-09-13T12:26:40Z");
    // Without an end ahead of it, it would be over in five minutes.
    assert_eq!(
        (&firing[0]["endsAt"], &resolved[0]["endsAt"]),
        (&"2020-10-13T12:27:10Z".into(), &"2020-09-13T12:28:10Z".into())
    );
    assert_eq!(firing[0].get("generatorURL"), None);
}
