//! A model of what ClickHouse keeps: the newest version of each key, the union of each set. Keys and
//! engines are read off the SQL files.

use std::collections::{BTreeMap, BTreeSet};

use cambium_engine::{Bug, Rows, TableRows, bug};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Number(i128),
    Text(String),
    Map(Vec<(String, String)>),
    List(Vec<i128>),
}

pub type Row = BTreeMap<&'static str, Value>;

pub fn number(row: &Row, column: &str) -> i128 {
    match &row[column] {
        Value::Number(number) => *number,
        other => panic!("{column} is {other:?}"),
    }
}

pub fn text(row: &Row, column: &str) -> String {
    match &row[column] {
        Value::Text(text) => text.clone(),
        other => panic!("{column} is {other:?}"),
    }
}

/// The id of the definition that a row is of; none: it is of none.
pub fn definition(row: &Row) -> Option<u64> {
    row.contains_key("definition")
        .then(|| number(row, "definition") as u64)
}

#[derive(Clone)]
enum Keeping {
    Newest { key: Vec<String>, versioned: bool },
    Union,
}

#[derive(Clone, Default)]
pub struct Model {
    keeping: BTreeMap<String, Keeping>,
    newest: BTreeMap<(&'static str, Vec<Value>), (i128, Row)>,
    unions: BTreeMap<&'static str, BTreeSet<Row>>,
    /// Everything that was inserted, in its order.
    pub inserted: Vec<Rows>,
    /// Sessions that ceased to exist, and funnel results that lost a step.
    pub sessions_gone: usize,
    pub steps_undone: usize,
}

impl Model {
    pub fn new() -> Model {
        let mut model = Model::default();
        for (_, statement) in cambium_clickhouse::statements(None) {
            let Some(rest) = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ") else {
                continue;
            };
            let name = rest.split_whitespace().next().unwrap().to_owned();
            let engine = line_after(&statement, "ENGINE = ");
            let keeping = if engine.starts_with("Replacing") {
                let key = line_after(&statement, "ORDER BY ");
                let key = key
                    .trim_matches(['(', ')', ';'])
                    .split(", ")
                    .map(str::to_owned)
                    .collect();
                Keeping::Newest {
                    key,
                    versioned: engine.contains("version"),
                }
            } else {
                Keeping::Union
            };
            model.keeping.insert(name, keeping);
        }
        model
    }

    pub fn insert(&mut self, rows: &Rows) {
        self.inserted.push(rows.clone());
        for table in &rows.tables {
            self.take(table, table.rows);
        }
    }

    /// Takes the first rows of an insert into one table.
    pub fn take(&mut self, table: &TableRows, first: usize) {
        for row in decode(table).into_iter().take(first) {
            self.put(table.table.name, row);
        }
    }

    fn put(&mut self, table: &'static str, row: Row) {
        let keeping = self.keeping.get(table);
        match keeping.unwrap_or_else(|| panic!("no table {table}")) {
            // A row of a set's new users stands for one of each.
            Keeping::Union => match row.get("users") {
                Some(Value::List(users)) => {
                    for user in users {
                        let mut row = row.clone();
                        row.insert("users", Value::Number(*user));
                        self.unions.entry(table).or_default().insert(row);
                    }
                }
                _ => {
                    self.unions.entry(table).or_default().insert(row);
                }
            },
            Keeping::Newest { key, versioned } => {
                let key = key.iter().map(|column| row[column.as_str()].clone()).collect();
                let key = (table, key);
                let version = if *versioned { number(&row, "version") } else { 0 };
                if let Some((newest, before)) = self.newest.get(&key) {
                    if *newest > version && !bug(Bug::OlderRowWins)
                        || *newest < version && bug(Bug::OlderRowWins)
                    {
                        return;
                    }
                    self.sessions_gone += usize::from(is_session_gone(table, before, &row));
                    self.steps_undone += usize::from(is_step_undone(table, before, &row));
                }
                self.newest.insert(key, (version, row));
            }
        }
    }

    /// The rows that a view would see: newest, not deleted.
    pub fn rows(&self, table: &str) -> Vec<&Row> {
        let shown = self.newest(table).filter(|row| {
            row.get("deleted")
                .is_none_or(|deleted| *deleted == Value::Number(0))
        });
        shown
            .chain(self.unions.get(table).into_iter().flatten())
            .collect()
    }

