//! What a contestant took, and the table of them all.

use std::time::{Duration, Instant};

use anyhow::Result;
use cambium_benches::machine;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

/// What one contestant took for its events. A child process says it as a line of JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    pub who: String,
    pub events: u64,
    pub seconds: f64,
    /// Of the contestant's own process.
    pub processor_seconds: f64,
    pub peak_bytes: u64,
    #[serde(default)]
    pub clickhouse: Option<ClickHouse>,
    /// False: it was given up after that time.
    #[serde(default = "yes")]
    pub is_finished: bool,
}

fn yes() -> bool {
    true
}

/// What writing took, beside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClickHouse {
    pub processor_seconds: f64,
    pub peak_bytes: u64,
    /// Inserted, as they came over the wire, uncompressed.
    pub rows: u64,
    pub bytes: u64,
    /// Compressed, as they lie on the disk when the last row is there.
    pub stored_bytes: u64,
}

/// A process that watches itself.
pub struct Watched {
    begun: Instant,
    processor: Duration,
}

impl Watched {
    pub fn begin() -> Result<Watched> {
        Ok(Watched {
            begun: Instant::now(),
            processor: machine::processor_time(std::process::id())?,
        })
    }

    pub fn end(self, who: &str, events: u64) -> Result<Figure> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let process = std::process::id();
        let processor = machine::processor_time(process)? - self.processor;
        Ok(Figure {
            who: who.to_owned(),
            events,
            seconds,
            processor_seconds: processor.as_secs_f64(),
            peak_bytes: machine::peak_memory(process)?,
            clickhouse: None,
            is_finished: true,
        })
    }
}

impl Figure {
    pub fn events_per_second(&self) -> f64 {
        self.events as f64 / self.seconds
    }

    fn per_million(&self, seconds: f64) -> f64 {
        seconds * 1e6 / self.events as f64
    }
}

/// Of several rounds the one in the middle.
pub fn median(mut rounds: Vec<Figure>) -> Option<Figure> {
    rounds.sort_by(|left, right| left.seconds.total_cmp(&right.seconds));
    let middle = rounds.len().checked_sub(1)? / 2;
    Some(rounds.swap_remove(middle))
}

/// The table, as Markdown. Ratios are to the first figure and to the second.
pub fn table(figures: &[Figure], to: [&str; 2]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut header = vec!["who".to_owned(), "events/s".to_owned()];
    header.extend(to.iter().map(|name| format!("of {name}")));
    header.push("CPU s per million".to_owned());
    header.extend(to.iter().map(|name| format!("times {name}")));
    let rest = [
        "peak memory",
        "ClickHouse: CPU s per million",
        "memory",
        "rows an event",
        "bytes an event",
        "stored",
    ];
    header.extend(rest.map(str::to_owned));
    table.set_header(header);
    for figure in figures {
        if !figure.is_finished {
            let given_up = format!("{}: not finished after {:.0} s", figure.who, figure.seconds);
            table.add_row([given_up]);
            continue;
        }
        let mut row = vec![figure.who.clone(), thousands(figure.events_per_second())];
        row.extend(figures.iter().take(to.len()).map(|bare| {
            let ratio = figure.events_per_second() / bare.events_per_second();
            format!("{ratio:.3}")
        }));
        let processor = figure.per_million(figure.processor_seconds);
        row.push(format!("{processor:.3}"));
        row.extend(figures.iter().take(to.len()).map(|bare| {
            let ratio = processor / bare.per_million(bare.processor_seconds);
            format!("{ratio:.2}")
        }));
        row.push(megabytes(figure.peak_bytes));
        if let Some(clickhouse) = &figure.clickhouse {
            let an_event = |count: u64| count as f64 / figure.events as f64;
            row.push(format!("{:.3}", figure.per_million(clickhouse.processor_seconds)));
            row.push(megabytes(clickhouse.peak_bytes));
            row.push(format!("{:.2}", an_event(clickhouse.rows)));
            row.push(format!("{:.1}", an_event(clickhouse.bytes)));
            row.push(format!("{:.1}", an_event(clickhouse.stored_bytes)));
        }
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

pub fn thousands(number: f64) -> String {
    format!("{:.0} k", number / 1000.0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}
