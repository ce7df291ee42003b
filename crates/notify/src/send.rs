//! Sending, and trying again.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run::now_ms;
use crate::{Channel, Kind, Message, email, meters, request};

const TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Sends a message; one that is not taken is sent again, with growing pauses, for so long.
pub async fn send(channel: &Channel, message: &Message, patience: Duration) -> Result<()> {
    let begun = tokio::time::Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match once(channel, message).await {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() + pause > patience => return Err(error),
            Err(error) => {
                meters::delivery(&channel.name, "failed");
                tracing::warn!("{error:#}; trying again in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn once(channel: &Channel, message: &Message) -> Result<()> {
    if let Kind::Email { from, to } = &channel.kind {
        return email::send(channel, message, from, to).await;
    }
    let now = now_ms();
    let request = request(channel, message, now)?;
    let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let mut post = client
        .post(&request.url)
        .header("Content-Type", "application/json");
    for (name, value) in request.headers {
        post = post.header(name, value);
    }
    // The URL of a chat's channel is a secret: it is left out of what is said.
    let response = post.body(request.body).send().await;
    let response = response
        .map_err(reqwest::Error::without_url)
        .with_context(|| format!("channel {}: cannot be reached", channel.name))?;
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    let said = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    if !status.is_success() {
        bail!("channel {}: answered {status}: {said}", channel.name);
    }
    // Feishu, DingTalk and WeCom answer 200 and say in the body what is wrong.
    let code = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|answer| answer.get("errcode").or(answer.get("code"))?.as_i64());
    match (&channel.kind, code) {
        (Kind::Feishu | Kind::DingTalk | Kind::WeCom, Some(code)) if code != 0 => {
            bail!("channel {}: did not take it: {said}", channel.name)
        }
        _ => Ok(()),
    }
}
