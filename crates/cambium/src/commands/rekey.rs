//! `cambium rekey`: topics into another, keyed by user.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cambium_kafka::{Copied, Copy, Original, create_topic};
use clap::Args;

use crate::config::{Config, ConfigError};
use crate::reader::Reader;

/// Copy topics into another, keyed by user: mends users on several partitions, merges topics, changes the
/// number of partitions, moves to another cluster.
///
/// Copies what the topics hold now, and goes on there the next time. Nothing is lost; what is copied twice
/// after a crash carries the same message id, and is counted once.
///
/// Example: cambium rekey --config cambium.toml --from web --from ios --to events --partitions 12
#[derive(Args, Debug)]
pub struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The configuration of the cluster that the topics lie on, where it is another
    #[arg(long, value_name = "FILE")]
    from_config: Option<PathBuf>,
    /// A topic to copy; may be given several times
    #[arg(long, required = true, num_args = 1.., value_name = "TOPIC")]
    from: Vec<String>,
    /// The topic to copy to; it is created if it is not there
    #[arg(long, value_name = "TOPIC")]
    to: String,
    /// Partitions of a topic that is created
    #[arg(long, value_name = "N", default_value_t = 6)]
    partitions: i32,
}

/// The header that carries a message id which the payload has no room for.
const MESSAGE_ID_HEADER: &str = "message_id";

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.config)?;
    let from = match &arguments.from_config {
        Some(file) => &Config::read(file)?,
        None => &config,
    };
    if from.kafka.brokers == config.kafka.brokers && arguments.from.contains(&arguments.to) {
        let text = format!("--to {}: a topic cannot be copied into itself", arguments.to);
        return Err(ConfigError::new(text).into());
    }
    let mut readers = BTreeMap::new();
    for topic in &arguments.from {
        let source = from.sources.iter().find(|source| source.topic == *topic);
        readers.insert(topic.clone(), Reader::new(from, source)?);
    }
    let (kafka, settings) = (&config.kafka, config.kafka_settings()?);
    create_topic(&kafka.brokers, &settings, &arguments.to, arguments.partitions).await?;
    let copy = Copy {
        brokers: from.kafka.brokers.clone(),
        settings: from.kafka_settings()?,
        group: format!("{}-rekey-{}", from.kafka.group, arguments.to),
        from: arguments.from,
        to_brokers: kafka.brokers.clone(),
        to_settings: settings,
        to: arguments.to,
    };
    let (mut headers, mut without_user) = (0u64, 0u64);
    let copied = tokio::task::block_in_place(|| {
        copy.run(|original| {
            let reader = readers
                .get_mut(original.topic)
                .with_context(|| format!("topic {} was not asked for", original.topic))?;
            let copied = copied(reader, original)?;
            headers += u64::from(copied.header.is_some());
            without_user += u64::from(copied.key.is_none());
            Ok(copied)
        })
    })?;
    println!("copied {copied} records to {}", copy.to);
    if without_user > 0 {
        println!(
            "{without_user} are no events: they went as they were, and will be rejected there with a reason"
        );
    }
    if headers > 0 {
        println!(
            "{headers} got a message id as a header: set message_id = {{ header = \"{MESSAGE_ID_HEADER}\" }} in [source.fields] of {}",
            copy.to
        );
    }
    Ok(())
}

/// A record under the key of its user, with a message id.
fn copied(reader: &mut Reader, original: &Original<'_>) -> Result<Copied> {
    let read = reader.read(original, |event| {
        (event.user().to_owned(), event.message_id.to_owned())
    })?;
    let payload = original.payload.map(<[u8]>::to_vec);
    let Ok((user, message_id)) = read else {
        return Ok(Copied {
            payload,
            ..Copied::default()
        });
    };
    let key = Some(user.into_bytes());
    let was_key = original.key == Some(message_id.as_bytes());
    if !message_id.is_empty() && !was_key {
        return Ok(Copied {
            key,
            payload,
            header: None,
        });
    }
    let id = if message_id.is_empty() {
        format!("{}/{}/{}", original.topic, original.partition, original.offset)
    } else {
        message_id
    };
    Ok(match (&reader.message_id_member, payload) {
        (Some(member), Some(payload)) => Copied {
            key,
            payload: Some(with_member(&payload, member, &id)),
            header: None,
        },
        (_, payload) => Copied {
            key,
            payload,
            header: Some((MESSAGE_ID_HEADER.to_owned(), id)),
        },
    })
}

/// A JSON object with one member more, at its end: of members of one name the last counts.
fn with_member(object: &[u8], name: &str, value: &str) -> Vec<u8> {
    let end = object
        .iter()
        .rposition(|byte| *byte == b'}')
        .unwrap_or(object.len());
    let member = serde_json::json!({ name: value }).to_string();
    let mut with = object[..end].to_vec();
    with.push(b',');
    // Without the member's own opening brace.
    with.extend(&member.as_bytes()[1..]);
    with
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_added_without_touching_the_others() {
        let with = with_member(
            b" {\"a\":12345678901234567890.10, \"b\":{}} \n",
            "id",
            "t/0/\"7\"",
        );
        assert_eq!(
            String::from_utf8(with).unwrap(),
            " {\"a\":12345678901234567890.10, \"b\":{},\"id\":\"t/0/\\\"7\\\"\"}"
        );
    }
}
