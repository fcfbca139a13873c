//! Bar charts as SVG, in the colours and letters of `paxos-node bench`.
//!
//! The same bars give the same text, byte by byte, so that a chart can be held against what is in the tree.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (i32, i32) = (860, 400);
const MARGIN: i32 = 12;
/// Left of the bars, for the figures of the scale.
const SCALE_WIDTH: i32 = 76;
const TITLE_HEIGHT: i32 = 30;
const LINE_HEIGHT: i32 = 20;
/// What is left free above the highest bar, for its figure: lying, or standing.
const FIGURE_HEIGHTS: [i32; 2] = [20, 46];
/// Letters of so many of these come out a quarter smaller.
const TITLE_LETTERS: i32 = 20;
const LETTERS: i32 = 16;
const FIGURE_LETTERS: i32 = 15;
/// How wide a letter is at most in the mean, as a part of its height.
const LETTER_WIDTH: f64 = 0.5;
const WIDEST_BAR: i32 = 56;
/// How much of the width of a group its bars take.
const BARS_PART: f64 = 0.86;
const MOST_TICKS: f64 = 6.0;
/// Colours that people who do not see all of them can tell apart (Okabe and Ito), and that show on white.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
    RGBColor(160, 160, 160),
];

/// A chart of bars that stand together in groups.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What is shown.
    pub title: String,
    /// What the bars' height means.
    pub unit: String,
    /// What stands below each group; a line feed begins a second line.
    pub groups: Vec<String>,
    /// One bar in each group.
    pub series: Vec<Series>,
    /// How values become heights.
    pub scale: Scale,
}

/// Bars of one colour.
#[derive(Clone, Debug)]
pub struct Series {
    /// What the legend says.
    pub name: String,
    /// One for each group; `None` leaves a gap, as does what is not above zero.
    pub values: Vec<Option<f64>>,
}

/// How values become heights.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// From zero on.
    Linear,
    /// From a power of ten below the lowest on.
    Logarithmic,
}

/// What a library or program did with so many clients.
#[derive(Clone, Debug)]
pub struct Rate {
    /// Who.
    pub contender: String,
    /// How many clients asked at the same time.
    pub clients: usize,
    /// How many of their commands were served in a second.
    pub commands_per_second: f64,
}

/// The chart, or `None` if there is no bar to draw.
#[must_use]
pub fn bars(bars: &Bars) -> Option<String> {
    let layout = Layout::new(bars)?;
    let mut svg = String::new();
    let [width, height] = [SIZE.0, SIZE.1].map(i32::unsigned_abs);
    let root = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
    // A backend that writes to memory has no reason to fail.
    draw(&root, bars, &layout).ok()?;
    drop(root);
    Some(svg)
}

/// Rates of several contenders, each with several numbers of clients, or `None` if there are none. The
/// contenders keep the order in which they come first.
#[must_use]
pub fn rates(title: &str, rates: &[Rate]) -> Option<String> {
    let mut steps: Vec<usize> = rates.iter().map(|rate| rate.clients).collect();
    steps.sort_unstable();
    steps.dedup();
    let mut series: Vec<Series> = Vec::new();
    for rate in rates {
        let place = series.iter().position(|series| series.name == rate.contender).unwrap_or_else(|| {
            series.push(Series { name: rate.contender.clone(), values: vec![None; steps.len()] });
            series.len() - 1
        });
        let step = steps.partition_point(|clients| *clients < rate.clients);
        series[place].values[step] = Some(rate.commands_per_second);
    }
    let group = |clients: &usize| format!("{clients} client{}", if *clients == 1 { "" } else { "s" });
    bars(&Bars {
        title: title.to_owned(),
        unit: String::from("commands per second, log scale"),
        groups: steps.iter().map(group).collect(),
        series,
        scale: Scale::Logarithmic,
    })
}

/// Where everything is, in pixels.
struct Layout {
    /// The left edge and the line of each name in the legend.
    legend: Vec<(i32, i32)>,
    top: i32,
    bottom: i32,
    group_width: f64,
    bar_width: i32,
    are_figures_lying: bool,
    axis: Axis,
}

