//! `cambium alerts simulate`: when a rule would have fired over its past, or a detector over a series.

mod plot;
mod rule;

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cambium_alerts::{Detector, Direction, Judgement, Kind, Options, Point, Value, firing};
use cambium_engine::duration_ms;
use clap::{Args, ValueEnum};
use csv::{ReaderBuilder, StringRecord, Trim};

use crate::config::ConfigError;

/// Run a rule over its past in ClickHouse, or a detector over a series in a CSV file.
///
/// With a rule's NAME: when it would have fired, and a plot of it. With --csv: what the detector expects of each
/// row, and on which it fires. A header, then `time,value` (rate: `time,numerator,denominator`; silence: a row an event, its `time`). Times are RFC 3339 or Unix
/// seconds. Each row is judged from those before it alone; what is not known yet is an empty cell, and
/// nothing fires on it.
///
/// Keys of --set, with their defaults:
///   threshold  low, high (one of them at least)
///   change     percent=30, weeks=4, days=0
///   season     false_alarms=0.1 a week
///   count      false_alarms=0.1 a week
///   rate       false_alarms=0.1 a week
///   robust-z   z=4
///   cusum      slack=0.5, limit=12, in standard deviations
///   silence    false_alarms=0.01 a week
///
/// Example: cambium alerts simulate payments --config cambium.toml --from 2026-11-01 --plot payments.png
///
/// Example: cambium alerts simulate --csv orders.csv --detector count --set false_alarms=0.05 --output alarms.csv
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Arguments {
    #[command(flatten)]
    rule: rule::Past,
    /// The series; - is standard input
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "name",
        requires = "detector"
    )]
    csv: Option<PathBuf>,
    /// The way of judging
    #[arg(long, value_name = "DETECTOR", value_parser = kind, requires = "csv")]
    detector: Option<Kind>,
    /// After how long the series repeats itself
    #[arg(long, value_name = "DURATION", default_value = "1 week")]
    season: String,
    /// What is bad; left out: both for threshold, drop for all others
    #[arg(long)]
    direction: Option<Way>,
    /// Fires when so many of the last so many rows lie outside
    #[arg(long = "for", value_name = "N/M", default_value = "1/1")]
    firing: String,
    /// One of the detector's keys
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[arg(long, default_value = "csv")]
    format: Format,
    /// - is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    Drop,
    Rise,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Csv,
    Json,
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = Kind::NAMES.into_iter().find(|(name, _)| *name == text);
    found.map(|(_, kind)| kind).ok_or_else(|| {
        let names = Kind::NAMES.map(|(name, _)| name);
        format!("it is one of {}", names.join(", "))
    })
}

const HEADER: [&str; 7] = ["time", "expected", "low", "high", "score", "firing", "value"];

pub async fn run(arguments: Arguments) -> Result<()> {
    match (&arguments.csv, arguments.detector) {
        (Some(csv), Some(detector)) => series(csv, detector, &arguments),
        _ => rule::run(arguments.rule).await,
    }
}

fn series(csv: &Path, detector: Kind, arguments: &Arguments) -> Result<()> {
    let options = options(detector, arguments).map_err(|error| ConfigError::new(format!("{error:#}")))?;
    let mut detector = Detector::new(&options);
    let shown = csv.display().to_string();
    let input: Box<dyn Read> = if csv == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(csv).with_context(|| format!("cannot read {shown}"))?)
    };
    let mut rows = ReaderBuilder::new()
        .trim(Trim::All)
        .flexible(true)
        .from_reader(input);
    let columns = Columns::find(rows.headers()?, options.kind).with_context(|| shown.clone())?;
    let cannot = || format!("cannot write {}", arguments.output.display());
    let out: Box<dyn Write> = if arguments.output == Path::new("-") {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(File::create(&arguments.output).with_context(cannot)?)
    };
    let mut out = BufWriter::new(out);
    let mut count = 0u64;
    for row in rows.records() {
        let row = row.with_context(|| shown.clone())?;
        let line = row.position().map_or(0, |position| position.line());
        let point = columns
            .point(&row)
            .with_context(|| format!("{shown}, line {line}"))?;
        let judgement = detector.judge(point);
        let time = row.get(columns.time).unwrap_or_default();
        write_row(&mut out, arguments.format, count, time, &judgement).with_context(cannot)?;
        count += 1;
    }
    end(&mut out, arguments.format, count).with_context(cannot)
}

