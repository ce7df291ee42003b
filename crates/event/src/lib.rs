//! The event: what a user did, once, at a time, in an app; how it is read from a record, and the
//! named reasons why a record is not one. No I/O.
//!
//! A record is read once, against a [`Plan`] of what is wanted: the event's own fields, wherever
//! the source keeps them, and the properties that some definition asks for. All else is skipped.

mod avro;
mod decoders;
mod fields;
mod json;
mod keys;
mod number;
mod plan;
mod record;
mod rejection;
mod slots;
mod text;
mod value;

pub use avro::{AvroDecoder, EVENT_SCHEMA, SchemaText};
pub use decoders::{Decoders, Format, SchemaError, Schemas, TOGETHER};
pub use fields::{DIMENSIONS, Event, Field};
pub use keys::{IN_ENDS, ends};
pub use number::{Number, decimal_to_ms};
pub use plan::{FieldSource, Fields, Plan, PropertyPath, Unit};
pub use record::{Record, read};
pub use rejection::{MAX_RECORD_BYTES, Reason, Rejection};
pub use value::Value;
