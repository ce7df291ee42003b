//! Asking ClickHouse, over HTTP by the official client.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::BytesMut;
use cambium_engine::TableRows;
use fail::fail_point;

use crate::Tables;
use crate::schema::is_sharded;

/// A ClickHouse server and a database on it.
#[derive(Clone)]
pub struct Client {
    client: clickhouse::Client,
    url: String,
    database: String,
    cluster: Option<String>,
}

/// An insert that takes longer has failed, as far as we know; it is repeated.
const INSERT_TIMEOUT: Duration = Duration::from_secs(60);
/// A statement that takes longer has hung: ClickHouse itself gives one for a whole cluster three minutes.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(200);
/// So does a question of the program's own. Those of people take as long as they take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(60);
/// So many bytes of an insert are sent at a time.
const PIECE: usize = 1 << 20;

/// How long something is waited for; the tests wait for less.
fn patience(usual: Duration) -> Duration {
    fail_point!("patience", |ms| {
        let ms = ms.and_then(|ms| ms.parse().ok());
        ms.map_or(usual, Duration::from_millis)
    });
    usual
}

/// Gives up after a while.
async fn within<T>(
    patience: Duration,
    asked: impl Future<Output = clickhouse::error::Result<T>>,
) -> clickhouse::error::Result<T> {
    let answered = tokio::time::timeout(patience, asked).await;
    answered.unwrap_or(Err(clickhouse::error::Error::TimedOut))
}

/// What ClickHouse says when it is too busy, or misses others just now: TIMEOUT_EXCEEDED, TOO_MANY_SIMULTANEOUS_QUERIES,
/// SOCKET_TIMEOUT, NETWORK_ERROR, MEMORY_LIMIT_EXCEEDED, TABLE_IS_READ_ONLY, NOT_ENOUGH_SPACE, TOO_MANY_PARTS,
/// ALL_CONNECTION_TRIES_FAILED, UNKNOWN_STATUS_OF_INSERT, KEEPER_EXCEPTION.
const PASSING: [&str; 11] = [
    "159", "202", "209", "210", "241", "242", "243", "252", "279", "319", "999",
];

/// Whether an error will pass: a server that is away, that cannot do something just now, or that is hidden by something
/// in front of it, which does not speak as ClickHouse does.
pub fn is_passing(error: &clickhouse::error::Error) -> bool {
    match error {
        clickhouse::error::Error::Network(_) | clickhouse::error::Error::TimedOut => true,
        clickhouse::error::Error::BadResponse(said) => {
            let code = said
                .split_once("Code: ")
                .and_then(|(_, rest)| rest.split_once('.'));
            code.is_none_or(|(code, _)| PASSING.contains(&code))
        }
        _ => false,
    }
}

impl Client {
    pub fn new(url: &str, user: &str, password: Option<&str>, database: &str) -> Client {
        let mut client = clickhouse::Client::default()
            .with_url(url)
            .with_user(user)
            .with_validation(false);
        if let Some(password) = password {
            client = client.with_password(password);
        }
        Client {
            client,
            url: url.to_owned(),
            database: database.to_owned(),
            cluster: None,
        }
    }

    /// The same server as one of a cluster.
    pub fn on_cluster(self, cluster: Option<&str>) -> Client {
        Client {
            cluster: cluster.map(str::to_owned),
            ..self
        }
    }

    /// The same server, whether or not it has the database yet.
    pub fn in_no_database(self) -> Client {
        Client {
            database: "default".to_owned(),
            ..self
        }
    }

    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// The table that holds a table's rows on each server.
    pub fn stored(&self, table: &str) -> String {
        if self.cluster.is_some() && is_sharded(table) {
            format!("{table}_local")
        } else {
            table.to_owned()
        }
    }