fn options(detector: Kind, arguments: &Arguments) -> Result<Options> {
    let mut options = Options::new(detector);
    match arguments.direction {
        Some(Way::Drop) => options.direction = Direction::Drop,
        Some(Way::Rise) => options.direction = Direction::Rise,
        Some(Way::Both) => options.direction = Direction::Both,
        None => {}
    }
    options.season_ms =
        duration_ms(&arguments.season).map_err(|error| anyhow::anyhow!("--season: {error}"))?;
    options.firing = firing(&arguments.firing)
        .with_context(|| format!("--for {}: write it like 2/3", arguments.firing))?;
    for setting in &arguments.set {
        for setting in setting.split(',') {
            let parts = setting.split_once('=');
            let Some((key, Ok(value))) = parts.map(|(key, value)| (key.trim(), value.trim().parse::<f64>()))
            else {
                bail!("--set {setting}: write it like key=1.5");
            };
            options
                .set(key, value)
                .with_context(|| format!("--set {setting}"))?;
        }
    }
    options.check()?;
    Ok(options)
}

/// Where the columns are: by their names, or in the order that the interface gives.
struct Columns {
    time: usize,
    first: Option<usize>,
    /// Of rates: the denominator.
    second: Option<usize>,
}

impl Columns {
    fn find(header: &StringRecord, kind: Kind) -> Result<Columns> {
        let named = |name: &str| header.iter().position(|column| column.eq_ignore_ascii_case(name));
        let place = |name: &str, place: usize| {
            named(name)
                .or((place < header.len()).then_some(place))
                .with_context(|| format!("there is no column '{name}'"))
        };
        let time = place("time", 0)?;
        Ok(match kind {
            Kind::Silence => Columns {
                time,
                first: None,
                second: None,
            },
            Kind::Rate => Columns {
                time,
                first: Some(place("numerator", 1)?),
                second: Some(place("denominator", 2)?),
            },
            _ => Columns {
                time,
                first: Some(place("value", 1)?),
                second: None,
            },
        })
    }

    fn point(&self, row: &StringRecord) -> Result<Point> {
        let text = row.get(self.time).unwrap_or_default();
        let at_ms =
            time_ms(text).with_context(|| format!("'{text}' is no time; RFC 3339 and Unix seconds are"))?;
        let number = |place: usize| -> Result<Option<f64>> {
            let text = row.get(place).unwrap_or_default();
            if text.is_empty() || text.eq_ignore_ascii_case("nan") || text.eq_ignore_ascii_case("null") {
                return Ok(None);
            }
            let number: f64 = text.parse().with_context(|| format!("'{text}' is no number"))?;
            Ok(number.is_finite().then_some(number))
        };
        let value = match (self.first, self.second) {
            (Some(first), Some(second)) => number(first)?
                .zip(number(second)?)
                .map(|(numerator, denominator)| Value::Share(numerator, denominator)),
            (Some(first), None) => number(first)?.map(Value::Number),
            _ => None,
        };
        Ok(Point { at_ms, value })
    }
}

fn time_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.is_finite() && seconds.abs() < 1e12).then(|| (seconds * 1000.0).round() as i64);
    }
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed.ok().map(|time| time.as_millisecond())
}

fn write_row(
    out: &mut impl Write,
    format: Format,
    before: u64,
    time: &str,
    judgement: &Judgement,
) -> std::io::Result<()> {
    let numbers = [
        judgement.expected,
        judgement.low,
        judgement.high,
        judgement.score,
        Some(f64::from(u8::from(judgement.fires))),
        judgement.value,
    ];
    match format {
        Format::Csv => {
            if before == 0 {
                writeln!(out, "{}", HEADER.join(","))?;
            }
            let cells = numbers.map(|number| number.map_or(String::new(), |number| number.to_string()));
            writeln!(out, "{time},{}", cells.join(","))
        }
        Format::Json => {
            let members = HEADER[1..].iter().zip(numbers).map(|(name, number)| {
                format!(
                    "\"{name}\":{}",
                    number.map_or("null".to_owned(), |number| number.to_string())
                )
            });
            let members: Vec<String> = members.collect();
            let start = if before == 0 { "[\n" } else { ",\n" };
            let time = serde_json::Value::from(time);
            write!(out, "{start}{{\"time\":{time},{}}}", members.join(","))
        }
    }
}

fn end(out: &mut impl Write, format: Format, rows: u64) -> std::io::Result<()> {
    match (format, rows) {
        (Format::Csv, 0) => writeln!(out, "{}", HEADER.join(","))?,
        (Format::Json, 0) => writeln!(out, "[]")?,
        (Format::Json, _) => writeln!(out, "\n]")?,
        _ => {}
    }
    out.flush()
}