    /// Forgets the rows that do not stay.
    pub fn retain(&mut self, stays: impl Fn(&Row) -> bool) {
        self.newest.retain(|_, (_, row)| stays(row));
        self.unions.values_mut().for_each(|rows| rows.retain(&stays));
    }

    /// The newest version of each key of a table, deleted or not.
    pub fn newest(&self, table: &str) -> impl Iterator<Item = &Row> {
        let of_table = self.newest.iter().filter(move |((name, _), _)| *name == table);
        of_table.map(|(_, (_, row))| row)
    }
}

fn is_session_gone(table: &str, before: &Row, after: &Row) -> bool {
    table == "session_rows" && number(after, "deleted") == 1 && number(before, "deleted") == 0
}

fn is_step_undone(table: &str, before: &Row, after: &Row) -> bool {
    table == "funnel_rows" && number(before, "steps") & !number(after, "steps") != 0
}

fn line_after<'s>(statement: &'s str, start: &str) -> &'s str {
    statement
        .lines()
        .find_map(|line| line.strip_prefix(start))
        .unwrap_or("")
}

/// As ClickHouse reads a block of its Native format.
fn decode(table: &TableRows) -> Vec<Row> {
    let block: Vec<u8> = table.block().flat_map(|part| part.to_vec()).collect();
    let mut bytes = block.as_slice();
    let (columns, count) = (length(&mut bytes), length(&mut bytes));
    assert_eq!((columns, count), (table.table.columns.len(), table.rows));
    let mut rows = vec![Row::new(); count];
    for (name, _) in table.table.columns {
        assert_eq!(string(&mut bytes), *name);
        let kind = string(&mut bytes);
        for (row, value) in rows.iter_mut().zip(values(&mut bytes, &kind, count)) {
            row.insert(name, value);
        }
    }
    assert!(bytes.is_empty(), "{}", table.table.name);
    rows
}

fn values(bytes: &mut &[u8], kind: &str, count: usize) -> Vec<Value> {
    let is_list = kind.starts_with("Array(") || kind.starts_with("Map(");
    let ends: Vec<usize> = (0..if is_list { count } else { 0 })
        .map(|_| integer(bytes, "UInt64") as usize)
        .collect();
    let total = ends.last().copied().unwrap_or(0);
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let lists = starts.zip(&ends);
    if let Some(inner) = kind.strip_prefix("Array(") {
        let inner = inner.strip_suffix(')').unwrap();
        let items: Vec<i128> = (0..total).map(|_| integer(bytes, inner)).collect();
        return lists
            .map(|(start, end)| Value::List(items[start..*end].to_vec()))
            .collect();
    }
    if is_list {
        let keys: Vec<String> = (0..total).map(|_| string(bytes)).collect();
        let members: Vec<(String, String)> = keys.into_iter().map(|key| (key, string(bytes))).collect();
        return lists
            .map(|(start, end)| Value::Map(members[start..*end].to_vec()))
            .collect();
    }
    let value = |_| match kind {
        "String" => Value::Text(string(bytes)),
        _ => Value::Number(integer(bytes, kind)),
    };
    (0..count).map(value).collect()
}

fn integer(bytes: &mut &[u8], kind: &str) -> i128 {
    let (size, signed) = match kind {
        "UInt8" => (1, false),
        "Date" | "UInt16" => (2, false),
        "UInt32" | "DateTime('UTC')" => (4, false),
        "Int32" => (4, true),
        "UInt64" => (8, false),
        "Int64" | "DateTime64(3, 'UTC')" => (8, true),
        other => panic!("no type {other}"),
    };
    let (head, rest) = bytes.split_at(size);
    *bytes = rest;
    let unsigned = head
        .iter()
        .rev()
        .fold(0i128, |value, byte| (value << 8) | i128::from(*byte));
    if signed && unsigned >> (8 * size - 1) != 0 {
        unsigned - (1 << (8 * size))
    } else {
        unsigned
    }
}

fn length(bytes: &mut &[u8]) -> usize {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

fn string(bytes: &mut &[u8]) -> String {
    let length = length(bytes);
    let (head, rest) = bytes.split_at(length);
    *bytes = rest;
    String::from_utf8(head.to_vec()).unwrap()
}
