//! Avro records, read without building a value: a writer's schema and a plan are compiled once into
//! steps that skip what nobody wants and borrow what somebody does.
//!
//! Fields are found by their names in the writer's schema, so that producers may run an older or a newer
//! one: a field that it lacks is missing, one that it has more is skipped, and number types are read as
//! numbers. The encoding is that of the Avro specification 1.12, "Binary Encoding".

mod compile;
mod cursor;

use std::borrow::Cow;
use std::collections::BTreeMap;

use apache_avro::Schema;
use serde::{Deserialize, Serialize};

use crate::{Field, Number, Plan, Reason, Rejection, Value};
use compile::Compiler;
use cursor::Cursor;

/// A schema as text, with the schemas that it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaText {
    pub schema: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
}

/// Cambium's own schema of an event.
pub const EVENT_SCHEMA: &str = include_str!("../../../schemas/events/event.avsc");

/// The shape of a value that is skipped.
#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Fixed(usize),
    Varint,
    /// Text, or bytes: a length and so many bytes.
    Bytes,
    Array(Box<Shape>),
    Map(Box<Shape>),
    Union(Vec<Shape>),
    /// A named record, by its number.
    Record(usize),
}

/// One thing to do with the bytes that come next.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Skip(Shape),
    Scalar(Scalar, Vec<usize>),
    /// What to do in each branch.
    Union(Vec<Vec<Step>>),
    Map {
        wanted: BTreeMap<String, Vec<Step>>,
        other: Shape,
        /// Slots below each wanted key: a key that is repeated counts as its last.
        below: BTreeMap<String, Vec<usize>>,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Scalar {
    Null,
    Boolean,
    Integer,
    /// An instant in units of 10^-digits seconds; elsewhere than in the event's time a number of ms.
    Instant {
        digits: u32,
    },
    Float,
    Double,
    Text,
    Bytes,
    Enum(Vec<String>),
    /// A big-endian integer of so many bytes, or with its length before it, times 10^-scale.
    Decimal {
        size: Option<usize>,
        scale: i32,
    },
}

/// Reads the records of one writer's schema.
#[derive(Clone, Debug, PartialEq)]
pub struct AvroDecoder {
    steps: Vec<Step>,
    /// The fields of each named record, to be skipped.
    records: Vec<Vec<Shape>>,
    /// The schema and what it refers to, where whole records are asked for.
    schema: Option<(Schema, Vec<Schema>)>,
}

/// Records within records, at most.
const MAX_DEPTH: usize = 64;

impl AvroDecoder {
    /// Compiles a writer's schema for a plan; the error says what the schema lacks.
    pub fn new(text: &SchemaText, plan: &Plan) -> Result<AvroDecoder, String> {
        let parsed = Schema::parse_str_with_list(&text.schema, &text.references);
        let parsed = parsed.map_err(|error| error.to_string())?;
        let mut decoder = Compiler::compile(&parsed.0, &parsed.1, &plan.root)?;
        decoder.schema = plan.whole.map(|_| parsed);
        Ok(decoder)
    }

    /// All properties as JSON text: for the table of events alone, where the whole record is wanted.
    pub(crate) fn all_properties(&self, mut datum: &[u8], plan: &Plan) -> Option<String> {
        let (schema, references) = self.schema.as_ref()?;
        let schemata = references.iter().chain([schema]).collect();
        let value = apache_avro::from_avro_datum_schemata(schema, schemata, &mut datum, None).ok()?;
        let json = serde_json::Value::try_from(value).ok()?;
        Some(plan.properties_of(&json)?.to_string())
    }

    pub(crate) fn read<'a>(&'a self, payload: &'a [u8], slots: &mut [Value<'a>]) -> Result<(), Rejection> {
        let mut cursor = Cursor::new(payload);
        let read = self.follow(&self.steps, &mut cursor, slots);
        let complete = read.and_then(|()| match cursor.left() {
            0 => Ok(()),
            more => Err(format!("{more} bytes more than the schema says")),
        });
        complete.map_err(|why| Rejection::new(Reason::Unreadable, format!("not Avro of its schema: {why}")))
    }

    fn follow<'a>(
        &'a self,
        steps: &'a [Step],
        cursor: &mut Cursor<'a>,
        slots: &mut [Value<'a>],
    ) -> Result<(), String> {
        for step in steps {
            match step {
                Step::Skip(shape) => self.skip(shape, cursor, 0)?,
                Step::Scalar(scalar, wanted) => scalar.read(cursor, wanted, slots)?,
                Step::Union(branches) => {
                    let branch = cursor.index(branches.len())?;
                    self.follow(&branches[branch], cursor, slots)?;
                }
                Step::Map { wanted, other, below } => {
                    cursor.blocks(|cursor| {
                        let key = cursor.text()?;
                        let Some(steps) = wanted.get(key) else {
                            return self.skip(other, cursor, 0);
                        };
                        for slot in below.get(key).into_iter().flatten() {
                            slots[*slot] = Value::Missing;
                        }
                        self.follow(steps, cursor, slots)
                    })?;
                }
            }
        }
        Ok(())
    }

    fn skip(&self, shape: &Shape, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested more than {MAX_DEPTH} times"));
        }
        match shape {
            Shape::Fixed(size) => cursor.take(*size).map(|_| ()),
            Shape::Varint => cursor.varint().map(|_| ()),
            Shape::Bytes => cursor.bytes().map(|_| ()),
            Shape::Union(branches) => {
                let branch = cursor.index(branches.len())?;
                self.skip(&branches[branch], cursor, depth + 1)
            }
            Shape::Record(number) => self.records[*number]
                .iter()
                .try_for_each(|field| self.skip(field, cursor, depth + 1)),
            // Items without bytes could be said to be there any number of times.
            Shape::Array(item) if self.is_empty(item, 0) => cursor.empty_blocks(),
            Shape::Array(item) => cursor.skip_blocks(|cursor| self.skip(item, cursor, depth + 1)),
            Shape::Map(value) => cursor.skip_blocks(|cursor| {
                cursor.bytes()?;
                self.skip(value, cursor, depth + 1)
            }),
        }
    }

    /// Whether values of a shape take no bytes.
    fn is_empty(&self, shape: &Shape, depth: usize) -> bool {
        match shape {
            Shape::Fixed(size) => *size == 0,
            Shape::Record(number) => {
                depth <= MAX_DEPTH
                    && self.records[*number]
                        .iter()
                        .all(|field| self.is_empty(field, depth + 1))
            }
            _ => false,
        }
    }
}