/// From values to parts of the height.
struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Layout {
    fn new(bars: &Bars) -> Option<Layout> {
        let values = || bars.series.iter().flat_map(|series| &series.values).copied().filter_map(shown);
        let axis = Axis::new(bars.scale, values().reduce(f64::min)?, values().reduce(f64::max)?);
        let mut legend: Vec<(i32, i32)> = Vec::new();
        let (mut x, mut line) = (SCALE_WIDTH, 0);
        for series in &bars.series {
            let width = 34 + text_width(&series.name, LETTERS);
            if x > SCALE_WIDTH && x + width > SIZE.0 {
                (x, line) = (SCALE_WIDTH, line + 1);
            }
            legend.push((x, MARGIN + TITLE_HEIGHT + LINE_HEIGHT * line));
            x += width;
        }
        let group_width = f64::from(SIZE.0 - MARGIN - SCALE_WIDTH) / count(bars.groups.len());
        let bar_width = pixels(group_width * BARS_PART / count(bars.series.len())).clamp(2, WIDEST_BAR);
        let widest = values().map(|value| text_width(&short(value), FIGURE_LETTERS)).max()?;
        let are_figures_lying = widest <= bar_width;
        let lines = bars.groups.iter().map(|group| group.lines().count()).max()?;
        let group_lines = i32::try_from(lines).ok()?;
        Some(Layout {
            top: MARGIN
                + TITLE_HEIGHT
                + LINE_HEIGHT * (line + 1)
                + FIGURE_HEIGHTS[usize::from(!are_figures_lying)],
            bottom: SIZE.1 - MARGIN - 6 - LINE_HEIGHT * group_lines,
            legend,
            group_width,
            bar_width,
            are_figures_lying,
            axis,
        })
    }

    fn height(&self, value: f64) -> i32 {
        self.bottom - pixels(self.axis.part(value) * f64::from(self.bottom - self.top))
    }

    fn middle(&self, group: usize) -> f64 {
        f64::from(SCALE_WIDTH) + self.group_width * (count(group) + 0.5)
    }
}

impl Axis {
    fn new(scale: Scale, lowest: f64, highest: f64) -> Axis {
        match scale {
            Scale::Linear => Axis { scale, low: 0.0, high: highest },
            // The lowest bar should still be seen.
            Scale::Logarithmic => Axis { scale, low: (lowest * 0.8).log10().floor(), high: highest.log10() },
        }
    }

    fn part(&self, value: f64) -> f64 {
        let value = if self.scale == Scale::Logarithmic { value.log10() } else { value };
        (value - self.low) / (self.high - self.low)
    }

