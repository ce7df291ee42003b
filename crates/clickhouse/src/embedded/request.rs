//! What a request asks for: the query, its parameters, and the settings that go with it.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use base64::Engine;
use bytes::Bytes;

use super::body::Encoding;

/// Parameters of the URL that are no settings.
const NO_SETTINGS: [&str; 14] = [
    "query",
    "database",
    "default_format",
    "user",
    "password",
    "quota_key",
    "compress",
    "decompress",
    "query_id",
    "session_id",
    "session_timeout",
    "session_check",
    "role",
    "wait_end_of_query",
];

/// Settings of the HTTP interface itself, which the engine's sessions take no part in.
const HTTP_SETTINGS: [&str; 6] = [
    "enable_http_compression",
    "http_zlib_compression_level",
    "send_progress_in_http_headers",
    "http_headers_progress_interval_ms",
    "buffer_size",
    "cancel_http_readonly_queries_on_client_close",
];

#[derive(Debug, Default)]
pub struct Request {
    pub query: Vec<u8>,
    pub database: String,
    pub format: String,
    pub user: String,
    pub password: String,
    pub query_id: String,
    pub parameters: Vec<(String, String)>,
    pub settings: BTreeMap<String, String>,
    pub decompress: bool,
    pub compress: bool,
    pub http_compression: bool,
}

impl Request {
    pub fn new(query_string: &str, headers: &HeaderMap) -> Request {
        let mut request = Request {
            format: "TabSeparated".to_owned(),
            ..Request::default()
        };
        request.take_headers(headers);
        for (name, value) in form_urlencoded::parse(query_string.as_bytes()) {
            request.take(&name, value.as_bytes());
        }
        request
    }

    fn take_headers(&mut self, headers: &HeaderMap) {
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        if let Some(database) = text("x-clickhouse-database") {
            self.database = database;
        }
        if let Some(format) = text("x-clickhouse-format") {
            self.format = format;
        }
        self.user = text("x-clickhouse-user").unwrap_or_default();
        self.password = text("x-clickhouse-key").unwrap_or_default();
        if let Some(basic) = text("authorization")
            .as_deref()
            .and_then(|value| value.strip_prefix("Basic "))
            && let Some((user, password)) = basic_credentials(basic)
        {
            (self.user, self.password) = (user, password);
        }
    }

    /// Takes a parameter of the URL, or a part of a form.
    pub fn take(&mut self, name: &str, value: &[u8]) {
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            "query" => self.query = value.to_vec(),
            "database" => self.database = text(),
            "default_format" => self.format = text(),
            "user" => self.user = text(),
            "password" => self.password = text(),
            "query_id" => self.query_id = text(),
            "compress" => self.compress = value == b"1",
            "decompress" => self.decompress = value == b"1",
            "enable_http_compression" => self.http_compression = value == b"1",
            _ => match name.strip_prefix("param_") {
                Some(parameter) => self.parameters.push((parameter.to_owned(), text())),
                None if NO_SETTINGS.contains(&name) || HTTP_SETTINGS.contains(&name) => {}
                None => {
                    self.settings.insert(name.to_owned(), text());
                }
            },
        }
    }

    /// How the answer is to be encoded.
    pub fn encoding(&self, headers: &HeaderMap) -> Encoding {
        if self.compress {
            return Encoding::Blocks;
        }
        let accepted = headers
            .get("accept-encoding")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !self.http_compression {
            return Encoding::Plain;
        }
        let accepts = |name: &str| {
            accepted
                .split(',')
                .any(|one| one.split(';').next().unwrap_or("").trim() == name)
        };
        match () {
            () if accepts("zstd") => Encoding::Zstd,
            () if accepts("gzip") => Encoding::Gzip,
            () if accepts("lz4") => Encoding::Lz4,
            () => Encoding::Plain,
        }
    }
}

fn basic_credentials(encoded: &str) -> Option<(String, String)> {
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// An INSERT that takes data: the statement up to its format, the format, and what stands behind it.
pub struct InsertQuery {
    pub statement: Vec<u8>,
    pub format: String,
    pub inline: Bytes,
}

/// Takes an INSERT with data apart; none for any other statement (an INSERT … SELECT too).
pub fn insert_query(query: &[u8]) -> Option<InsertQuery> {
    let head = String::from_utf8_lossy(&query[..query.len().min(1 << 16)]).into_owned();
    let words = words(&head);
    let is = |at: usize, word: &str| {
        words
            .get(at)
            .is_some_and(|(_, found)| found.eq_ignore_ascii_case(word))
    };
    if !is(0, "insert") {
        return None;
    }
    for (at, (place, word)) in words.iter().enumerate().skip(1) {
        if word.eq_ignore_ascii_case("select") || word.eq_ignore_ascii_case("with") {
            return None;
        }
        if word.eq_ignore_ascii_case("values") {
            let inline = Bytes::copy_from_slice(&query[place + word.len()..]);
            return Some(InsertQuery {
                statement: query[..*place].to_vec(),
                format: "Values".into(),
                inline,
            });
        }
        if word.eq_ignore_ascii_case("format") {
            let (name_place, name) = words.get(at + 1)?;
            let mut rest = &query[name_place + name.len()..];
            // One line break parts the statement from its data.
            while let [b' ' | b';' | b'\r', after @ ..] = rest {
                rest = after;
            }
            if let [b'\n', after @ ..] = rest {
                rest = after;
            }
            let statement = query[..*place].to_vec();
            return Some(InsertQuery {
                statement,
                format: name.to_string(),
                inline: Bytes::copy_from_slice(rest),
            });
        }
    }
    Some(InsertQuery {
        statement: query.to_vec(),
        format: String::new(),
        inline: Bytes::new(),
    })
}

/// The bare words of a statement outside of quotes and brackets, with their places.
fn words(text: &str) -> Vec<(usize, &str)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut depth) = (0, 0i32);
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'\'' | b'"' | b'`') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                at += 1;
            }
            b'(' => {
                depth += 1;
                at += 1;
            }
            b')' => {
                depth -= 1;
                at += 1;
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
                let start = at;
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
                    at += 1;
                }
                if depth == 0 {
                    found.push((start, &text[start..at]));
                }
                // Data may stand behind these; it is not looked at.
                if depth == 0 && found.len() >= 2 {
                    let before = found[found.len() - 2].1;
                    let word = found[found.len() - 1].1;
                    if before.eq_ignore_ascii_case("format") || word.eq_ignore_ascii_case("values") {
                        return found;
                    }
                }
            }
            _ => at += 1,
        }
    }
    found
}

/// The first word of a statement, in lower case; comments and brackets in front are passed over.
pub fn first_word(query: &[u8]) -> String {
    let text = String::from_utf8_lossy(&query[..query.len().min(4096)]).into_owned();
    let mut rest = text.trim_start_matches([' ', '\n', '\t', '\r', '(']);
    while let Some(comment) = rest.strip_prefix("--") {
        rest = comment
            .split_once('\n')
            .map_or("", |(_, after)| after)
            .trim_start();
    }
    rest.chars()
        .take_while(|character| character.is_ascii_alphabetic())
        .collect::<String>()
        .to_lowercase()
}

/// The format that a SELECT names itself, at its end.
pub fn named_format(query: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(query);
    let words = words(&text);
    let at = words
        .iter()
        .rposition(|(_, word)| word.eq_ignore_ascii_case("format"))?;
    words.get(at + 1).map(|(_, name)| (*name).to_owned())
}
