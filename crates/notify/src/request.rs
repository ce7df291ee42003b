//! A message as the request that a channel asks for, byte for byte as its maker describes it.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::message::instant;
use crate::{Channel, Kind, Message, Said};

/// A POST of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub url: String,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// Where PagerDuty takes events, unless the channel says otherwise (Events API v2).
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// The request for a message, sent at `now_ms`; e-mail has none.
pub fn request(channel: &Channel, message: &Message, now_ms: i64) -> Result<Request> {
    let text = format!(
        "{}\n{}",
        message.title(channel.language),
        message.text(channel.language)
    );
    let seconds = now_ms.div_euclid(1000);
    let secret = channel.secret.as_deref();
    let mut request = Request {
        url: channel.url.clone(),
        headers: Vec::new(),
        body: String::new(),
    };
    let body = match &channel.kind {
        Kind::Email { .. } => bail!("{}: e-mail is no request", channel.name),
        Kind::Webhook => {
            let body = serde_json::to_string(message).context("the message cannot be written as JSON")?;
            request.headers.push(("X-Cambium-Timestamp", seconds.to_string()));
            if let Some(secret) = secret {
                let signed = sign(secret, format!("{seconds}.{body}").as_bytes())?;
                let digits: String = signed.iter().map(|byte| format!("{byte:02x}")).collect();
                request
                    .headers
                    .push(("X-Cambium-Signature", format!("sha256={digits}")));
            }
            request.body = body;
            return Ok(request);
        }
        Kind::Slack => json!({ "text": text }),
        Kind::WeCom => json!({ "msgtype": "text", "text": { "content": text } }),
        Kind::Feishu => {
            let mut body = json!({ "msg_type": "text", "content": { "text": text } });
            if let Some(secret) = secret {
                // Time stamp and secret are the key, and nothing is what is signed.
                let signed = sign(&format!("{seconds}\n{secret}"), b"")?;
                body["timestamp"] = seconds.to_string().into();
                body["sign"] = BASE64_STANDARD.encode(signed).into();
            }
            body
        }
        Kind::DingTalk => {
            if let Some(secret) = secret {
                let signed = sign(secret, format!("{now_ms}\n{secret}").as_bytes())?;
                let signed = BASE64_STANDARD.encode(signed);
                let escaped: String = form_urlencoded::byte_serialize(signed.as_bytes()).collect();
                let join = if request.url.contains('?') { '&' } else { '?' };
                request.url += &format!("{join}timestamp={now_ms}&sign={escaped}");
            }
            json!({ "msgtype": "text", "text": { "content": text } })
        }
        Kind::PagerDuty => {
            if request.url.is_empty() {
                PAGERDUTY.clone_into(&mut request.url);
            }
            pagerduty(channel, message)?
        }
        Kind::Alertmanager => {
            request.url = format!("{}/api/v2/alerts", request.url.trim_end_matches('/'));
            alertmanager(channel, message)
        }
    };
    request.body = body.to_string();
    Ok(request)
}

fn sign(key: &str, text: &[u8]) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).context("the secret is no key")?;
    mac.update(text);
    Ok(mac.finalize().into_bytes().to_vec())
}

fn pagerduty(channel: &Channel, message: &Message) -> Result<Value> {
    let key = channel
        .secret
        .as_deref()
        .with_context(|| format!("{}: PagerDuty needs its routing key as the secret", channel.name))?;
    let severity = match message.severity.as_str() {
        known @ ("critical" | "error" | "warning" | "info") => known,
        _ => "error",
    };
    let mut event = json!({
        "routing_key": key,
        "event_action": if message.state == Said::Firing { "trigger" } else { "resolve" },
        "dedup_key": message.id,
        "client": "Cambium",
        "payload": {
            "summary": message.title(channel.language),
            "source": "cambium",
            "severity": severity,
            "timestamp": instant(message.started_at),
            "component": message.rule,
            "custom_details": { "text": message.text(channel.language), "slice": message.slice },
        },
    });
    if !message.link.is_empty() {
        event["links"] = json!([{ "href": message.link, "text": message.rule }]);
    }
    Ok(event)
}

/// An alert without an end is over for Alertmanager when nobody repeats it for its `resolve_timeout`, five minutes:
/// one that is told once ends in so long, unless its end is told before.
const ALERTMANAGER_LASTS_MS: i64 = 30 * 86_400_000;

fn alertmanager(channel: &Channel, message: &Message) -> Value {
    let ends_at = message
        .resolved_at
        .unwrap_or(message.detected_at + ALERTMANAGER_LASTS_MS);
    let mut alert = json!({
        "labels": {
            "alertname": message.rule,
            "severity": message.severity,
            "slice": message.slice,
            "cambium_id": message.id,
        },
        "annotations": {
            "summary": message.title(channel.language),
            "description": message.text(channel.language),
        },
        "startsAt": instant(message.started_at),
        "endsAt": instant(ends_at),
    });
    if !message.link.is_empty() {
        alert["generatorURL"] = message.link.clone().into();
    }
    json!([alert])
}

#[cfg(test)]
mod tests;
