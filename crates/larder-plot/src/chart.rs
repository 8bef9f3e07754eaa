//! What is drawn where: plot on the left, names of the series on the right.

use std::fmt;

use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::scale::Shown;

const WIDTH: u32 = 900;
const HEIGHT: u32 = 460;
/// Width of the column with the names of the series.
const LEGEND_WIDTH: u32 = 230;
const LEGEND_LINE_HEIGHT: i32 = 24;
/// The sample of a line beside its name.
const LEGEND_SAMPLE: std::ops::Range<i32> = 12..44;
/// More points than this get no dots: they would hide the line.
const MAX_DOTTED_POINTS: usize = 24;

const FONT: &str = "sans-serif";
const BACKGROUND: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(31, 35, 40);
const STRONG_GRID: RGBColor = RGBColor(208, 215, 222);
const LIGHT_GRID: RGBColor = RGBColor(240, 242, 245);

/// Colours that the colour-blind can tell apart (M. Okabe and K. Ito, 2002), the yellow left out.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
/// Lengths of a dash and of the gap after it, in pixels. None is a whole line.
const DASHES: [Option<(i32, i32)>; 4] = [None, Some((9, 4)), Some((3, 3)), Some((14, 3))];

/// How values are spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly; the axis begins at zero or below.
    Linear,
    /// By their logarithm, with ticks at powers of two. Values must be positive.
    Log2,
    /// By their logarithm, with ticks at powers of ten. Values must be positive.
    Log10,
}

/// How values are written beside an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// As numbers, large ones with k, M or G for thousands.
    Number,
    /// As sizes in powers of 1024: `64 MiB`.
    Bytes,
}

/// One axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it shows, with the unit: `latency (ms)`.
    pub label: String,
    /// How values are spread.
    pub scale: Scale,
    /// How values are written.
    pub unit: Unit,
}

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the legend calls it.
    pub name: String,
    /// Points in the order in which they are joined: x, y.
    pub points: Vec<(f64, f64)>,
}

/// A line chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines, the first one on top of the others.
    pub series: Vec<Series>,
}

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq)]
pub enum PlotError {
    /// No series has a point.
    NoPoints,
    /// A value cannot be placed on its axis: not finite, or not positive on a logarithmic one.
    NoPlace {
        /// Name of the series.
        series: String,
        /// The point.
        point: (f64, f64),
    },
    /// The drawing library failed.
    Drawing(String),
}

impl fmt::Display for PlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPoints => f.write_str("a chart needs at least one point"),
            Self::NoPlace { series, point } => write!(
                f,
                "{series}: the point {point:?} has no place; \
                 values must be finite, and above zero on a logarithmic axis"
            ),
            Self::Drawing(message) => write!(f, "drawing failed: {message}"),
        }
    }
}

impl std::error::Error for PlotError {}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Shown, Shown>>;

impl Chart {
    /// The picture as the text of an SVG file, 900 by 460 pixels.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        self.check()?;
        let x = Shown::new(&self.x, self.points().map(|point| point.0));
        let y = Shown::new(&self.y, self.points().map(|point| point.1));
        let mut svg = String::new();
        self.draw(&mut svg, x, y).map_err(drawing)?;
        Ok(svg)
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series
            .iter()
            .flat_map(|series| series.points.iter().copied())
    }

    fn check(&self) -> Result<(), PlotError> {
        self.points().next().ok_or(PlotError::NoPoints)?;
        for series in &self.series {
            for &point in &series.points {
                if !self.x.has_place_for(point.0) || !self.y.has_place_for(point.1) {
                    let series = series.name.clone();
                    return Err(PlotError::NoPlace { series, point });
                }
            }
        }
        Ok(())
    }

    fn draw(&self, svg: &mut String, x: Shown, y: Shown) -> Result<(), Failure> {
        let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&BACKGROUND)?;
        let (left, right) = root.split_horizontally(WIDTH - LEGEND_WIDTH);
        let mut plot = ChartBuilder::on(&left)
            .caption(&self.title, (FONT, 19).with_color(INK))
            .margin(12)
            .x_label_area_size(48)
            .y_label_area_size(76)
            .build_cartesian_2d(x, y)?;
        plot.configure_mesh()
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .axis_style(STRONG_GRID)
            .bold_line_style(STRONG_GRID)
            .light_line_style(LIGHT_GRID)
            .label_style((FONT, 14).with_color(INK))
            .axis_desc_style((FONT, 15).with_color(INK))
            .draw()?;
        for (at, series) in self.series.iter().enumerate().rev() {
            draw_series(&mut plot, at, series)?;
        }
        for (at, series) in self.series.iter().enumerate() {
            draw_name(&right, at, &series.name)?;
        }
        root.present()
    }
}

