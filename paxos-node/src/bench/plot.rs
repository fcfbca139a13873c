//! Charts of a report, as SVG.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::case::Work;
use super::report::{Place, Report, Row};

const SIZE: (u32, u32) = (860, 380);
/// The part of the width for the lines; the legend has the rest.
const LINES_WIDTH: u32 = 620;
const LEGEND_TOP: i32 = 44;
const LEGEND_STEP: i32 = 20;
/// Colours that colour-blind people can tell apart (Okabe and Ito), and that are visible on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];
/// Charts that do not compare sizes show this one, if it was measured.
const TYPICAL_VALUE_BYTES: usize = 256;

/// A chart, as SVG.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Chart {
    /// A name for its file.
    pub file: String,
    /// What it shows.
    pub title: String,
    /// The chart.
    pub svg: String,
}

impl Report {
    /// The charts that show most of it: four for each kind of work.
    #[must_use]
    pub fn charts(&self) -> Vec<Chart> {
        let mut works: Vec<Work> = Vec::new();
        for row in &self.rows {
            if !works.contains(&row.case.work) {
                works.push(row.case.work);
            }
        }
        works.into_iter().flat_map(|work| charts_of(self, work)).collect()
    }
}

fn charts_of(report: &Report, work: Work) -> Vec<Chart> {
    let rows: Vec<&Row> = report.rows.iter().filter(|row| row.case.work == work).collect();
    let Some(first) = rows.first() else { return Vec::new() };
    let typical = rows.iter().find(|row| row.case.value_bytes == TYPICAL_VALUE_BYTES).unwrap_or(first);
    let value_bytes = typical.case.value_bytes;
    let most = rows.iter().map(|row| row.case.clients).max().unwrap_or(1);
    let of_size: Vec<&Row> = rows.iter().copied().filter(|row| row.case.value_bytes == value_bytes).collect();
    let of_most: Vec<&Row> = rows.iter().copied().filter(|row| row.case.clients == most).collect();
    let clients = |row: &Row| row.case.clients;
    let bytes = |row: &Row| row.case.value_bytes;
    let rate: Of = ("requests per second", |row| row.requests_per_second);
    let median: Of = ("median, ms", |row| row.p50_milliseconds);
    let slow: Of = ("99th percentile, ms", |row| row.p99_milliseconds);
    let work = work.name();
    let size = format!("{value_bytes}-byte values");
    [
        ("rate-by-clients", format!("{work}: rate by clients, {size}"), of_size.clone(), clients as By, rate),
        ("median-by-clients", format!("{work}: median by clients, {size}"), of_size.clone(), clients, median),
        ("p99-by-clients", format!("{work}: 99th percentile by clients, {size}"), of_size, clients, slow),
        ("rate-by-bytes", format!("{work}: rate by bytes of a value, {most} clients"), of_most, bytes, rate),
    ]
    .into_iter()
    .filter_map(|(file, title, rows, by, of)| {
        let svg = draw(&title, &rows, by, of)?;
        Some(Chart { file: format!("{work}-{file}.svg"), title, svg })
    })
    .collect()
}

type By = fn(&Row) -> usize;
type Of = (&'static str, fn(&Row) -> f64);

/// `None` if there is nothing to draw.
fn draw(title: &str, rows: &[&Row], by: By, of: Of) -> Option<String> {
    let mut svg = String::new();
    // Fails only if the space is too small for its margins, or if there is nothing to show on a logarithmic
    // scale.
    draw_on(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area(), title, rows, by, of).ok()?;
    Some(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failed<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn draw_on<'a>(root: &Area<'a>, title: &str, rows: &[&Row], by: By, of: Of) -> Result<(), Failed<'a>> {
    let mut places: Vec<&Place> = Vec::new();
    for row in rows {
        if !places.contains(&&row.place) {
            places.push(&row.place);
        }
    }
    let mut steps: Vec<usize> = rows.iter().map(|row| by(row)).collect();
    steps.sort_unstable();
    steps.dedup();
    let (unit, value) = of;
    let values = || rows.iter().map(|row| value(row)).filter(|value| *value > 0.0);
    let (lowest, highest) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
    if highest <= 0.0 {
        return Err(DrawingAreaErrorKind::LayoutError);
    }
    root.fill(&WHITE)?;
    let (left, legend) = root.split_horizontally(LINES_WIDTH);
    let last = i32::try_from(steps.len().max(2) - 1).unwrap_or(i32::MAX);
    let mut chart = ChartBuilder::on(&left)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(28)
        .y_label_area_size(76)
        .build_cartesian_2d(0..last, (lowest * 0.8..highest * 1.25).log_scale())?;
    let step = |index: &i32| {
        let step = usize::try_from(*index).ok().and_then(|index| steps.get(index));
        step.map(usize::to_string).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .axis_style(BLACK.mix(0.4))
        .x_labels(steps.len().max(2))
        .x_label_formatter(&step)
        .y_labels(6)
        .y_max_light_lines(0)
        .y_label_formatter(&|value| short(*value))
        .y_desc(unit)
        .label_style(("sans-serif", 13))
        .draw()?;
    for (index, place) in places.into_iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let of_place = rows.iter().filter(|row| row.place == *place && value(row) > 0.0);
        let mut points: Vec<(i32, f64)> = of_place
            .filter_map(|row| {
                let index = steps.binary_search(&by(row)).ok()?;
                Some((i32::try_from(index).ok()?, value(row)))
            })
            .collect();
        points.sort_by_key(|(index, _)| *index);
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
        let y = LEGEND_TOP + LEGEND_STEP * i32::try_from(index).unwrap_or(0);
        legend.draw(&Circle::new((6, y), 4, colour.filled()))?;
        legend.draw(&Text::new(place.label(), (16, y - 7), ("sans-serif", 13)))?;
    }
    root.present()
}

/// A number with its significant digits.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.0}M", value / 1e6),
        value if value >= 1e3 => format!("{:.0}k", value / 1e3),
        value if value >= 1.0 => format!("{value:.0}"),
        value => format!("{value:.2}"),
    }
}
