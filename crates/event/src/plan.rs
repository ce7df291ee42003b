//! What is wanted from a record, and where it lies.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::Field;
use crate::keys::ByKey;
use crate::slots::Slot;

/// The steps to a property: `properties.a.b` is `["a", "b"]`.
pub type PropertyPath = Vec<String>;

/// `[source.fields]`: where a source keeps the fields that it does not keep under their own name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    pub message_id: Option<FieldSource>,
    pub app: Option<FieldSource>,
    pub event: Option<FieldSource>,
    pub user_id: Option<FieldSource>,
    pub anonymous_id: Option<FieldSource>,
    pub timestamp: Option<FieldSource>,
    pub session_id: Option<FieldSource>,
    pub platform: Option<FieldSource>,
    pub app_version: Option<FieldSource>,
    pub channel: Option<FieldSource>,
    pub campaign: Option<FieldSource>,
    pub country: Option<FieldSource>,
    /// The object that holds the properties; "." is the record itself.
    pub properties: Option<String>,
}

impl Fields {
    /// Whether any of them is a record's header.
    pub fn wants_headers(&self) -> bool {
        Field::ALL
            .iter()
            .any(|field| matches!(self.get(*field), Some(FieldSource::Header(_))))
    }

    fn get(&self, field: Field) -> Option<&FieldSource> {
        match field {
            Field::MessageId => self.message_id.as_ref(),
            Field::App => self.app.as_ref(),
            Field::Event => self.event.as_ref(),
            Field::UserId => self.user_id.as_ref(),
            Field::AnonymousId => self.anonymous_id.as_ref(),
            Field::Timestamp => self.timestamp.as_ref(),
            Field::SessionId => self.session_id.as_ref(),
            Field::Platform => self.platform.as_ref(),
            Field::AppVersion => self.app_version.as_ref(),
            Field::Channel => self.channel.as_ref(),
            Field::Campaign => self.campaign.as_ref(),
            Field::Country => self.country.as_ref(),
        }
    }
}

/// Where one field comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FieldSource {
    /// A path in the record, its steps parted by dots.
    Path(String),
    Field(PathWithUnit),
    Value(ConstantValue),
    Header(HeaderName),
    Key(KeyFlag),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathWithUnit {
    pub field: String,
    pub unit: Unit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConstantValue {
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeaderName {
    pub header: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyFlag {
    pub key: bool,
}

/// All keys that a field's table may have; one of them says where the field comes from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldTable {
    field: Option<String>,
    unit: Option<Unit>,
    value: Option<String>,
    header: Option<String>,
    key: Option<bool>,
}

impl FieldTable {
    fn source(self) -> Option<FieldSource> {
        let unit = self.unit;
        match (self.field, self.value, self.header, self.key) {
            (Some(field), None, None, None) => Some(FieldSource::Field(PathWithUnit {
                field,
                unit: unit.unwrap_or_default(),
            })),
            _ if unit.is_some() => None,
            (None, Some(value), None, None) => Some(FieldSource::Value(ConstantValue { value })),
            (None, None, Some(header), None) => Some(FieldSource::Header(HeaderName { header })),
            (None, None, None, Some(key)) => Some(FieldSource::Key(KeyFlag { key })),
            _ => None,
        }
    }
}

const WRITTEN: &str = "a path, { field = …, unit = … }, { value = … }, { header = … } or { key = true }";

/// By hand, so that an unknown key of a table is named.
struct WrittenSource;

impl<'de> Visitor<'de> for WrittenSource {
    type Value = FieldSource;

    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(WRITTEN)
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<FieldSource, E> {
        Ok(FieldSource::Path(path.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FieldSource, A::Error> {
        let table = FieldTable::deserialize(MapAccessDeserializer::new(map))?;
        let source = table.source();
        source.ok_or_else(|| A::Error::custom(format!("where a field comes from is {WRITTEN}")))
    }
}

impl<'de> Deserialize<'de> for FieldSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WrittenSource)
    }
}

/// The unit of a time that is written as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    S,
    #[default]
    Ms,
    Us,
    Ns,
}

impl Unit {
    /// The unit is 10^-digits seconds.
    pub fn digits(self) -> u32 {
        match self {
            Unit::S => 0,
            Unit::Ms => 3,
            Unit::Us => 6,
            Unit::Ns => 9,
        }
    }
}

/// What stands in for a field that is not in the record's payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outside {
    Value(String),
    Header(String),
    Key,
}