    /// Powers of ten; or multiples of 1, 2 or 5 of one.
    fn ticks(&self) -> Vec<f64> {
        let step = match self.scale {
            Scale::Logarithmic => 1.0,
            Scale::Linear => {
                let power = 10_f64.powf((self.high / MOST_TICKS).log10().floor());
                let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
                steps.into_iter().find(|step| self.high / step <= MOST_TICKS).unwrap_or(self.high)
            }
        };
        let ticks =
            (0..).map(|index| self.low + step * f64::from(index)).take_while(|tick| *tick <= self.high);
        ticks.map(|tick| if self.scale == Scale::Logarithmic { 10_f64.powf(tick) } else { tick }).collect()
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failed<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

fn draw<'a>(root: &Area<'a>, bars: &Bars, layout: &Layout) -> Result<(), Failed<'a>> {
    root.fill(&WHITE)?;
    let grey = BLACK.mix(0.75);
    let letters = ("sans-serif", LETTERS).into_font().color(&grey);
    let at = |horizontal, vertical| letters.clone().pos(Pos::new(horizontal, vertical));
    let title = ("sans-serif", TITLE_LETTERS).into_font().color(&BLACK);
    root.draw(&Text::new(bars.title.as_str(), (SCALE_WIDTH, MARGIN), title))?;
    for ((series, colour), (x, y)) in bars.series.iter().zip(COLOURS.iter().cycle()).zip(&layout.legend) {
        root.draw(&Rectangle::new([(*x, y + 2), (x + 12, y + 14)], colour.filled()))?;
        root.draw(&Text::new(series.name.as_str(), (x + 18, y + 8), at(HPos::Left, VPos::Center)))?;
    }
    let right = SIZE.0 - MARGIN;
    for tick in layout.axis.ticks() {
        let y = layout.height(tick);
        root.draw(&PathElement::new([(SCALE_WIDTH, y), (right, y)], BLACK.mix(0.12)))?;
        root.draw(&Text::new(tick_text(tick), (SCALE_WIDTH - 8, y), at(HPos::Right, VPos::Center)))?;
    }
    let upright = at(HPos::Center, VPos::Top).transform(FontTransform::Rotate270);
    let middle = i32::midpoint(layout.top, layout.bottom);
    root.draw(&Text::new(bars.unit.as_str(), (MARGIN, middle), upright))?;
    draw_groups(root, bars, layout)?;
    for (index, group) in bars.groups.iter().enumerate() {
        let mut y = layout.bottom + 8;
        for line in group.lines() {
            let style = at(HPos::Center, VPos::Top);
            root.draw(&Text::new(line, (pixels(layout.middle(index)), y), style))?;
            y += LINE_HEIGHT - 2;
        }
    }
    root.draw(&PathElement::new([(SCALE_WIDTH, layout.bottom), (right, layout.bottom)], BLACK.mix(0.5)))?;
    root.present()
}

/// The bars, and a figure above each.
fn draw_groups<'a>(root: &Area<'a>, bars: &Bars, layout: &Layout) -> Result<(), Failed<'a>> {
    let figures = ("sans-serif", FIGURE_LETTERS).into_font().color(&BLACK);
    let style = if layout.are_figures_lying {
        figures.pos(Pos::new(HPos::Center, VPos::Bottom))
    } else {
        figures.pos(Pos::new(HPos::Left, VPos::Center)).transform(FontTransform::Rotate270)
    };
    let all_width = f64::from(layout.bar_width) * count(bars.series.len());
    for (place, (series, colour)) in bars.series.iter().zip(COLOURS.iter().cycle()).enumerate() {
        for (group, value) in series.values.iter().copied().enumerate().take(bars.groups.len()) {
            let Some(value) = shown(value) else { continue };
            let left = layout.middle(group) - all_width / 2.0 + f64::from(layout.bar_width) * count(place);
            let (left, top) = (pixels(left), layout.height(value));
            let corners = [(left + 1, top), (left + layout.bar_width - 1, layout.bottom)];
            root.draw(&Rectangle::new(corners, colour.filled()))?;
            let above = (left + layout.bar_width / 2, top - 4);
            root.draw(&Text::new(short(value), above, style.clone()))?;
        }
    }
    Ok(())
}

/// What can be drawn on any scale.
fn shown(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value > 0.0)
}

/// Three digits, as more would tell nothing.
fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 999.5e3 => (value / 1e6, "M"),
        value if value >= 999.5 => (value / 1e3, "k"),
        value => (value, ""),
    };
    match value {
        value if value >= 99.95 => format!("{value:.0}{unit}"),
        value if value >= 9.995 => format!("{value:.1}{unit}"),
        value => format!("{value:.2}{unit}"),
    }
}

/// Ticks are round, so they need no zeros behind the point.
fn tick_text(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", round(value / 1e6)),
        value if value >= 1e3 => format!("{}k", round(value / 1e3)),
        value => format!("{}", round(value)),
    }
}

fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn text_width(text: &str, letters: i32) -> i32 {
    pixels(f64::from(letters) * LETTER_WIDTH * count(text.chars().count()))
}

