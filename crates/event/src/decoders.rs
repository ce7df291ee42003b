//! How the records of one source are read, whatever their format.

use std::collections::BTreeMap;

use bumpalo::Bump;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::avro::{AvroDecoder, SchemaText};
use crate::record::{event_of, fill_from_outside};
use crate::slots::Slots;
use crate::{Event, Plan, Reason, Record, Rejection, json};

/// The format of a source's records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    #[default]
    Json,
    /// Each record is one datum of this schema.
    Avro(SchemaText),
    /// Confluent's wire format: a zero byte, the schema's id in a registry as four bytes, the datum.
    AvroConfluent,
}

/// What is known of schema ids: their text, or that nobody knows them.
pub type Schemas = BTreeMap<u32, Option<SchemaText>>;

/// A schema that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError(pub String);

impl std::error::Error for SchemaError {}

impl std::fmt::Display for SchemaError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "the Avro schema cannot be used: {}", self.0)
    }
}

/// A plan, compiled for each schema that its records are written in.
#[derive(Clone, Debug)]
pub struct Decoders {
    plan: Plan,
    format: Format,
    fixed: Option<AvroDecoder>,
    /// By schema id; a schema that cannot be used is kept with its error.
    known: BTreeMap<u32, Result<AvroDecoder, String>>,
}

impl Default for Decoders {
    /// Wants nothing; a place holder.
    fn default() -> Self {
        Decoders {
            plan: Plan::empty(),
            format: Format::Json,
            fixed: None,
            known: BTreeMap::new(),
        }
    }
}

/// How many records are best read and counted together: so many users can be on their way from memory at once, and so
/// many events lie on the stack.
pub const TOGETHER: usize = 16;

impl Decoders {
    pub fn new(plan: Plan, format: Format, schemas: &Schemas) -> Result<Decoders, SchemaError> {
        let fixed = match &format {
            Format::Avro(schema) => Some(AvroDecoder::new(schema, &plan).map_err(SchemaError)?),
            _ => None,
        };
        let mut decoders = Decoders {
            plan,
            format,
            fixed,
            known: BTreeMap::new(),
        };
        for (id, schema) in schemas {
            decoders.learn(*id, schema.as_ref());
        }
        Ok(decoders)
    }

    /// Takes what is known of a schema id.
    pub fn learn(&mut self, id: u32, schema: Option<&SchemaText>) {
        match schema {
            Some(schema) => self.known.insert(id, AvroDecoder::new(schema, &self.plan)),
            None => self.known.remove(&id),
        };
    }

    /// The id of the schema that a record is written in, where it names one.
    pub fn schema_id(&self, record: &Record<'_>) -> Option<u32> {
        if record.schema.is_some() {
            return record.schema;
        }
        match (&self.format, record.payload) {
            (Format::AvroConfluent, Some(payload)) => Some(confluent(payload).ok()?.0),
            _ => None,
        }
    }

    /// Reads a record and hands the event to `use_event`; or says why it is none.
    pub fn read<R>(
        &self,
        record: &Record<'_>,
        use_event: impl FnOnce(&Event<'_>) -> R,
    ) -> Result<R, Rejection> {
        let made = Bump::new();
        let mut slots = Slots::new(&made);
        self.fill(record, &mut slots)?;
        event_of(&slots, &self.plan).map(|event| use_event(&event))
    }

    /// Reads some records and hands all events to `use_events` at once, each or why it is none, in their order.
    pub fn read_together<R>(
        &self,
        records: &[Record<'_>],
        use_events: impl FnOnce(&mut [Result<Event<'_>, Rejection>]) -> R,
    ) -> R {
        let made = Bump::new();
        // They are large, and filled where they are.
        let mut slots: SmallVec<[Slots<'_>; TOGETHER]> = SmallVec::new();
        slots.extend(records.iter().map(|_| Slots::new(&made)));
        let filled: SmallVec<[Result<(), Rejection>; TOGETHER]> = records
            .iter()
            .zip(&mut slots)
            .map(|(record, slots)| self.fill(record, slots))
            .collect();
        let mut events: SmallVec<[Result<Event<'_>, Rejection>; TOGETHER]> = SmallVec::new();
        let read = filled.into_iter().zip(&slots);
        events.extend(read.map(|(filled, slots)| filled.and_then(|()| event_of(slots, &self.plan))));
        use_events(&mut events)
    }

    fn fill<'a>(&'a self, record: &Record<'a>, slots: &mut Slots<'a>) -> Result<(), Rejection> {
        let payload = record.checked_payload()?;
        slots.expect_properties(self.plan.properties);
        let avro = match (record.schema, &self.format, &self.fixed) {
            (Some(id), ..) => Some((self.known(id)?, payload)),
            (None, Format::AvroConfluent, _) => {
                let (id, datum) = confluent(payload)?;
                Some((self.known(id)?, datum))
            }
            (None, Format::Avro(_), Some(fixed)) => Some((fixed, payload)),
            _ => None,
        };
        match avro {
            None => json::read(payload, &self.plan.root, slots)?,
            Some((decoder, datum)) => {
                decoder.read(datum, slots)?;
                if self.plan.wants_all
                    && let Some(text) = decoder.all_properties(datum, &self.plan)
                {
                    slots.all_properties = slots.keep(&text);
                }
            }
        }
        fill_from_outside(record, &self.plan, slots);
        Ok(())
    }

    fn known(&self, id: u32) -> Result<&AvroDecoder, Rejection> {
        match self.known.get(&id) {
            Some(Ok(decoder)) => Ok(decoder),
            Some(Err(why)) => Err(Rejection::new(
                Reason::Unreadable,
                format!("schema {id} cannot be used: {why}"),
            )),
            None => Err(Rejection::new(
                Reason::UnknownSchema,
                format!("the registry knows no schema {id}"),
            )),
        }
    }
}

/// Schema id and datum of Confluent's wire format.
fn confluent(payload: &[u8]) -> Result<(u32, &[u8]), Rejection> {
    match payload {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => Err(Rejection::new(
            Reason::Unreadable,
            "not Confluent's wire format: it does not begin with a zero byte and a schema id",
        )),
    }
}
