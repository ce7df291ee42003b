//! Avro records, read without building a value: a writer's schema and a plan are compiled once into
//! steps that skip what nobody wants and borrow what somebody does.
//!
//! Fields are found by their names in the writer's schema, so that producers may run an older or a newer
//! one: a field that it lacks is missing, one that it has more is skipped, and number types are read as
//! numbers. The encoding is that of the Avro specification 1.12, "Binary Encoding".

mod compile;
mod cursor;

use std::borrow::Cow;

use apache_avro::Schema;
use serde::{Deserialize, Serialize};

use crate::keys::ByKey;
use crate::slots::{Slot, Slots};
use crate::{Field, Number, Plan, Reason, Rejection, Value};
use compile::Compiler;
use cursor::{Broken, Cursor};

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
#[repr(u8)]
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
#[repr(u8)] // A plain number is faster to branch on than one that shares its place with something else.
enum Step {
    Skip(Shape),
    /// A text that is one of the event's ids or names.
    Name(Field),
    /// The same, where it may be left out: a union of null and text, and the branch that is text, as it is encoded.
    NameOrNull(Field, u64),
    /// The event's time, where its type says what it is, in units of 10^-digits seconds.
    Time {
        digits: u32,
    },
    Scalar(Scalar, Vec<Slot>),
    /// What to do in each branch, where not all of them are scalars.
    Union(Vec<Vec<Step>>),
    Map {
        wanted: ByKey<Member>,
        other: Shape,
    },
}

/// What is done with a value of a map.
#[derive(Clone, Debug, PartialEq)]
struct Member {
    steps: Vec<Step>,
    /// Slots below it: a key that is repeated counts as its last.
    below: Vec<Slot>,
}

#[derive(Clone, Debug, PartialEq)]
#[repr(u8)]
enum Scalar {
    /// One of these.
    Union(Vec<Scalar>),
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
        decoder.schema = plan.wants_all.then_some(parsed);
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

