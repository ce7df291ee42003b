//! From a schema and the tree of what is wanted to steps.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::schema::{Name, Namespace};

use super::{AvroDecoder, Member, Scalar, Shape, Step};
use crate::keys::ByKey;
use crate::plan::Node;
use crate::slots::Slot;

pub(super) struct Compiler<'s> {
    names: BTreeMap<String, &'s Schema>,
    numbers: BTreeMap<String, usize>,
    records: Vec<Vec<Shape>>,
}

impl<'s> Compiler<'s> {
    pub fn compile(
        schema: &'s Schema,
        references: &'s [Schema],
        wanted: &Node,
    ) -> Result<AvroDecoder, String> {
        let mut compiler = Compiler {
            names: BTreeMap::new(),
            numbers: BTreeMap::new(),
            records: Vec::new(),
        };
        for schema in references.iter().chain([schema]) {
            compiler.collect(schema, &None);
        }
        let mut steps = Vec::new();
        compiler.steps(schema, &None, wanted, &mut steps)?;
        Ok(AvroDecoder {
            steps,
            records: compiler.records,
            schema: None,
        })
    }

    /// Notes every named type under its full name.
    fn collect(&mut self, schema: &'s Schema, namespace: &Namespace) {
        match schema {
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                self.names.insert(name.to_string(), schema);
                for field in &record.fields {
                    self.collect(&field.schema, &name.namespace);
                }
            }
            Schema::Enum(named) => {
                self.names
                    .insert(named.name.fully_qualified_name(namespace).to_string(), schema);
            }
            Schema::Fixed(named) => {
                self.names
                    .insert(named.name.fully_qualified_name(namespace).to_string(), schema);
            }
            Schema::Array(array) => self.collect(&array.items, namespace),
            Schema::Map(map) => self.collect(&map.types, namespace),
            Schema::Union(union) => {
                for variant in union.variants() {
                    self.collect(variant, namespace);
                }
            }
            Schema::Decimal(decimal) => self.collect(&decimal.inner, namespace),
            _ => {}
        }
    }

    fn named(&self, name: &Name, namespace: &Namespace) -> Result<(&'s Schema, Name), String> {
        let name = name.fully_qualified_name(namespace);
        match self.names.get(&name.to_string()) {
            Some(schema) => Ok((schema, name)),
            None => Err(format!("the schema refers to {name}, which is not there")),
        }
    }

    fn steps(
        &mut self,
        schema: &'s Schema,
        namespace: &Namespace,
        wanted: &Node,
        out: &mut Vec<Step>,
    ) -> Result<(), String> {
        match schema {
            Schema::Ref { name } => {
                let (schema, name) = self.named(name, namespace)?;
                return self.steps(schema, &name.namespace, wanted, out);
            }
            Schema::Record(record) if !wanted.children.is_empty() => {
                let name = record.name.fully_qualified_name(namespace);
                for field in &record.fields {
                    match wanted.children.get(field.name.as_bytes()) {
                        Some(child) => self.steps(&field.schema, &name.namespace, child, out)?,
                        None => {
                            let shape = self.shape(&field.schema, &name.namespace)?;
                            skip(out, shape);
                        }
                    }
                }
            }
            Schema::Map(map) if !wanted.children.is_empty() => {
                let mut members = ByKey::default();
                for (key, child) in wanted.children.iter() {
                    let mut steps = Vec::new();
                    self.steps(&map.types, namespace, child, &mut steps)?;
                    let below = child.below.clone();
                    members.get_or_insert_with(key, || Member { steps, below });
                }
                out.push(Step::Map {
                    wanted: members,
                    other: self.shape(&map.types, namespace)?,
                });
            }
            Schema::Union(union) => {
                let mut branches = Vec::new();
                for variant in union.variants() {
                    let mut inner = Vec::new();
                    self.steps(variant, namespace, wanted, &mut inner)?;
                    branches.push(inner);
                }
                out.push(one_of(branches, wanted));
            }
            other => match scalar(other, wanted) {
                Some(scalar) => out.push(read(scalar, wanted)),
                None => {
                    let shape = self.shape(other, namespace)?;
                    skip(out, shape);
                }
            },
        }
        Ok(())
    }

    fn shape(&mut self, schema: &'s Schema, namespace: &Namespace) -> Result<Shape, String> {
        Ok(match schema {
            Schema::Null => Shape::Fixed(0),
            Schema::Boolean => Shape::Fixed(1),
            Schema::Int
            | Schema::Long
            | Schema::Date
            | Schema::TimeMillis
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos
            | Schema::Enum(_) => Shape::Varint,
            Schema::Float => Shape::Fixed(4),
            Schema::Double => Shape::Fixed(8),
            Schema::Bytes | Schema::String | Schema::Uuid | Schema::BigDecimal => Shape::Bytes,
            Schema::Fixed(fixed) => Shape::Fixed(fixed.size),
            Schema::Duration => Shape::Fixed(12),
            Schema::Decimal(decimal) => self.shape(&decimal.inner, namespace)?,
            Schema::Array(array) => Shape::Array(Box::new(self.shape(&array.items, namespace)?)),
            Schema::Map(map) => Shape::Map(Box::new(self.shape(&map.types, namespace)?)),
            Schema::Union(union) => {
                let branches = union
                    .variants()
                    .iter()
                    .map(|variant| self.shape(variant, namespace));
                Shape::Union(branches.collect::<Result<_, _>>()?)
            }
            Schema::Ref { name } => {
                let (schema, name) = self.named(name, namespace)?;
                self.shape(schema, &name.namespace)?
            }
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                if let Some(number) = self.numbers.get(&name.to_string()) {
                    return Ok(Shape::Record(*number));
                }
                let number = self.records.len();
                self.numbers.insert(name.to_string(), number);
                self.records.push(Vec::new());
                let fields = record
                    .fields
                    .iter()
                    .map(|field| self.shape(&field.schema, &name.namespace));
                self.records[number] = fields.collect::<Result<_, _>>()?;
                Shape::Record(number)
            }
        })
    }
}

