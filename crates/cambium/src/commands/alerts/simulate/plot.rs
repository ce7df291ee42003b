//! A judged series as a picture: on the terminal, and as PNG.

use std::path::Path;
use std::sync::Once;

use anyhow::{Result, anyhow};
use cambium_notify::Judged;
use jiff::Timestamp;
use plotters::prelude::*;
use plotters::style::register_font;
use textplots::{Chart, Plot, Shape};

const WIDTH: u32 = 1600;
const HEIGHT: u32 = 500;
/// More points than that are drawn as the lowest of each few: drops are what is looked for.
const MOST_POINTS: usize = 3000;

/// The number, with what is on marked below it.
pub fn terminal(judged: &Judged) {
    let points = thinned(judged);
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return;
    };
    let value: Vec<(f32, f32)> = points
        .iter()
        .filter_map(|point| Some((hours(first.at_ms, point.at_ms), point.value? as f32)))
        .collect();
    let expected: Vec<(f32, f32)> = points
        .iter()
        .filter_map(|point| Some((hours(first.at_ms, point.at_ms), point.expected? as f32)))
        .collect();
    let end = hours(first.at_ms, last.at_ms).max(0.1);
    let of = if judged.slice.is_empty() {
        String::new()
    } else {
        format!(" of {}", judged.slice)
    };
    println!("{} to {}{of}, in hours:", shown(first.at_ms), shown(last.at_ms));
    Chart::new(160, 50, 0.0, end)
        .lineplot(&Shape::Lines(&value))
        .lineplot(&Shape::Points(&expected))
        .nice();
}

/// All series, one below the other: the number, what was expected, its usual range, and when alerts were on.
pub fn png(path: &Path, title: &str, judged: &[Judged]) -> Result<()> {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        let _ = register_font("sans-serif", FontStyle::Normal, dejavu::sans::regular());
    });
    let drawn: Vec<&Judged> = judged.iter().filter(|series| !series.points.is_empty()).collect();
    let root = BitMapBackend::new(path, (WIDTH, HEIGHT * drawn.len().max(1) as u32)).into_drawing_area();
    root.fill(&WHITE).map_err(said)?;
    for (series, area) in drawn.iter().zip(root.split_evenly((drawn.len().max(1), 1))) {
        let title = if series.slice.is_empty() {
            title.to_owned()
        } else {
            format!("{title} ({})", series.slice)
        };
        draw(&area, &title, series)?;
    }
    root.present().map_err(said)
}

fn said(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

fn draw(
    area: &DrawingArea<BitMapBackend<'_>, plotters::coord::Shift>,
    title: &str,
    series: &Judged,
) -> Result<()> {
    let points = thinned(series);
    let (from, to) = match (points.first(), points.last()) {
        (Some(first), Some(last)) if last.at_ms > first.at_ms => (first.at_ms, last.at_ms),
        _ => return Ok(()),
    };
    let most = points
        .iter()
        .flat_map(|point| [point.value, point.expected])
        .flatten()
        .fold(f64::MIN_POSITIVE, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 24))
        .margin(20)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d(from..to, 0.0..most * 1.1)
        .map_err(said)?;
    for pair in points.windows(2).filter(|pair| pair[0].is_on) {
        let corners = [(pair[0].at_ms, 0.0), (pair[1].at_ms, most * 1.1)];
        let band = Rectangle::new(corners, RED.mix(0.18).filled());
        chart.draw_series(std::iter::once(band)).map_err(said)?;
    }
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_labels(12)
        .x_label_formatter(&|ms| shown(*ms))
        .label_style(("sans-serif", 16))
        .draw()
        .map_err(said)?;
    let line = |pick: fn(&Drawn) -> Option<f64>| {
        let found: Vec<(i64, f64)> = points
            .iter()
            .filter_map(|point| Some((point.at_ms, pick(point)?.clamp(0.0, most * 1.1))))
            .collect();
        found
    };
    for (name, pick, color) in [
        (
            "value",
            (|point| point.value) as fn(&Drawn) -> Option<f64>,
            BLUE.to_rgba(),
        ),
        ("expected", |point| point.expected, BLACK.mix(0.6)),
        ("low", |point| point.low, GREEN.mix(0.7)),
    ] {
        chart
            .draw_series(LineSeries::new(line(pick), color))
            .map_err(said)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 16))
        .draw()
        .map_err(said)
}

/// One point that is drawn.
struct Drawn {
    at_ms: i64,
    value: Option<f64>,
    expected: Option<f64>,
    low: Option<f64>,
    is_on: bool,
}

fn thinned(judged: &Judged) -> Vec<Drawn> {
    let step = judged.points.len().div_ceil(MOST_POINTS).max(1);
    let lowest = |points: &[(i64, cambium_alerts::Judgement, bool)]| {
        let least = points.iter().min_by(|left, right| {
            left.1
                .value
                .partial_cmp(&right.1.value)
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        least.map(|(at_ms, judgement, _)| Drawn {
            at_ms: *at_ms,
            value: judgement.value,
            expected: judgement.expected,
            low: judgement.low,
            is_on: points.iter().any(|(_, _, is_on)| *is_on),
        })
    };
    judged.points.chunks(step).filter_map(lowest).collect()
}

fn hours(first_ms: i64, at_ms: i64) -> f32 {
    (at_ms - first_ms) as f32 / 3_600_000.0
}

fn shown(ms: i64) -> String {
    let instant = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
    instant.strftime("%m-%d %H:%M").to_string()
}
