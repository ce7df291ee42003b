//! A client of a schema registry that speaks Confluent's HTTP interface.
//!
//! A schema id never changes its meaning, so each is asked for once; what the registry does not know is
//! asked for again after a while. One that cannot be reached is an error, never an answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cambium_event::SchemaText;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use serde::Deserialize;
use tokio::sync::Mutex;

/// After so long it is asked again for an id that it did not know.
const ASK_AGAIN: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
/// The registry's own code for "schema not found", beside HTTP's 404.
const SCHEMA_NOT_FOUND: u32 = 40403;

pub struct Registry {
    client: reqwest::Client,
    /// Without user and password: it is part of messages.
    url: Url,
    user: String,
    password: Option<String>,
    /// Held while a request is on its way: one request an id, whoever asks.
    answers: Mutex<BTreeMap<u32, Answer>>,
}

struct Answer {
    schema: Option<SchemaText>,
    at: Instant,
}

#[derive(Deserialize)]
struct Found {
    schema: String,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: u32,
}

#[derive(Deserialize)]
struct Failure {
    error_code: u32,
}

impl Registry {
    /// `http://host:8081`; user and password may stand in the URL, and those that are given by themselves hold.
    pub fn new(url: &str, user: Option<&str>, password: Option<String>) -> Result<Registry> {
        let parsed: Option<Url> = url.parse().ok();
        let mut url = parsed
            .filter(|url| url.has_host())
            .context("[[source]] registry: it is no URL; write it like \"http://localhost:8081\"")?;
        let in_url = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = user.map_or_else(|| in_url(url.username()), str::to_owned);
        let password = password.or_else(|| url.password().map(in_url));
        let is_bare = url.set_username("").and(url.set_password(None)).is_ok();
        ensure!(is_bare, "[[source]] registry: the URL can have no user");
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Registry {
            client,
            url,
            user,
            password,
            answers: Mutex::new(BTreeMap::new()),
        })
    }

    /// The schema of an id; none: the registry does not know it.
    pub async fn schema(&self, id: u32) -> Result<Option<SchemaText>> {
        let mut answers = self.answers.lock().await;
        if let Some(answer) = answers.get(&id)
            && (answer.schema.is_some() || answer.at.elapsed() < ASK_AGAIN)
        {
            return Ok(answer.schema.clone());
        }
        let schema = match self.get(&["schemas", "ids", &id.to_string()]).await? {
            Some(found) => Some(self.complete(found).await?),
            None => None,
        };
        let at = Instant::now();
        answers.insert(
            id,
            Answer {
                schema: schema.clone(),
                at,
            },
        );
        Ok(schema)
    }

    /// A schema with all that it refers to, directly or not.
    async fn complete(&self, found: Found) -> Result<SchemaText> {
        let mut references = Vec::new();
        let mut asked: Vec<(String, u32)> = Vec::new();
        let mut open = found.references;
        while let Some(reference) = open.pop() {
            let key = (reference.subject, reference.version);
            if asked.contains(&key) {
                continue;
            }
            let version = key.1.to_string();
            let Some(found) = self.get(&["subjects", &key.0, "versions", &version]).await? else {
                bail!(
                    "the schema registry at {} lacks version {version} of {}, which a schema refers to",
                    self.url,
                    key.0
                )
            };
            asked.push(key);
            references.push(found.schema);
            open.extend(found.references);
        }
        Ok(SchemaText {
            schema: found.schema,
            references,
        })
    }

    async fn get(&self, path: &[&str]) -> Result<Option<Found>> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let tried = || format!("the schema registry did not answer {url}");
        let mut request = self.client.get(url.clone());
        if !self.user.is_empty() {
            request = request.basic_auth(&self.user, self.password.as_ref());
        }
        let response = request.send().await.with_context(tried)?;
        let status = response.status();
        let body = response.bytes().await.with_context(tried)?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map(Some)
                .with_context(|| format!("{url} answered something that is no schema"));
        }
        match serde_json::from_slice::<Failure>(&body) {
            Ok(failure) if status == reqwest::StatusCode::NOT_FOUND && is_unknown(failure.error_code) => {
                Ok(None)
            }
            _ if status == reqwest::StatusCode::UNAUTHORIZED => bail!(
                "the schema registry answered {status} to {url}: registry_user or the password is wrong"
            ),
            _ => bail!(
                "the schema registry answered {status} to {url}: {}",
                String::from_utf8_lossy(&body[..body.len().min(200)])
            ),
        }
    }
}

/// 40401 and 40402: subject or version not found.
fn is_unknown(code: u32) -> bool {
    (40401..=SCHEMA_NOT_FOUND).contains(&code)
}