    /// What makes a statement run on every server.
    pub fn everywhere(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!(" ON CLUSTER '{}'", cluster.replace('\'', "\\'")),
            None => String::new(),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    fn in_database(&self) -> clickhouse::Client {
        self.client.clone().with_database(&self.database)
    }

    pub(crate) async fn create_database(&self) -> Result<()> {
        let name = self.database.replace('`', "\\`");
        let on = self.everywhere();
        let created = self
            .client
            .query_raw(&format!("CREATE DATABASE IF NOT EXISTS `{name}`{on}"))
            .execute();
        let created = within(patience(STATEMENT_TIMEOUT), created).await;
        created.with_context(|| {
            format!(
                "cannot create the database {} on ClickHouse at {}",
                self.database, self.url
            )
        })
    }

    /// Runs a statement that answers nothing.
    pub async fn execute(&self, statement: &str) -> Result<()> {
        let done = self.in_database().query_raw(statement).execute();
        let done = within(patience(STATEMENT_TIMEOUT), done).await;
        done.with_context(|| format!("ClickHouse at {} did not do it", self.url))
    }

    /// The same for a statement that may take however long it takes.
    pub async fn execute_at_length(&self, statement: &str) -> Result<()> {
        let done = self.in_database().query_raw(statement).execute().await;
        done.with_context(|| format!("ClickHouse at {} did not do it", self.url))
    }

    /// The answer to a query, in any of ClickHouse's formats.
    pub async fn fetch(&self, query: &str, format: &str) -> Result<Vec<u8>> {
        let tried = || format!("ClickHouse at {} did not answer the query", self.url);
        let mut cursor = self
            .in_database()
            .query_raw(query)
            .fetch_bytes(format)
            .with_context(tried)?;
        Ok(cursor.collect().await.with_context(tried)?.to_vec())
    }

    /// The rows of a query as objects, numbers of 64 bits as numbers.
    pub async fn rows(&self, query: &str) -> Result<Vec<serde_json::Value>> {
        let answer = self.rows_at_length(query);
        let answer = tokio::time::timeout(patience(QUESTION_TIMEOUT), answer).await;
        let answer = answer.unwrap_or(Err(clickhouse::error::Error::TimedOut.into()));
        answer.with_context(|| format!("ClickHouse at {} hangs", self.url))
    }

    /// The same for a query that may take however long it takes.
    pub async fn rows_at_length(&self, query: &str) -> Result<Vec<serde_json::Value>> {
        let query = format!("{query}\nSETTINGS output_format_json_quote_64bit_integers = 0");
        let answer = self.fetch(&query, "JSONEachRow").await?;
        let lines = answer
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).context("ClickHouse's answer is no JSON"))
            .collect()
    }

    /// How many rows of a table a condition holds for, versions that are no longer shown among them.
    pub async fn count(&self, table: &str, filter: &str) -> Result<u64> {
        let query = format!("SELECT count() AS rows FROM {table} WHERE {filter}");
        let rows = self.rows_at_length(&query).await?;
        let count = rows.first().and_then(|row| row["rows"].as_u64());
        count.context("ClickHouse does not say how many rows there are")
    }
}

impl Tables for Client {
    async fn insert(&self, rows: &TableRows) -> Result<()> {
        let table = rows.table;
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|(name, _)| format!("`{name}`"))
            .collect();
        let statement = format!(
            "INSERT INTO {} ({}) FORMAT Native",
            table.name,
            columns.join(", ")
        );
        let tried = || {
            format!(
                "cannot write {} rows to {} on ClickHouse at {}",
                rows.rows, table.name, self.url
            )
        };
        let mut insert = self
            .in_database()
            .insert_formatted_with(statement)
            .with_setting("async_insert", "0")
            // Versions of a key meet in a merge or in FINAL; to look for them in what is inserted costs more than
            // all else about an insert, and there are hardly any.
            .with_setting("optimize_on_insert", "0")
            // On a cluster an insert is acknowledged when its shard and most replicas have it.
            .with_setting("distributed_foreground_insert", "1")
            .with_setting("insert_quorum", if self.cluster.is_some() { "auto" } else { "0" })
            .with_timeouts(Some(patience(INSERT_TIMEOUT)), Some(patience(INSERT_TIMEOUT)));
        // Pieces, so that a large flush does not stand in memory twice.
        let mut piece = BytesMut::new();
        for part in rows.block() {
            for bytes in part.chunks(PIECE) {
                piece.extend_from_slice(bytes);
                if piece.len() >= PIECE {
                    insert.send(piece.split().freeze()).await.with_context(tried)?;
                }
            }
        }
        insert.send(piece.freeze()).await.with_context(tried)?;
        insert.end().await.with_context(tried)?;
        fail_point!("between-inserts");
        Ok(())
    }
}
