//! Which topic lies behind a name: a topic that was deleted and created again has another id. librdkafka itself reads on
//! over the new one as if it were the old, and rdkafka has no face for asking.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr::null_mut;
use std::time::Duration;

use anyhow::{Context, Result};
use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};

use crate::silence::Silent;

/// A topic, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNow {
    /// None: the broker is too old to give it one.
    pub id: Option<String>,
    pub partitions: usize,
}

impl TopicNow {
    /// Whether it is another topic than this one was. Where an id is lacking, nobody knows.
    pub fn is_another(&self, was: &TopicNow) -> bool {
        self.id
            .as_ref()
            .zip(was.id.as_ref())
            .is_some_and(|(is, was)| is != was)
    }
}

/// What librdkafka gives where there is no id.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Asks a broker for topics; one that does not exist is left out.
pub(crate) fn topics_now<C: ClientContext>(
    client: &Client<C>,
    names: &[&str],
    patience: Duration,
) -> Result<BTreeMap<String, TopicNow>> {
    // Left to itself, librdkafka asks the controller, which the in-process broker has not got.
    let asked = client.fetch_metadata(names.first().copied(), patience);
    let broker = asked.context("no broker answers")?.orig_broker_id();
    let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let names: Vec<CString> = names
        .iter()
        .map(|name| CString::new(*name))
        .collect::<Result<_, _>>()
        .context("a topic's name is not valid")?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let native = client.native_ptr();
    // SAFETY: the client is alive through the call; what is made here is destroyed here, results after the last look
    // at what lies in them.
    unsafe {
        let options = native::rd_kafka_AdminOptions_new(
            native,
            native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        native::rd_kafka_AdminOptions_set_request_timeout(options, patience_ms, null_mut(), 0);
        native::rd_kafka_AdminOptions_set_broker(options, broker, null_mut(), 0);
        let topics = native::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let queue = native::rd_kafka_queue_new(native);
        native::rd_kafka_DescribeTopics(native, topics, options, queue);
        let event = native::rd_kafka_queue_poll(queue, patience_ms);
        let found = answered(event, patience);
        if !event.is_null() {
            native::rd_kafka_event_destroy(event);
        }
        native::rd_kafka_queue_destroy(queue);
        native::rd_kafka_TopicCollection_destroy(topics);
        native::rd_kafka_AdminOptions_destroy(options);
        found
    }
}

/// # Safety
/// An event that is alive, or none.
unsafe fn answered(
    event: *mut native::rd_kafka_event_t,
    patience: Duration,
) -> Result<BTreeMap<String, TopicNow>> {
    let mut found = BTreeMap::new();
    // SAFETY: results, topics and texts live as long as the event, and texts end with a zero.
    unsafe {
        let result = if event.is_null() {
            event.cast_const().cast()
        } else {
            native::rd_kafka_event_DescribeTopics_result(event)
        };
        if result.is_null() {
            return Err(Silent(patience).into());
        }
        let mut count = 0;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for place in 0..count {
            let topic = *topics.add(place);
            let error = native::rd_kafka_TopicDescription_error(topic);
            if !error.is_null()
                && native::rd_kafka_error_code(error)
                    != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                continue;
            }
            let text = |text| CStr::from_ptr(text).to_string_lossy().into_owned();
            let name = text(native::rd_kafka_TopicDescription_name(topic));
            let id = text(native::rd_kafka_Uuid_base64str(
                native::rd_kafka_TopicDescription_topic_id(topic),
            ));
            let mut partitions = 0;
            native::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            let id = (id != NO_ID).then_some(id);
            found.insert(name, TopicNow { id, partitions });
        }
    }
    Ok(found)
}
