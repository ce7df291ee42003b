//! How the records of one source are read, whatever their format.

use std::collections::BTreeMap;

use bumpalo::Bump;
use serde::{Deserialize, Serialize};

use crate::avro::{AvroDecoder, SchemaText};
use crate::record::use_slots;
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
        let payload = record.checked_payload()?;
        let made = Bump::new();
        let mut slots = Slots::new(&made);
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
            None => json::read(payload, &self.plan.root, &mut slots)?,
            Some((decoder, datum)) => {
                decoder.read(datum, &mut slots)?;
                if self.plan.wants_all
                    && let Some(text) = decoder.all_properties(datum, &self.plan)
                {
                    slots.all_properties = slots.keep(&text);
                }
            }
        }
        use_slots(record, &self.plan, &mut slots, use_event)
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