#[expect(clippy::cast_possible_truncation, reason = "everything lies within a chart")]
fn pixels(length: f64) -> i32 {
    length.round() as i32
}

#[expect(clippy::cast_precision_loss, reason = "there are few of everything")]
fn count(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(series: usize, scale: Scale) -> Bars {
        let series = (0..series).map(|index| Series {
            name: format!("contender {index}"),
            values: vec![Some(1234.0 * (count(index) + 1.0)), None, Some(56_789.0)],
        });
        Bars {
            title: String::from("a title"),
            unit: String::from("commands per second"),
            groups: ["one", "two\nlines", "three"].map(str::to_owned).to_vec(),
            series: series.collect(),
            scale,
        }
    }

    #[test]
    fn there_is_a_bar_with_its_figure_for_each_value() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let svg = bars(&example(2, scale)).expect("there are bars");
            // One for all that is white, two of the legend.
            assert_eq!(svg.matches("<rect").count(), 1 + 2 + 4, "{svg}");
            for text in ["1.23k", "2.47k", "56.8k", "a title", "contender 1", "lines"] {
                assert!(svg.contains(text), "{text} is missing in {svg}");
            }
        }
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        let mut empty = example(2, Scale::Logarithmic);
        for series in &mut empty.series {
            series.values = vec![None, Some(0.0), Some(f64::NAN)];
        }
        assert_eq!(bars(&empty), None);
        assert_eq!(rates("nobody", &[]), None);
    }

    #[test]
    fn bars_and_legend_stay_within_the_chart() {
        for series in [1, 3, 8, 12] {
            let bars = example(series, Scale::Logarithmic);
            let layout = Layout::new(&bars).expect("there are bars");
            let all_width = f64::from(layout.bar_width) * count(series);
            assert!(all_width <= layout.group_width, "{series} bars of {} are too wide", layout.bar_width);
            assert!(layout.top < layout.bottom);
            assert_eq!((layout.height(56_789.0), layout.height(100.0)), (layout.top, layout.bottom));
            for ((x, y), series) in layout.legend.iter().zip(&bars.series) {
                assert!(x + 18 + text_width(&series.name, LETTERS) <= SIZE.0, "{} leaves", series.name);
                assert!(*y < layout.top);
            }
        }
    }

    #[test]
    fn ticks_are_round() {
        let near = |axis: Axis, wanted: &[f64]| {
            let ticks = axis.ticks();
            let pairs = || ticks.iter().zip(wanted);
            assert!(ticks.len() == wanted.len() && pairs().all(|(a, b)| (a - b).abs() < 1e-6), "{ticks:?}");
        };
        near(Axis::new(Scale::Logarithmic, 0.2, 100.6), &[0.1, 1.0, 10.0, 100.0]);
        near(Axis::new(Scale::Linear, 3.0, 43.0), &[0.0, 10.0, 20.0, 30.0, 40.0]);
        near(Axis::new(Scale::Linear, 1.0, 3.0), &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!([0.1, 1.0, 1e3, 2.5e6].map(tick_text), ["0.1", "1", "1k", "2.5M"]);
        assert_eq!(
            [0.2, 9.999, 99.96, 999.6, 135_013.0].map(short),
            ["0.20", "10.0", "100", "1.00k", "135k"]
        );
    }

    #[test]
    fn rates_are_grouped_by_clients_and_keep_their_order() {
        let rate = |contender: &str, clients, commands_per_second| Rate {
            contender: contender.to_owned(),
            clients,
            commands_per_second,
        };
        let svg = rates("some", &[rate("z", 64, 6400.0), rate("z", 1, 100.0), rate("a", 64, 3200.0)]);
        let svg = svg.expect("there are bars");
        let place = |text: &str| svg.find(text).unwrap_or_else(|| panic!("{text:?} is missing in {svg}"));
        assert!(place("\nz\n") < place("\na\n"), "{svg}");
        assert!(place("1 client\n") < place("64 clients\n"));
        assert_eq!(svg.matches("<rect").count(), 1 + 2 + 3);
    }
}
