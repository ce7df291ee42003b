//! `cambium rekey`: topics into another, keyed by user.

mod identity;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cambium_kafka::{Copied, Copy, LogReader, Original, Settings, create_topic};
use clap::Args;

use crate::config::{Config, ConfigError};
use crate::reader::Reader;

use self::identity::{Links, Owner};

/// Copy topics into another, keyed by user: mends users on several partitions, merges topics, changes the
/// number of partitions, moves to another cluster.
///
/// Copies what the topics hold now, and goes on there the next time. Nothing is lost; what is copied twice
/// after a crash carries the same message id, and is counted once. With [identity] in the configuration, events that
/// name a device alone go to the user that it belongs to.
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

/// The headers that carry ids which the payload has no room for.
const MESSAGE_ID_HEADER: &str = "message_id";
const USER_ID_HEADER: &str = "user_id";

/// What became of the records.
#[derive(Default)]
struct Told {
    without_user: u64,
    message_id_headers: u64,
    user_id_headers: u64,
    linked: u64,
    linked_too_late: u64,
}

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
    let mut told = Told::default();
    let within_ms = config.setup.link_within_ms("");
    let copied = tokio::task::block_in_place(|| {
        copy.run(
            || {
                let links = within_ms.map(|within_ms| links(from, &copy, &mut readers, within_ms));
                Ok((links.transpose()?, readers))
            },
            |(links, readers), original| {
                let reader = reader_of(readers, original.topic)?;
                copied(reader, original, links.as_ref(), &mut told)
            },
        )
    })?;
    println!("copied {copied} records to {}", copy.to);
    if told.without_user > 0 {
        println!(
            "{} are no events: they went as they were, and will be rejected there with a reason",
            told.without_user
        );
    }
    if within_ms.is_some() {
        println!("{} went to the user whom their device belongs to", told.linked);
    }
    if told.linked_too_late > 0 {
        println!(
            "{} stayed with their device: a user came to it, but longer after than link_within",
            told.linked_too_late
        );
    }
    let headers = [
        (told.message_id_headers, "a message id", MESSAGE_ID_HEADER),
        (told.user_id_headers, "their user's id", USER_ID_HEADER),
    ];
    for (count, what, header) in headers.iter().filter(|(count, ..)| *count > 0) {
        println!(
            "{count} got {what} as a header: set {header} = {{ header = \"{header}\" }} in [source.fields] of {}",
            copy.to
        );
    }
    Ok(())
}

fn reader_of<'r>(readers: &'r mut BTreeMap<String, Reader>, topic: &str) -> Result<&'r mut Reader> {
    let reader = readers.get_mut(topic);
    reader.with_context(|| format!("topic {topic} was not asked for"))
}

/// Who came to which device, in all that the topics hold.
fn links(
    from: &Config,
    copy: &Copy,
    readers: &mut BTreeMap<String, Reader>,
    link_within_ms: i64,
) -> Result<Links> {
    let logs = LogReader::new(&Settings {
        brokers: copy.brokers.clone(),
        group: copy.group.clone(),
        topics: copy.from.clone(),
        settings: from.kafka_settings()?,
    });
    let mut links = Links::new(link_within_ms);
    for topic in &copy.from {
        let reader = reader_of(readers, topic)?;
        for partition in 0..logs.partitions(topic)? {
            let bounds = logs.bounds(topic, partition)?;
            logs.read(topic, partition, bounds, &mut |records| {
                for record in records {
                    let original = Original {
                        topic,
                        partition,
                        offset: record.offset,
                        key: record.key,
                        headers: record.headers.to_vec(),
                        payload: record.payload,
                    };
                    // What is no event says so when it is copied.
                    let _ = reader.read(&original, |event| links.see(event))?;
                }
                Ok(())
            })?;
        }
    }
    Ok(links)
}

/// A record under the key of its user, with a message id, and with the user's id where it had a device's alone.
fn copied(
    reader: &mut Reader,
    original: &Original<'_>,
    links: Option<&Links>,
    told: &mut Told,
) -> Result<Copied> {
    let read = reader.read(original, |event| {
        let owner = match links {
            Some(links) if event.user_id.is_empty() => {
                links.owner((event.app, event.anonymous_id), event.time)
            }
            _ => Owner::Nobody,
        };
        let has_user_id = !event.user_id.is_empty();
        (
            event.user().to_owned(),
            event.message_id.to_owned(),
            has_user_id,
            owner,
        )
    })?;
    let mut payload = original.payload.map(<[u8]>::to_vec);
    let Ok((user, message_id, has_user_id, owner)) = read else {
        told.without_user += 1;
        return Ok(Copied {
            payload,
            ..Copied::default()
        });
    };
    let mut headers = Vec::new();
    // Each in the payload where it has room, else in a header.
    let mut put = |member: &Option<String>, header: &str, id: &str| match (member, &mut payload) {
        (Some(member), Some(payload)) => *payload = with_member(payload, member, id),
        _ => headers.push((header.to_owned(), id.to_owned())),
    };
    let was_key = original.key == Some(message_id.as_bytes());
    if message_id.is_empty() {
        let id = format!("{}/{}/{}", original.topic, original.partition, original.offset);
        put(&reader.message_id_member, MESSAGE_ID_HEADER, &id);
    } else if was_key {
        put(&reader.message_id_member, MESSAGE_ID_HEADER, &message_id);
    }
    let key = match owner {
        Owner::User(owner) => {
            told.linked += 1;
            put(&reader.user_id_member, USER_ID_HEADER, owner);
            owner.to_owned()
        }
        Owner::LinkedTooLate => {
            told.linked_too_late += 1;
            user
        }
        Owner::Nobody => {
            // Where the header is read, it is read of all.
            if links.is_some() && has_user_id && reader.user_id_member.is_none() {
                put(&None, USER_ID_HEADER, &user);
            }
            user
        }
    };
    let has = |name: &str| u64::from(headers.iter().any(|(header, _)| header == name));
    told.message_id_headers += has(MESSAGE_ID_HEADER);
    told.user_id_headers += has(USER_ID_HEADER);
    Ok(Copied {
        key: Some(key.into_bytes()),
        payload,
        headers,
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
