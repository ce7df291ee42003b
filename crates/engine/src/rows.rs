//! Rows on their way to ClickHouse, as the bytes of its RowBinary format, one buffer a table.
//!
//! Encoding them here, on the partition's own thread, keeps what crosses to the writer to a few
//! buffers; the writer sends each with its column names and types in front, so that the engine
//! itself checks them against the table.

use crate::varint::put_varint;

/// A table that rows are written to: its name and its columns with ClickHouse's names of their types.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, &'static str)],
}

impl Table {
    /// The header of RowBinaryWithNamesAndTypes.
    pub fn header(&self) -> Vec<u8> {
        let mut header = Vec::new();
        put_length(&mut header, self.columns.len());
        for (name, _) in self.columns {
            put_text(&mut header, name);
        }
        for (_, kind) in self.columns {
            put_text(&mut header, kind);
        }
        header
    }
}

/// The rows of one table.
#[derive(Clone, Debug)]
pub struct TableRows {
    pub table: &'static Table,
    pub rows: usize,
    pub bytes: Vec<u8>,
}

/// The rows of a flush.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub tables: Vec<TableRows>,
    /// What waits elsewhere to become rows at the next flush.
    waiting_bytes: usize,
}

impl Rows {
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.rows == 0)
    }

    pub fn count(&self) -> usize {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// With what waits to become rows.
    pub fn bytes(&self) -> usize {
        self.waiting_bytes + self.tables.iter().map(|table| table.bytes.len()).sum::<usize>()
    }

    /// So many users wait to be entered into sets with the next flush.
    pub fn wait_for_users(&mut self, users: usize) {
        self.waiting_bytes += users * size_of::<u64>();
    }

    /// So many of them stand in rows now.
    pub fn leave_users(&mut self, users: usize) {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(users * size_of::<u64>());
    }

    /// Begins a row; its columns follow in the table's order.
    pub fn row(&mut self, table: &'static Table) -> Row<'_> {
        let index = match self
            .tables
            .iter()
            .position(|rows| std::ptr::eq(rows.table, table))
        {
            Some(index) => index,
            None => {
                self.tables.push(TableRows {
                    table,
                    rows: 0,
                    bytes: Vec::new(),
                });
                self.tables.len() - 1
            }
        };
        let rows = &mut self.tables[index];
        rows.rows += 1;
        Row {
            bytes: &mut rows.bytes,
        }
    }

    /// The rows; what waits to become some stays.
    pub(crate) fn take(&mut self) -> Rows {
        let waiting_bytes = self.waiting_bytes;
        let rows = std::mem::take(self);
        self.waiting_bytes = waiting_bytes;
        Rows {
            waiting_bytes: 0,
            ..rows
        }
    }

    /// Puts the rows of `other` behind these.
    pub fn append(&mut self, other: Rows) {
        for mut rows in other.tables {
            match self
                .tables
                .iter_mut()
                .find(|mine| std::ptr::eq(mine.table, rows.table))
            {
                Some(mine) => {
                    mine.rows += rows.rows;
                    mine.bytes.append(&mut rows.bytes);
                }
                None => self.tables.push(rows),
            }
        }
    }
}

/// One row, written column by column.
pub struct Row<'r> {
    bytes: &'r mut Vec<u8>,
}

impl Row<'_> {
    pub fn bool(self, value: bool) -> Self {
        self.u8(u8::from(value))
    }
    pub fn u8(self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }
    pub fn u32(self, value: u32) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }
    pub fn i32(self, value: i32) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }
    pub fn u64(self, value: u64) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }
    /// Int64, and DateTime64(3) of milliseconds since 1970.
    pub fn i64(self, value: i64) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }
    pub fn f64(self, value: f64) -> Self {
        self.bytes.extend(value.to_le_bytes());
        self
    }
    pub fn text(self, value: &str) -> Self {
        put_text(self.bytes, value);
        self
    }
    pub fn raw(self, value: &[u8]) -> Self {
        put_length(self.bytes, value.len());
        self.bytes.extend(value);
        self
    }
    /// DateTime of milliseconds since 1970; what lies outside of its range is taken to its ends.
    pub fn datetime(self, ms: i64) -> Self {
        self.u32(ms.div_euclid(1000).clamp(0, i64::from(u32::MAX)) as u32)
    }
    /// Date of days since 1970.
    pub fn date(self, day: i32) -> Self {
        self.bytes
            .extend((day.clamp(0, i32::from(u16::MAX)) as u16).to_le_bytes());
        self
    }
    /// A value of a Nullable column.
    pub fn nullable<T>(self, value: Option<T>, put: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            None => self.bool(true),
            Some(value) => put(self.bool(false), value),
        }
    }
    /// An array of UInt64.
    pub fn users(self, users: &[u64]) -> Self {
        let row = self.length(users.len());
        row.bytes.extend(users.iter().flat_map(|user| user.to_le_bytes()));
        row
    }
    /// The length in front of an array's or map's items.
    pub fn length(self, length: usize) -> Self {
        put_length(self.bytes, length);
        self
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_length(bytes, text.len());
    bytes.extend(text.as_bytes());
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    put_varint(bytes, length as u64);
}
