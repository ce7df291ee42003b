//! Values that may be secret: written down, or in a file, or in the environment.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::ConfigError;

/// A setting of librdkafka.
#[derive(Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "a setting is a text, a number, true or false, { file = \"…\" } or { env = \"…\" }"
)]
pub enum Setting {
    Text(String),
    Number(i64),
    Bool(bool),
    File(InFile),
    Env(InEnv),
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFile {
    file: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InEnv {
    env: String,
}

/// What is written may be a password, and is nobody's business.
impl std::fmt::Debug for Setting {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("…")
    }
}

/// Settings of librdkafka that are secret.
const SECRET: [&str; 6] = [
    "sasl.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

impl Setting {
    /// Whether a secret stands in the configuration itself.
    fn is_open_secret(&self, name: &str) -> bool {
        SECRET.contains(&name) && matches!(self, Setting::Text(_))
    }

    fn read(&self, name: &str, directory: &Path) -> Result<String> {
        let key = format!("[kafka] settings: {name}");
        match self {
            Setting::Text(text) => Ok(text.clone()),
            Setting::Number(number) => Ok(number.to_string()),
            Setting::Bool(truth) => Ok(truth.to_string()),
            Setting::File(InFile { file }) => in_file(&key, file, directory),
            Setting::Env(InEnv { env }) => in_env(&key, env),
        }
    }
}

/// The settings as librdkafka takes them, with what their files and variables hold now.
pub fn settings(written: &BTreeMap<String, Setting>, directory: &Path) -> Result<BTreeMap<String, String>> {
    let read = |(name, setting): (&String, &Setting)| Ok((name.clone(), setting.read(name, directory)?));
    written.iter().map(read).collect()
}

/// The names of those whose secrets stand in the configuration itself.
pub fn open_secrets(written: &BTreeMap<String, Setting>) -> impl Iterator<Item = &str> {
    let open = written
        .iter()
        .filter(|(name, setting)| setting.is_open_secret(name));
    open.map(|(name, _)| name.as_str())
}

/// A file that the configuration names; paths are relative to its directory.
pub fn read_file(key: &str, file: impl AsRef<Path>, directory: &Path) -> Result<String> {
    let path = directory.join(file);
    let read = std::fs::read_to_string(&path);
    Ok(read.map_err(|error| ConfigError(format!("{key}: cannot read {}: {error}", path.display())))?)
}

/// What a file holds, without the line's end.
pub fn in_file(key: &str, file: impl AsRef<Path>, directory: &Path) -> Result<String> {
    let text = read_file(key, file, directory)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

pub fn in_env(key: &str, variable: &str) -> Result<String> {
    let value = std::env::var(variable);
    Ok(value.map_err(|error| ConfigError(format!("{key}: the variable {variable}: {error}")))?)
}

/// A password: in a file, in a variable, or none.
pub fn password(
    place: &str,
    (file, env): (&Option<String>, &Option<String>),
    directory: &Path,
) -> Result<Option<String>> {
    match (file, env) {
        (Some(file), _) => in_file(&format!("{place}password_file"), file, directory).map(Some),
        (None, Some(env)) => in_env(&format!("{place}password_env"), env).map(Some),
        (None, None) => Ok(None),
    }
}
