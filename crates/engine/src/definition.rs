//! A definition in force for one app: its text, and the id that is the hash of it.

use serde_json::{Value, json};

use crate::devices::Identity;
use crate::identity::hash;
use crate::{HashKey, Processor, Setup, Spec};

/// Why a definition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DefinitionError {
    pub message: String,
}

impl DefinitionError {
    pub fn new(message: impl Into<String>) -> Self {
        DefinitionError {
            message: message.into(),
        }
    }

    /// Says of which definition an error speaks.
    pub(crate) fn of(self, kind: &str, name: &str) -> Self {
        let name = if name.is_empty() {
            String::new()
        } else {
            format!(" '{name}'")
        };
        DefinitionError::new(format!("{kind}{name}: {}", self.message))
    }
}

impl From<crate::FilterError> for DefinitionError {
    fn from(error: crate::FilterError) -> Self {
        DefinitionError::new(format!("where: {error}"))
    }
}

/// One definition as it counts one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub id: u64,
    pub kind: &'static str,
    pub name: String,
    pub app: String,
    /// Everything that its numbers depend on, as JSON.
    pub text: String,
    pub generation: u32,
    pub zone: String,
    pub week_start: u8,
}

impl Definition {
    pub(crate) fn new(
        setup: &Setup,
        app: &str,
        key: HashKey,
        semantics: u32,
        (kind, spec, body): (&'static str, &Spec, &Value),
        rests_on: Option<(&str, &str)>,
    ) -> Definition {
        let mut text = json!({
            "app": app,
            "definition": body,
            "hash_key": setup.hash_key.unwrap_or(key.fingerprint()),
            "semantics": setup.semantics.get(kind).unwrap_or(&semantics),
            "week_start": setup.week_start(app),
            "zone": setup.zone(app),
        });
        if let Some((other, name)) = rests_on {
            text[other] = setup.definition(other, name, app).cloned().unwrap_or_default();
        }
        // Whose an event is decides what everything else counts.
        if kind != Identity::KIND
            && let Some(identity) = setup.definition(Identity::KIND, "", app)
        {
            text[Identity::KIND] = identity.clone();
        }
        let text = text.to_string();
        let id = hash(&[
            kind.as_bytes(),
            spec.name.as_bytes(),
            text.as_bytes(),
            &spec.generation.to_le_bytes(),
        ]);
        Definition {
            id,
            kind,
            name: spec.name.clone(),
            app: app.to_owned(),
            text,
            generation: spec.generation,
            zone: setup.zone(app).to_owned(),
            week_start: setup.week_start(app) as u8,
        }
    }
}
