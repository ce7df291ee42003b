//! Where rows go.

use anyhow::Result;
use cambium_engine::{Rows, TableRows};

/// Tables that take rows: those of ClickHouse, or of a model of it under which the writer is simulated.
pub trait Tables: Clone + Send + Sync + 'static {
    /// One insert. Where it fails, nobody knows whether the rows are there, and they may yet arrive.
    fn insert(&self, rows: &TableRows) -> impl Future<Output = Result<()>> + Send;

    /// Writes rows, one insert a table, all tables at once.
    fn write(&self, rows: &Rows) -> impl Future<Output = Result<()>> + Send {
        let tables = rows.tables.iter().filter(|table| table.rows > 0);
        let inserts = futures::future::try_join_all(tables.map(|table| self.insert(table)));
        async { inserts.await.map(|_| ()) }
    }
}