type Failure = DrawingAreaErrorKind<std::io::Error>;

fn drawing(failure: Failure) -> PlotError {
    PlotError::Drawing(failure.to_string())
}

fn line_style(at: usize) -> ShapeStyle {
    COLOURS[at % COLOURS.len()].stroke_width(2)
}

/// Series that share a colour differ in their dashes: the two numbers have no common divisor.
fn dashes(at: usize) -> Option<(i32, i32)> {
    DASHES[at % DASHES.len()]
}

fn draw_series(plot: &mut Plot<'_, '_>, at: usize, series: &Series) -> Result<(), Failure> {
    let style = line_style(at);
    let points = series.points.iter().copied();
    match dashes(at) {
        None => plot.draw_series(LineSeries::new(points.clone(), style))?,
        Some((dash, gap)) => {
            plot.draw_series(DashedLineSeries::new(points.clone(), dash, gap, style))?
        }
    };
    if series.points.len() <= MAX_DOTTED_POINTS {
        plot.draw_series(points.map(|point| Circle::new(point, 3, style.filled())))?;
    }
    Ok(())
}

fn draw_name(legend: &Area<'_>, at: usize, name: &str) -> Result<(), Failure> {
    let height = 52 + at as i32 * LEGEND_LINE_HEIGHT;
    let ends = [(LEGEND_SAMPLE.start, height), (LEGEND_SAMPLE.end, height)];
    match dashes(at) {
        None => legend.draw(&PathElement::new(ends, line_style(at)))?,
        Some((dash, gap)) => {
            let sample = DashedPathElement::new(ends, dash, gap, line_style(at));
            legend.draw(&sample)?;
        }
    }
    let beside = (LEGEND_SAMPLE.end + 8, height);
    let style = (FONT, 15).with_color(INK).into_text_style(legend);
    let style = style.pos(Pos::new(HPos::Left, VPos::Center));
    legend.draw(&Text::new(name.to_owned(), beside, style))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(label: &str, scale: Scale) -> Axis {
        Axis {
            label: label.into(),
            scale,
            unit: Unit::Number,
        }
    }

    fn chart(scale: Scale, points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "Latency & <depth>".into(),
            x: axis("depth", scale),
            y: axis("ms", Scale::Linear),
            series: vec![
                Series {
                    name: "larder serve".into(),
                    points,
                },
                Series {
                    name: "another".into(),
                    points: vec![(1.0, 1.0), (64.0, 3.0)],
                },
            ],
        }
    }

    #[test]
    fn a_chart_has_its_texts_escaped_and_a_line_for_each_series() {
        let svg = chart(Scale::Log2, vec![(1.0, 2.0), (64.0, 3.0)])
            .to_svg()
            .expect("drawn");
        assert!(svg.starts_with("<svg"), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"), "{svg}");
        for text in ["Latency &amp; &lt;depth&gt;", "larder serve", "another"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        for colour in ["#0072B2", "#D55E00"] {
            assert!(svg.contains(&format!("stroke=\"{colour}\"")), "{colour}");
        }
    }

    #[test]
    fn twenty_series_all_look_different() {
        let looks: std::collections::BTreeSet<_> =
            (0..20).map(|at| (at % COLOURS.len(), dashes(at))).collect();
        assert_eq!(looks.len(), 20);
    }

    #[test]
    fn what_cannot_be_drawn_is_told() {
        for bad in [(0.0, 1.0), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
            let refused = chart(Scale::Log10, vec![bad]).to_svg();
            let message = refused.expect_err("refused").to_string();
            assert!(message.starts_with("larder serve: the point"), "{message}");
        }
        let mut empty = chart(Scale::Linear, Vec::new());
        empty.series.truncate(1);
        assert_eq!(empty.to_svg(), Err(PlotError::NoPoints));
    }

    #[test]
    fn one_point_is_enough() {
        for scale in [Scale::Linear, Scale::Log2, Scale::Log10] {
            let mut one = chart(scale, vec![(5.0, 0.0)]);
            one.series.truncate(1);
            assert!(
                one.to_svg().expect("drawn").contains("<circle"),
                "{scale:?}"
            );
        }
    }
}
