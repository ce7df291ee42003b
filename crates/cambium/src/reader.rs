//! Reading single records of a topic, as `check` and `rekey` do.

use anyhow::Result;
use cambium_engine::Setup;
use cambium_event::{Decoders, Event, Field, FieldSource, Format, Plan, Record, Rejection, Schemas};
use cambium_kafka::{Original, Registry};

use crate::config::{Config, Source};

/// Reads the records of one topic; a topic that is not configured holds JSON.
pub struct Reader {
    decoders: Decoders,
    schemas: Schemas,
    registry: Option<Registry>,
    /// The member of the JSON object that holds the message id; none: it is elsewhere.
    pub message_id_member: Option<String>,
    /// The same of the user's id.
    pub user_id_member: Option<String>,
}

impl Reader {
    pub fn new(config: &Config, source: Option<&Source>) -> Result<Reader> {
        let setup = match source {
            Some(source) => config.setup_of(source)?,
            None => Setup {
                fields: Default::default(),
                format: Format::Json,
                ..config.setup.clone()
            },
        };
        let member = |field: Field, source: &Option<FieldSource>| match source {
            _ if setup.format != Format::Json => None,
            None => Some(field.name().to_owned()),
            Some(FieldSource::Path(path)) if !path.contains('.') => Some(path.clone()),
            Some(_) => None,
        };
        let message_id_member = member(Field::MessageId, &setup.fields.message_id);
        let user_id_member = member(Field::UserId, &setup.fields.user_id);
        let registry = source.map(|source| config.registry(source)).transpose()?;
        Ok(Reader {
            decoders: Decoders::new(Plan::new(&setup.fields, &[]), setup.format, &Schemas::new())?,
            schemas: Schemas::new(),
            registry: registry.flatten(),
            message_id_member,
            user_id_member,
        })
    }

    /// Reads a record; asks the registry for its schema. Blocks.
    pub fn read<R>(
        &mut self,
        original: &Original<'_>,
        use_event: impl FnOnce(&Event<'_>) -> R,
    ) -> Result<Result<R, Rejection>> {
        let record = Record {
            offset: original.offset,
            key: original.key,
            headers: &original.headers,
            payload: original.payload,
            ..Record::default()
        };
        if let (Some(id), Some(registry)) = (self.decoders.schema_id(&record), &self.registry)
            && !self.schemas.contains_key(&id)
        {
            let schema = tokio::runtime::Handle::current().block_on(registry.schema(id))?;
            self.decoders.learn(id, schema.as_ref());
            self.schemas.insert(id, schema);
        }
        Ok(self.decoders.read(&record, use_event))
    }
}