/// How a scalar that is wanted is read; none for what is no scalar.
fn scalar(schema: &Schema, wanted: &Node) -> Option<Scalar> {
    if wanted.slots.iter().all(|slot| *slot == Slot::AllProperties) {
        return None;
    }
    Some(match schema {
        Schema::Null => Scalar::Null,
        Schema::Boolean => Scalar::Boolean,
        Schema::Int | Schema::Long | Schema::Date | Schema::TimeMillis | Schema::TimeMicros => {
            Scalar::Integer
        }
        Schema::TimestampMillis => Scalar::Instant { digits: 3 },
        Schema::TimestampMicros => Scalar::Instant { digits: 6 },
        Schema::TimestampNanos => Scalar::Instant { digits: 9 },
        Schema::Float => Scalar::Float,
        Schema::Double => Scalar::Double,
        Schema::String | Schema::Uuid => Scalar::Text,
        Schema::Bytes => Scalar::Bytes,
        Schema::Enum(named) => Scalar::Enum(named.symbols.clone()),
        Schema::Decimal(decimal) => Scalar::Decimal {
            size: match &*decimal.inner {
                Schema::Fixed(fixed) => Some(fixed.size),
                _ => None,
            },
            scale: i32::try_from(decimal.scale).ok()?,
        },
        // A local time says no instant, a duration is no number.
        _ => return None,
    })
}

/// Reads a scalar into the slots that want it.
fn read(scalar: Scalar, wanted: &Node) -> Step {
    match (scalar, wanted.slots.as_slice()) {
        (Scalar::Text, [Slot::Name(field)]) => Step::Name(*field),
        (Scalar::Instant { digits }, [Slot::Time]) => Step::Time { digits },
        (scalar, slots) => Step::Scalar(scalar, slots.to_vec()),
    }
}

fn one_of(branches: Vec<Vec<Step>>, wanted: &Node) -> Step {
    match branches
        .iter()
        .map(|branch| branch.as_slice())
        .collect::<Vec<_>>()[..]
    {
        // Most fields of most schemas. Null is as left out.
        [[Step::Scalar(Scalar::Null, _)], [Step::Name(field)]] => Step::NameOrNull(*field, 2),
        [[Step::Name(field)], [Step::Scalar(Scalar::Null, _)]] => Step::NameOrNull(*field, 0),
        _ => match branches.iter().map(|branch| scalar_of(branch)).collect() {
            Some(scalars) => Step::Scalar(Scalar::Union(scalars), wanted.slots.clone()),
            None => Step::Union(branches),
        },
    }
}

/// The scalar that steps read, if they read just one.
fn scalar_of(steps: &[Step]) -> Option<Scalar> {
    match steps {
        [Step::Name(_)] => Some(Scalar::Text),
        [Step::Time { digits }] => Some(Scalar::Instant { digits: *digits }),
        [Step::Scalar(scalar, _)] => Some(scalar.clone()),
        _ => None,
    }
}

/// Skips that follow each other and have a fixed length are one.
fn skip(out: &mut Vec<Step>, shape: Shape) {
    match (out.last_mut(), shape) {
        (Some(Step::Skip(Shape::Fixed(size))), Shape::Fixed(more)) => *size += more,
        (_, Shape::Fixed(0)) => {}
        (_, shape) => out.push(Step::Skip(shape)),
    }
}
