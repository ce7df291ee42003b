//! `cambium query`: SQL of the views.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use super::Where;
use crate::config::Config;
use crate::warehouse::Warehouse;

/// Ask SQL of the views.
///
/// Example: cambium query --config cambium.toml "SELECT day, users FROM active_users WHERE grain = 'day' ORDER BY day"
#[derive(Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Where,
    /// Any of ClickHouse's formats; a table on a terminal, TSV in a pipe
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// The query
    sql: String,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(&arguments.place.config)?;
    let warehouse = Warehouse::open_for_writing(&config, &arguments.place.data).await?;
    let mut out = std::io::stdout();
    match arguments.format {
        None if out.is_terminal() => {
            let answer = warehouse
                .client
                .fetch(&arguments.sql, "JSONCompactStringsEachRowWithNames")
                .await?;
            writeln!(out, "{}", table(&answer)?)?;
        }
        format => {
            let answer = warehouse
                .client
                .fetch(&arguments.sql, format.as_deref().unwrap_or("TSV"))
                .await?;
            out.write_all(&answer)?;
        }
    }
    out.flush().context("cannot write the answer")
}

/// A cell as a terminal takes it: what events bring may be an order to the terminal.
fn shown(cell: &str) -> String {
    // As this format writes it; few terminals do.
    if cell == "ᴺᵁᴸᴸ" {
        return "NULL".to_owned();
    }
    let mut shown = String::with_capacity(cell.len());
    for char in cell.chars() {
        match char {
            '\n' => shown.push(char),
            _ if char.is_control() => shown.extend(char.escape_default()),
            _ => shown.push(char),
        }
    }
    shown
}

/// Rows of JSON lists as a table; the first is the header.
pub fn table(answer: &[u8]) -> Result<String> {
    let mut rows = Vec::new();
    for line in answer
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        let row: Vec<String> = serde_json::from_slice(line).context("ClickHouse's answer cannot be read")?;
        rows.push(row.into_iter().map(|cell| shown(&cell)));
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let mut rows = rows.into_iter();
    if let Some(header) = rows.next() {
        table.set_header(header);
    }
    for row in rows {
        table.add_row(row);
    }
    Ok(table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_events_bring_is_no_order_to_the_terminal() {
        let answer = "[\"event\",\"n\"]\n[\"\\u001b]0;owned\\u0007\\u009b2J\",\"ᴺᵁᴸᴸ\"]\n";
        let table = table(answer.as_bytes()).unwrap();
        assert!(
            !table.contains(|char: char| char.is_control() && char != '\n'),
            "{table}"
        );
        assert!(
            table.contains(r"\u{1b}]0;owned\u{7}\u{9b}2J") && table.contains("NULL"),
            "{table}"
        );
    }
}