impl Scalar {
    fn read<'a>(
        &'a self,
        cursor: &mut Cursor<'a>,
        wanted: &[usize],
        slots: &mut [Value<'a>],
    ) -> Result<(), String> {
        let value = match self {
            Scalar::Null => Value::Null,
            Scalar::Boolean => match cursor.take(1)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err("a boolean that is neither 0 nor 1".to_owned()),
            },
            Scalar::Integer => Value::Number(Number::Int(cursor.varint()?)),
            Scalar::Instant { digits } => {
                let raw = cursor.varint()?;
                let ms = match digits.checked_sub(3) {
                    Some(finer) => raw.div_euclid(10i64.pow(finer)),
                    None => raw.saturating_mul(10i64.pow(3 - digits)),
                };
                for slot in wanted {
                    slots[*slot] = if *slot == Field::Timestamp as usize {
                        Value::Instant(ms)
                    } else {
                        Value::Number(Number::Int(ms))
                    };
                }
                return Ok(());
            }
            Scalar::Float => {
                let bytes = cursor.array::<4>()?;
                // The shortest text of the 32 bits, not the digits of 64: 12.1 stays 12.1.
                float(f32::from_le_bytes(bytes).to_string().parse().unwrap_or(f64::NAN))
            }
            Scalar::Double => float(f64::from_le_bytes(cursor.array::<8>()?)),
            Scalar::Text => Value::Text(Cow::Borrowed(cursor.text()?)),
            Scalar::Bytes => match std::str::from_utf8(cursor.bytes()?) {
                Ok(text) => Value::Text(Cow::Borrowed(text)),
                Err(_) => Value::Missing,
            },
            Scalar::Enum(symbols) => Value::Text(Cow::Borrowed(&symbols[cursor.index(symbols.len())?])),
            Scalar::Decimal { size, scale } => {
                let bytes = match size {
                    Some(size) => cursor.take(*size)?,
                    None => cursor.bytes()?,
                };
                decimal(bytes, *scale)
            }
        };
        for slot in wanted {
            slots[*slot] = value.clone();
        }
        Ok(())
    }
}

fn float<'a>(float: f64) -> Value<'a> {
    if float.is_finite() {
        Value::Number(Number::Float(float))
    } else {
        Value::Missing
    }
}

/// A two's complement integer times 10^-scale; one of more than 16 bytes is no number of ours.
fn decimal<'a>(bytes: &[u8], scale: i32) -> Value<'a> {
    let Some(first) = bytes.first().filter(|_| bytes.len() <= 16) else {
        return Value::Missing;
    };
    let fill = if *first >= 0x80 { 0xff } else { 0 };
    let mut whole = [fill; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    let unscaled = i128::from_be_bytes(whole);
    // Through its text: 1250 and 2 are 12.5 exactly as '12.50' is.
    float(format!("{unscaled}e-{scale}").parse().unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests;