    pub(crate) fn read<'a>(&'a self, payload: &'a [u8], slots: &mut Slots<'a>) -> Result<(), Rejection> {
        let why = match self.follow(&self.steps, Cursor::new(payload), slots) {
            Ok(end) if end.left() == 0 => return Ok(()),
            Ok(_) => Broken::EndsLate,
            Err(why) => why,
        };
        let detail = format!("not Avro of its schema: {}", why.text());
        Err(Rejection::new(Reason::Unreadable, detail))
    }

    /// Takes steps, and gives what is left.
    fn follow<'a>(
        &'a self,
        steps: &'a [Step],
        mut cursor: Cursor<'a>,
        slots: &mut Slots<'a>,
    ) -> Result<Cursor<'a>, Broken> {
        for step in steps {
            match step {
                Step::Name(field) => slots.names[*field as usize] = cursor.text()?,
                Step::NameOrNull(field, text) => match cursor.encoded()? {
                    branch if branch == *text => slots.names[*field as usize] = cursor.text()?,
                    0 | 2 => {}
                    _ => return Err(Broken::Choice),
                },
                Step::Time { digits } => slots.time = Value::Instant(instant(cursor.integer()?, *digits)),
                Step::Scalar(scalar, wanted) => cursor = scalar.read(cursor, wanted, slots)?,
                Step::Union(branches) => {
                    let branch = cursor.choice(branches)?;
                    cursor = self.follow(branch, cursor, slots)?;
                }
                Step::Map { wanted, other } => cursor = self.members(wanted, other, cursor, slots)?,
                Step::Skip(shape) => cursor = self.skip(shape, cursor, 0)?,
            }
        }
        Ok(cursor)
    }

    /// The wanted members of a map. A member takes bytes, so that they end, however many are said to be there.
    #[inline(never)]
    fn members<'a>(
        &'a self,
        wanted: &'a ByKey<Member>,
        other: &Shape,
        mut cursor: Cursor<'a>,
        slots: &mut Slots<'a>,
    ) -> Result<Cursor<'a>, Broken> {
        loop {
            let (count, _) = cursor.block()?;
            if count == 0 {
                return Ok(cursor);
            }
            for _ in 0..count {
                let key = cursor.text()?;
                cursor = match wanted.get(key.as_bytes()) {
                    Some(member) => {
                        slots.clear(&member.below);
                        match member.steps.as_slice() {
                            [Step::Scalar(scalar, wanted)] => scalar.read(cursor, wanted, slots)?,
                            steps => self.follow(steps, cursor, slots)?,
                        }
                    }
                    None => self.skip(other, cursor, 0)?,
                };
            }
        }
    }

    /// Passes over a value, and gives what is left. What most values are is inlined.
    #[inline(always)]
    fn skip<'a>(
        &self,
        mut shape: &Shape,
        mut cursor: Cursor<'a>,
        mut depth: usize,
    ) -> Result<Cursor<'a>, Broken> {
        if let Shape::Union(branches) = shape {
            shape = cursor.choice(branches)?;
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(Broken::NestedTooDeep);
        }
        match shape {
            Shape::Fixed(size) => {
                cursor.take(*size)?;
            }
            Shape::Varint => {
                cursor.encoded()?;
            }
            Shape::Bytes => {
                cursor.bytes()?;
            }
            nested => return self.skip_nested(nested, cursor, depth),
        }
        Ok(cursor)
    }

    fn skip_nested<'a>(
        &self,
        shape: &Shape,
        mut cursor: Cursor<'a>,
        depth: usize,
    ) -> Result<Cursor<'a>, Broken> {
        match shape {
            Shape::Record(number) => {
                for field in &self.records[*number] {
                    cursor = self.skip(field, cursor, depth + 1)?;
                }
                Ok(cursor)
            }
            Shape::Array(item) => self.skip_blocks(false, item, cursor, depth + 1),
            Shape::Map(value) => self.skip_blocks(true, value, cursor, depth + 1),
            simple => self.skip(simple, cursor, depth),
        }
    }

    /// Passes over a list of blocks of items, with keys or without; at once where their sizes are given.
    fn skip_blocks<'a>(
        &self,
        with_keys: bool,
        item: &Shape,
        mut cursor: Cursor<'a>,
        depth: usize,
    ) -> Result<Cursor<'a>, Broken> {
        // Items without bytes could be said to be there any number of times.
        let is_empty = !with_keys && self.is_empty(item, 0);
        loop {
            match cursor.block()? {
                (0, _) => return Ok(cursor),
                (_, Some(size)) => {
                    cursor.take(size)?;
                }
                (_, None) if is_empty => {}
                (count, None) => {
                    for _ in 0..count {
                        if with_keys {
                            cursor.bytes()?;
                        }
                        cursor = self.skip(item, cursor, depth)?;
                    }
                }
            }
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
    /// Reads one into the slots that want it, and gives what is left.
    #[inline(never)]
    fn read<'a>(
        &'a self,
        mut cursor: Cursor<'a>,
        wanted: &[Slot],
        slots: &mut Slots<'a>,
    ) -> Result<Cursor<'a>, Broken> {
        let mut scalar = self;
        while let Scalar::Union(branches) = scalar {
            scalar = cursor.choice(branches)?;
        }
        let value = match scalar {
            Scalar::Union(_) | Scalar::Null => Value::Null,
            Scalar::Boolean => match cursor.array()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return Err(Broken::Boolean),
            },
            Scalar::Integer => Value::Number(Number::Int(cursor.integer()?)),
            Scalar::Instant { digits } => {
                let ms = instant(cursor.integer()?, *digits);
                for slot in wanted {
                    match slot {
                        Slot::Time => slots.time = Value::Instant(ms),
                        other => slots.put(Value::Number(Number::Int(ms)), &[*other]),
                    }
                }
                return Ok(cursor);
            }
            Scalar::Float => {
                let bytes = cursor.array()?;
                // The shortest text of the 32 bits, not the digits of 64: 12.1 stays 12.1.
                float(f32::from_le_bytes(bytes).to_string().parse().unwrap_or(f64::NAN))
            }
            Scalar::Double => float(f64::from_le_bytes(cursor.array()?)),
            Scalar::Text => {
                slots.put_text(cursor.text()?, wanted);
                return Ok(cursor);
            }
            Scalar::Bytes => match std::str::from_utf8(cursor.bytes()?) {
                Ok(text) => Value::Text(Cow::Borrowed(text)),
                Err(_) => Value::Missing,
            },
            Scalar::Enum(symbols) => Value::Text(Cow::Borrowed(cursor.choice(symbols)?)),
            Scalar::Decimal { size, scale } => {
                let bytes = match size {
                    Some(size) => cursor.take(*size)?,
                    None => cursor.bytes()?,
                };
                decimal(bytes, *scale)
            }
        };
        slots.put(value, wanted);
        Ok(cursor)
    }
}

/// Milliseconds of a time in units of 10^-digits seconds.
#[inline]
fn instant(raw: i64, digits: u32) -> i64 {
    match digits {
        3 => raw,
        4.. => raw.div_euclid(10i64.pow(digits - 3)),
        _ => raw.saturating_mul(10i64.pow(3 - digits)),
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
