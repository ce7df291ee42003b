//! E-mail by SMTP.

use anyhow::{Context, Result};
use lettre::message::header::ContentType;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor};

use crate::{Channel, Message};

/// Sends a message to all addresses at once.
pub async fn send(channel: &Channel, message: &Message, from: &str, to: &[String]) -> Result<()> {
    let mail = mail(channel, message, from, to)?;
    let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&channel.url)
        .with_context(|| format!("{}: the URL is not like smtps://user:password@host", channel.name))?
        .build();
    transport
        .send(mail)
        .await
        .map(|_| ())
        .with_context(|| format!("{}: the mail was not taken", channel.name))
}

fn mail(channel: &Channel, message: &Message, from: &str, to: &[String]) -> Result<Mail> {
    let mut mail = Mail::builder()
        .from(from.parse().with_context(|| format!("'{from}' is no address"))?)
        .subject(message.title(channel.language))
        // The same mail sent again is the same mail.
        .message_id(Some(format!("<{}.{}@cambium>", message.id, message.state.name())))
        // Mail programs show what belongs together.
        .references(format!("<{}@cambium>", message.id))
        .header(ContentType::TEXT_PLAIN);
    for address in to {
        mail = mail.to(address
            .parse()
            .with_context(|| format!("'{address}' is no address"))?);
    }
    mail.body(message.text(channel.language))
        .context("the mail cannot be written")
}
