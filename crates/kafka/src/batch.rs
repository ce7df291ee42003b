//! A partition's queue, read many records at a time: librdkafka hands a batch over for less than half of what it asks
//! for one record after the other, and rdkafka has no safe face for that.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{NonNull, null, null_mut};
use std::sync::Arc;
use std::time::Duration;

use cambium_event::Record;
use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

/// Records in a batch at most.
const RECORDS: usize = 500;

/// The queue of one partition, split off from its consumer's.
pub(crate) struct Queue<C: ConsumerContext> {
    queue: NonNull<native::rd_kafka_queue_t>,
    /// Lives as long as its queue.
    _consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread; this one is used from one at a time.
unsafe impl<C: ConsumerContext> Send for Queue<C> {}

impl<C: ConsumerContext> Queue<C> {
    /// Splits a partition's queue off; none: the partition is not known.
    pub fn split(consumer: &Arc<BaseConsumer<C>>, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: client and text are alive through the call, and what comes back is ours to destroy.
        let queue = unsafe { native::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        let queue = NonNull::new(queue)?;
        // SAFETY: it was just given to us; forwarding to nothing takes it off the consumer's queue.
        unsafe { native::rd_kafka_queue_forward(queue.as_ptr(), null_mut()) };
        Some(Queue {
            queue,
            _consumer: consumer.clone(),
        })
    }

    /// All that comes to a consumer, which is polled no other way then. Nothing can come before it is there, as it may where a queue
    /// is split off.
    pub fn whole(consumer: &Arc<BaseConsumer<C>>) -> Option<Self> {
        // SAFETY: the client is alive through the call, and what comes back is ours to destroy.
        let queue = unsafe { native::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Some(Queue {
            queue: NonNull::new(queue)?,
            _consumer: consumer.clone(),
        })
    }

    /// What is there, in the place of what was in the batch; waits for a first record where nothing is.
    pub fn take(&self, batch: &mut Batch, patience: Duration) {
        batch.clear();
        let patience_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // Asked for more than there is, librdkafka waits for the rest as long as it may.
        for (patience_ms, most) in [(0, RECORDS), (patience_ms, 1)] {
            let room = batch.0.as_mut_ptr();
            // SAFETY: the queue is alive, and there is room for `RECORDS` messages.
            let taken =
                unsafe { native::rd_kafka_consume_batch_queue(self.queue.as_ptr(), patience_ms, room, most) };
            let taken = usize::try_from(taken).unwrap_or(0).min(most);
            // SAFETY: so many were written; they are ours to destroy.
            unsafe { batch.0.set_len(taken) };
            if taken > 0 {
                return;
            }
        }
    }
}

impl<C: ConsumerContext> Drop for Queue<C> {
    fn drop(&mut self) {
        // SAFETY: it is ours, and used for the last time.
        unsafe { native::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// The offset of a record that has headers, and what they are.
type Headers<'b> = (i64, Vec<(&'b str, &'b [u8])>);

/// Messages that librdkafka handed over, and errors among them.
pub(crate) struct Batch(Vec<*mut native::rd_kafka_message_t>);

impl Batch {
    pub fn new() -> Batch {
        Batch(Vec::with_capacity(RECORDS))
    }

    fn clear(&mut self) {
        for message in self.0.drain(..) {
            // SAFETY: it was handed over to us, and nothing borrows from it any more.
            unsafe { native::rd_kafka_message_destroy(message) };
        }
    }

    fn messages(&self) -> impl Iterator<Item = &native::rd_kafka_message_t> {
        // SAFETY: all are alive until the batch is cleared, which wants it for itself.
        self.0.iter().map(|message| unsafe { &**message })
    }

    /// What is no record, each with librdkafka's reason; a partition's end is none either.
    pub fn errors(&self) -> impl Iterator<Item = (KafkaError, Cow<'_, str>)> {
        let errors = self.messages().filter(|message| message.err != NO_ERROR);
        errors.filter_map(|message| {
            let error = match RDKafkaErrorCode::from(message.err) {
                RDKafkaErrorCode::PartitionEOF => return None,
                RDKafkaErrorCode::Fatal => KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::Fatal),
                code => KafkaError::MessageConsumption(code),
            };
            let reason = bytes(message.payload, message.len).unwrap_or_default();
            Some((error, String::from_utf8_lossy(reason)))
        })
    }

    /// Whether the partition's end was reached.
    pub fn is_at_end(&self) -> bool {
        let is_end = |message: &native::rd_kafka_message_t| {
            message.err != NO_ERROR && RDKafkaErrorCode::from(message.err) == RDKafkaErrorCode::PartitionEOF
        };
        self.messages().any(is_end)
    }

    /// The headers of all records, for [`Batch::records`].
    pub fn headers(&self) -> Vec<Headers<'_>> {
        let records = self.messages().filter(|message| message.err == NO_ERROR);
        records
            .filter_map(|message| {
                let headers = headers(message);
                (!headers.is_empty()).then_some((message.offset, headers))
            })
            .collect()
    }

    /// The records, in their order, each with its headers.
    pub fn records<'b>(&'b self, headers: &'b [Headers<'b>]) -> Vec<Record<'b>> {
        let mut headers = headers.iter().peekable();
        let records = self.messages().filter(|message| message.err == NO_ERROR);
        records
            .map(|message| {
                let own = headers.next_if(|(offset, _)| *offset == message.offset);
                Record {
                    offset: message.offset,
                    timestamp: timestamp(message),
                    key: bytes(message.key, message.key_len),
                    headers: own.map_or(&[], |(_, headers)| headers),
                    taken_in_at: None,
                    schema: None,
                    payload: bytes(message.payload, message.len),
                }
            })
            .collect()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear();
    }
}

const NO_ERROR: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;

/// Bytes that lie in a message; no pointer: there are none, which is not the same as empty ones.
fn bytes<'b>(pointer: *const c_void, length: usize) -> Option<&'b [u8]> {
    // SAFETY: librdkafka says that so many bytes lie there, for as long as the message lives, which callers borrow.
    (!pointer.is_null()).then(|| unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

fn timestamp(message: &native::rd_kafka_message_t) -> Option<i64> {
    let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message is alive, and the kind has its place.
    let ms = unsafe { native::rd_kafka_message_timestamp(message, &mut kind) };
    (ms != -1 && kind != native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(ms)
}

/// A message's headers; one whose name is no text is left out.
fn headers(message: &native::rd_kafka_message_t) -> Vec<(&str, &[u8])> {
    let mut all = null_mut();
    // SAFETY: the message is alive; its headers live as long as it.
    if unsafe { native::rd_kafka_message_headers(message, &mut all) } != NO_ERROR {
        return Vec::new();
    }
    let mut found = Vec::new();
    for index in 0.. {
        let (mut name, mut value, mut length): (*const c_char, *const c_void, usize) = (null(), null(), 0);
        // SAFETY: the list is alive, and name, value and length have their places.
        let error =
            unsafe { native::rd_kafka_header_get_all(all, index, &mut name, &mut value, &mut length) };
        if error != NO_ERROR {
            break;
        }
        // SAFETY: librdkafka ends names with a zero.
        let name = unsafe { CStr::from_ptr(name) }.to_str();
        if let (Ok(name), Some(value)) = (name, bytes(value, length)) {
            found.push((name, value));
        }
    }
    found
}
