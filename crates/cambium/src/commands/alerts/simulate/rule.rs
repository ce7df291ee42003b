//! A rule over its past: when it would have fired.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use cambium_notify::{Judged, history};
use clap::Args;
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::plot;
use crate::config::{Config, ConfigError};
use crate::warehouse::Warehouse;

#[derive(Args, Debug)]
pub struct Past {
    /// The rule
    #[arg(value_name = "NAME", requires = "config", conflicts_with = "csv")]
    name: Option<String>,
    /// The configuration
    #[arg(long, value_name = "FILE", requires = "name")]
    config: Option<PathBuf>,
    /// Where the embedded engine lives
    #[arg(long, value_name = "DIR", default_value = "./cambium-data")]
    data: PathBuf,
    /// From this day or instant on; left out: the last week
    #[arg(long, value_name = "TIME", requires = "name")]
    from: Option<String>,
    /// To before this day or instant; left out: now
    #[arg(long, value_name = "TIME", requires = "name")]
    to: Option<String>,
    /// Draw it into this PNG file
    #[arg(long, value_name = "FILE", requires = "name")]
    plot: Option<PathBuf>,
}

const WEEK_MS: i64 = 7 * 86_400_000;

pub async fn run(arguments: Past) -> Result<()> {
    let (Some(name), Some(config)) = (&arguments.name, &arguments.config) else {
        return Err(ConfigError::new(
            "a rule's NAME and --config FILE, or --csv FILE, are needed".to_owned(),
        )
        .into());
    };
    let config = Config::read(config)?;
    let rule = config.rule(name)?.clone();
    let instant = |option: &str, text: &Option<String>, otherwise: i64| -> Result<i64> {
        let Some(text) = text else { return Ok(otherwise) };
        instant_ms(text).map_err(|error| ConfigError::new(format!("{option}: {error:#}")).into())
    };
    let to_ms = instant("--to", &arguments.to, Timestamp::now().as_millisecond())?;
    let from_ms = instant("--from", &arguments.from, to_ms - WEEK_MS)?;
    if from_ms >= to_ms {
        return Err(ConfigError::new("--from lies behind --to".to_owned()).into());
    }
    let settings = config.watching()?;
    let warehouse = Warehouse::open_for_writing(&config, &arguments.data).await?;
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{bar:40} {percent} %  {eta}")?);
    let judged = history(
        &warehouse.client,
        &settings,
        &rule,
        (from_ms, to_ms),
        |done, all| {
            bar.set_length(all);
            bar.set_position(done);
        },
    )
    .await;
    bar.finish_and_clear();
    let judged = judged?;
    anyhow::ensure!(
        judged.iter().any(|series| !series.points.is_empty()),
        "there is nothing of [[alert]] {name} between then and then that could be judged"
    );
    print(&judged);
    if let Some(whole) = judged.first() {
        plot::terminal(whole);
    }
    if let Some(path) = &arguments.plot {
        let title = format!("{}: {}", rule.name, rule.title());
        plot::png(path, &title, &judged).with_context(|| format!("cannot draw {}", path.display()))?;
        println!("drawn into {}", path.display());
    }
    Ok(())
}

/// RFC 3339, or a day of UTC.
fn instant_ms(text: &str) -> Result<i64> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant.as_millisecond());
    }
    let day: Date = text.parse().map_err(|_| {
        anyhow!("'{text}' is neither a day like 2026-11-01 nor an instant like 2026-11-01T08:00:00Z")
    })?;
    Ok(TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0))?.as_millisecond())
}

fn print(judged: &[Judged]) {
    let shown = |ms: i64| {
        let instant = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
        instant.strftime("%F %T").to_string()
    };
    let number = |number: Option<f64>| number.map_or(String::new(), |number| format!("{number:.3}"));
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "slice",
        "fires at (UTC)",
        "resolved at",
        "value",
        "expected",
        "usual range",
    ]);
    let mut count = 0;
    for alert in judged.iter().flat_map(|series| &series.alerts) {
        count += 1;
        table.add_row([
            alert.slice.clone(),
            shown(alert.detected_at),
            alert.resolved_at.map_or(String::new(), shown),
            number(alert.value),
            number(alert.expected),
            format!("{} – {}", number(alert.low), number(alert.high)),
        ]);
    }
    if count == 0 {
        println!("it would not have fired");
    } else {
        println!("it would have fired {count} times\n{table}");
    }
}
