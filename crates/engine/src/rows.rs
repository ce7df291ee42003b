//! Rows on their way to ClickHouse, column by column, as its Native format has them.
//!
//! Encoding them here, on the partition's own thread, keeps what crosses to the writer to a few buffers; and blocks of
//! columns cost ClickHouse a ninth of what it takes to read the same rows one by one. The writer sends each table's
//! with its column names and types in front, so that the engine itself checks them against the table.

use std::borrow::Cow;

use crate::varint::put_varint;

/// A table that rows are written to: its name and its columns with ClickHouse's names of their types.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, &'static str)],
}

/// The rows of one table.
#[derive(Clone, Debug)]
pub struct TableRows {
    pub table: &'static Table,
    pub rows: usize,
    columns: Vec<Column>,
}

/// The values of one column, those of all rows behind each other.
#[derive(Clone, Debug, Default)]
struct Column {
    /// Of lists and maps: how many items each row has.
    lengths: Vec<u64>,
    /// Of maps the keys; of what may be missing a 1 where it is.
    beside: Vec<u8>,
    values: Vec<u8>,
}

impl Column {
    fn bytes(&self) -> usize {
        self.lengths.len() * size_of::<u64>() + self.beside.len() + self.values.len()
    }

    fn append(&mut self, other: &mut Column) {
        self.lengths.append(&mut other.lengths);
        self.beside.append(&mut other.beside);
        self.values.append(&mut other.values);
    }
}

impl TableRows {
    fn new(table: &'static Table) -> TableRows {
        TableRows {
            table,
            rows: 0,
            columns: vec![Column::default(); table.columns.len()],
        }
    }

    pub fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
    }

    /// The rows as one block of ClickHouse's Native format, in pieces that follow each other.
    ///
    /// Dictionaries are left for ClickHouse to build: a LowCardinality column is sent as what it is made of.
    pub fn block(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let mut head = Vec::new();
        put_length(&mut head, self.table.columns.len());
        put_length(&mut head, self.rows);
        let described = self.table.columns.iter().zip(&self.columns);
        let columns = described.flat_map(|((name, kind), column)| {
            let mut front = Vec::new();
            put_text(&mut front, name);
            put_text(&mut front, &kind.replace("LowCardinality(String)", "String"));
            let mut end = 0;
            for length in &column.lengths {
                end += length;
                front.extend(end.to_le_bytes());
            }
            [
                Cow::Owned(front),
                Cow::Borrowed(column.beside.as_slice()),
                Cow::Borrowed(column.values.as_slice()),
            ]
        });
        std::iter::once(Cow::Owned(head)).chain(columns)
    }

    fn append(&mut self, mut other: TableRows) {
        self.rows += other.rows;
        for (mine, theirs) in self.columns.iter_mut().zip(&mut other.columns) {
            mine.append(theirs);
        }
    }
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
        self.waiting_bytes + self.tables.iter().map(TableRows::bytes).sum::<usize>()
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
                self.tables.push(TableRows::new(table));
                self.tables.len() - 1
            }
        };
        let rows = &mut self.tables[index];
        rows.rows += 1;
        Row {
            columns: rows.columns.iter_mut(),
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
        for rows in other.tables {
            match self
                .tables
                .iter_mut()
                .find(|mine| std::ptr::eq(mine.table, rows.table))
            {
                Some(mine) => mine.append(rows),
                None => self.tables.push(rows),
            }
        }
    }
}

/// One row, written column by column.
pub struct Row<'r> {
    columns: std::slice::IterMut<'r, Column>,
}

impl Row<'_> {
    #[inline]
    fn column(&mut self) -> &mut Column {
        let next = self.columns.next();
        next.expect("a row has no more values than its table has columns")
    }

    #[inline]
    fn value<const N: usize>(mut self, bytes: [u8; N]) -> Self {
        self.column().values.extend(bytes);
        self
    }

    pub fn bool(self, value: bool) -> Self {
        self.u8(u8::from(value))
    }
    pub fn u8(self, value: u8) -> Self {
        self.value([value])
    }
    pub fn u16(self, value: u16) -> Self {
        self.value(value.to_le_bytes())
    }
    pub fn u32(self, value: u32) -> Self {
        self.value(value.to_le_bytes())
    }
    pub fn i32(self, value: i32) -> Self {
        self.value(value.to_le_bytes())
    }
    pub fn u64(self, value: u64) -> Self {
        self.value(value.to_le_bytes())
    }
    /// Int64, and DateTime64(3) of milliseconds since 1970.
    pub fn i64(self, value: i64) -> Self {
        self.value(value.to_le_bytes())
    }
    pub fn f64(self, value: f64) -> Self {
        self.value(value.to_le_bytes())
    }
    pub fn text(self, value: &str) -> Self {
        self.raw(value.as_bytes())
    }
    pub fn raw(mut self, value: &[u8]) -> Self {
        put_raw(&mut self.column().values, value);
        self
    }
    /// DateTime of milliseconds since 1970; what lies outside of its range is taken to its ends.
    pub fn datetime(self, ms: i64) -> Self {
        self.value(datetime(ms))
    }
    /// Date of days since 1970.
    pub fn date(self, day: i32) -> Self {
        self.value((day.clamp(0, i32::from(u16::MAX)) as u16).to_le_bytes())
    }
    /// Nullable(Float64).
    pub fn f64_or_null(self, value: Option<f64>) -> Self {
        self.value_or_null(value.map(f64::to_le_bytes))
    }
    /// Nullable(Int64), and of DateTime64(3).
    pub fn i64_or_null(self, value: Option<i64>) -> Self {
        self.value_or_null(value.map(i64::to_le_bytes))
    }
    fn value_or_null<const N: usize>(mut self, value: Option<[u8; N]>) -> Self {
        let column = self.column();
        column.beside.push(u8::from(value.is_none()));
        column.values.extend(value.unwrap_or([0; N]));
        self
    }
    /// Array(UInt64).
    pub fn u64s<'v>(self, values: impl IntoIterator<Item = &'v u64>) -> Self {
        self.list(values.into_iter().map(|value| value.to_le_bytes()))
    }
    /// Array(UInt32).
    pub fn u32s(self, values: impl IntoIterator<Item = u32>) -> Self {
        self.list(values.into_iter().map(u32::to_le_bytes))
    }
    /// Array(DateTime) of milliseconds since 1970.
    pub fn datetimes(self, ms: impl IntoIterator<Item = i64>) -> Self {
        self.list(ms.into_iter().map(datetime))
    }
    fn list<const N: usize>(mut self, values: impl Iterator<Item = [u8; N]>) -> Self {
        let column = self.column();
        let before = column.values.len();
        column.values.extend(values.flatten());
        column.lengths.push(((column.values.len() - before) / N) as u64);
        self
    }
    /// Map(String, String).
    pub fn map<'v>(mut self, members: impl IntoIterator<Item = (&'v str, &'v str)>) -> Self {
        let column = self.column();
        let mut length = 0;
        for (key, value) in members {
            put_text(&mut column.beside, key);
            put_text(&mut column.values, value);
            length += 1;
        }
        column.lengths.push(length);
        self
    }
}

fn datetime(ms: i64) -> [u8; 4] {
    (ms.div_euclid(1000).clamp(0, i64::from(u32::MAX)) as u32).to_le_bytes()
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_raw(bytes, text.as_bytes());
}

fn put_raw(bytes: &mut Vec<u8>, value: &[u8]) {
    put_length(bytes, value.len());
    bytes.extend(value);
}

fn put_length(bytes: &mut Vec<u8>, length: usize) {
    put_varint(bytes, length as u64);
}