/// Wanted paths as a tree; each node names the slots that take its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub slots: Vec<Slot>,
    /// Every slot at this node and below it.
    pub below: Vec<Slot>,
    /// The object of all properties: wanted as the text it is.
    pub keeps_text: bool,
    pub children: ByKey<Node>,
}

impl Node {
    fn insert<'p>(&mut self, path: impl Iterator<Item = &'p str>, slot: Slot) {
        let mut node = self;
        node.below.push(slot);
        for step in path {
            node = node.children.get_or_insert_with(step, Node::default);
            node.below.push(slot);
        }
        node.slots.push(slot);
        node.keeps_text |= slot == Slot::AllProperties;
    }
}

/// How records of one source are read: fixed between two changes of the definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub(crate) root: Node,
    pub(crate) outside: Vec<(Field, Outside)>,
    pub(crate) unit: Unit,
    /// How many are wanted.
    pub(crate) properties: usize,
    /// The steps to the object that holds the properties.
    base: Vec<String>,
    /// All properties are wanted beside, as JSON text.
    pub(crate) wants_all: bool,
}

impl Plan {
    /// A plan of the fields, and of the properties in the order given.
    pub fn new(fields: &Fields, properties: &[PropertyPath]) -> Plan {
        let mut plan = Plan {
            root: Node::default(),
            outside: Vec::new(),
            unit: Unit::Ms,
            properties: properties.len(),
            base: Vec::new(),
            wants_all: false,
        };
        for field in Field::ALL {
            plan.add_field(field, fields.get(field));
        }
        let base = fields.properties.as_deref().unwrap_or("properties");
        plan.base = if base == "." {
            Vec::new()
        } else {
            base.split('.').map(str::to_owned).collect()
        };
        for (index, path) in properties.iter().enumerate() {
            let steps = plan.base.iter().chain(path).map(String::as_str);
            plan.root.insert(steps, Slot::Property(index));
        }
        plan
    }

    /// The same, and all properties beside, as JSON text.
    pub fn with_all_properties(mut self) -> Plan {
        let base = self.base.iter().map(String::as_str);
        self.root.insert(base, Slot::AllProperties);
        self.wants_all = true;
        self
    }

    /// The object that holds the properties, of a whole record.
    pub(crate) fn properties_of<'v>(&self, record: &'v serde_json::Value) -> Option<&'v serde_json::Value> {
        self.base.iter().try_fold(record, |value, step| value.get(step))
    }

    fn add_field(&mut self, field: Field, source: Option<&FieldSource>) {
        let slot = Slot::of(field);
        match source {
            None => self.root.insert(std::iter::once(field.name()), slot),
            Some(FieldSource::Path(path)) => self.root.insert(path.split('.'), slot),
            Some(FieldSource::Field(PathWithUnit { field: path, unit })) => {
                self.root.insert(path.split('.'), slot);
                if field == Field::Timestamp {
                    self.unit = *unit;
                }
            }
            Some(FieldSource::Value(constant)) => {
                self.outside.push((field, Outside::Value(constant.value.clone())));
            }
            Some(FieldSource::Header(name)) => {
                self.outside.push((field, Outside::Header(name.header.clone())));
            }
            Some(FieldSource::Key(flag)) if flag.key => self.outside.push((field, Outside::Key)),
            Some(FieldSource::Key(_)) => self.root.insert(std::iter::once(field.name()), slot),
        }
    }
}

impl Plan {
    /// Wants nothing; a place holder.
    pub fn empty() -> Plan {
        Plan {
            root: Node::default(),
            outside: Vec::new(),
            unit: Unit::Ms,
            properties: 0,
            base: Vec::new(),
            wants_all: false,
        }
    }
}
