//! One plot over the time of the run, as SVG.

use std::fmt::Write as _;

use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::{self, Axis};
use super::html::escape;
use super::ink::{self, Ink};
use crate::outcome::{text, units};

/// Steps of the drawing per pixel: the drawing library rounds to whole steps.
const FINE: u32 = 4;

/// Room around the drawing, pixels: labels of phases above, times below, figures to the left.
const TOP: u32 = 18;
const BOTTOM: u32 = 22;
const LEFT: u32 = 58;
const RIGHT: u32 = 14;

/// Size of letters, pixels, and how wide one is, about.
const LETTER: f64 = 11.0;
const LETTER_WIDTH: f64 = 6.2;

/// Room that a mark of the time axis takes, pixels.
const TIME_MARK: u32 = 75;

/// What all plots of a page have in common.
#[derive(Debug)]
pub(super) struct Frame {
    /// End of the run, s.
    pub(super) end_s: f64,
    /// Phases.
    pub(super) bands: Vec<Shade>,
}

/// A phase.
#[derive(Debug)]
pub(super) struct Shade {
    pub(super) from_s: f64,
    pub(super) to_s: f64,
    /// Shown where there is room; else the number, if there is room for that.
    pub(super) name: String,
    pub(super) number: usize,
    pub(super) band: ink::Band,
}

/// How figures are set on the vertical axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From 0: counts, bytes, cores.
    Linear(Unit),
    /// Time, µs, by decades; all such plots of a page have the same ends.
    Decades {
        /// Least and greatest figure on the page.
        min_us: u64,
        /// See `min_us`.
        max_us: u64,
    },
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
}

/// One plot.
#[derive(Debug)]
pub(super) struct Plot {
    /// Unique in the page; letters and digits.
    pub(super) id: String,
    pub(super) title: String,
    pub(super) scale: Scale,
    pub(super) lines: Vec<Line>,
    /// Pixels.
    pub(super) width: u32,
    pub(super) height: u32,
}

/// One line, in pieces: where a figure is missing a piece ends.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// Which look, see [`ink::LOOKS`].
    pub(super) look: usize,
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Failure = DrawingAreaErrorKind<std::io::Error>;

impl Line {
    /// A line through what is `Some`.
    pub(super) fn new(
        name: &str,
        look: usize,
        figures: impl Iterator<Item = (f64, Option<f64>)>,
    ) -> Self {
        let mut pieces = vec![Vec::new()];
        for (at, figure) in figures {
            match figure.filter(|figure| figure.is_finite() && at.is_finite()) {
                Some(figure) => pieces
                    .last_mut()
                    .into_iter()
                    .for_each(|piece| piece.push((at, figure))),
                None => pieces.push(Vec::new()),
            }
        }
        pieces.retain(|piece| !piece.is_empty());
        Self {
            name: name.to_owned(),
            look,
            pieces,
        }
    }

    fn figures(&self) -> impl Iterator<Item = f64> {
        self.pieces.iter().flatten().map(|(_, figure)| *figure)
    }

    fn max(&self) -> f64 {
        self.figures().fold(0.0, f64::max)
    }
}

impl Plot {
    /// The figure with heading, legend and drawing.
    pub(super) fn figure(&self, frame: &Frame) -> String {
        let mut html = String::from("<figure>\n");
        _ = writeln!(
            html,
            "<figcaption><b>{}</b>",
            escape(&text::short(&self.title))
        );
        for line in &self.lines {
            let class = Ink::Line(line.look).class();
            _ = writeln!(
                html,
                "<span class=\"key\"><svg viewBox=\"0 0 28 8\" width=\"28\" height=\"8\" aria-hidden=\"true\">\
                 <path class=\"s {class}\" d=\"M0 4H28\"/></svg> {}</span>",
                escape(&text::short(&line.name))
            );
        }
        html.push_str("</figcaption>\n");
        html.push_str(&self.svg(frame));
        html.push_str("</figure>\n");
        html
    }

    fn svg(&self, frame: &Frame) -> String {
        let mut drawing = String::new();
        let area = SVGBackend::with_string(&mut drawing, (self.width * FINE, self.height * FINE))
            .into_drawing_area();
        let drawn = self.draw(&area, frame).and_then(|()| area.present());
        drop(area);
        // Drawing into memory does not fail; a drawing that did is not shown as if it were whole.
        if let Err(failure) = drawn {
            return format!(
                "<p>{}</p>\n",
                escape(&format!("cannot be drawn: {failure}"))
            );
        }
        let body = drawing.split_once('>').map_or("", |(_, body)| body);
        self.opening(frame) + &ink::with_classes(body)
    }

    /// The tag that begins the drawing, its name and what it shows in words.
    fn opening(&self, frame: &Frame) -> String {
        let Self {
            id, width, height, ..
        } = self;
        let (width, height) = (width * FINE, height * FINE);
        format!(
            "<svg class=\"plot\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\" viewBox=\"0 0 {width} {height}\" \
             xmlns=\"http://www.w3.org/2000/svg\"{}>\n<title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>",
            self.measures(frame),
            escape(&text::short(&self.title)),
            escape(&self.in_words(frame)),
        )
    }

    /// What the script needs to read figures off the drawing: the corners of the plot and their figures.
    fn measures(&self, frame: &Frame) -> String {
        let (across, up) = self.axes(frame);
        let unit = match self.scale {
            Scale::Linear(Unit::Count) => "count",
            Scale::Linear(Unit::Bytes) => "bytes",
            Scale::Decades { .. } => "us",
        };
        // The drawing library ends one step before the end of an area.
        let right = (self.width - RIGHT) * FINE - 1;
        let bottom = (self.height - BOTTOM) * FINE - 1;
        format!(
            " data-unit=\"{unit}\" data-box=\"{} {} {} {}\" data-ends=\"{} {} {}\"",
            LEFT * FINE,
            TOP * FINE,
            right,
            bottom,
            across.to,
            up.from,
            up.to,
        )
    }

    fn in_words(&self, frame: &Frame) -> String {
        let mut words = format!("Run time 0:00 to {}.", units::clock(frame.end_s));
        for line in &self.lines {
            let lowest = line.figures().fold(f64::INFINITY, f64::min);
            let Some(last) = line.figures().last() else {
                _ = write!(words, " {}: no figures.", line.name);
                continue;
            };
            _ = write!(
                words,
                " {}: from {} to {}, at the end {}.",
                line.name,
                self.scale.words(lowest),
                self.scale.words(line.max()),
                self.scale.words(last)
            );
        }
        words
    }

    fn axes(&self, frame: &Frame) -> (Axis, Axis) {
        let marks = (self.width - LEFT - RIGHT) / TIME_MARK;
        let across = axis::time(frame.end_s, marks as usize);
        let up = match self.scale {
            Scale::Linear(_) => axis::linear(self.lines.iter().map(Line::max).fold(0.0, f64::max)),
            Scale::Decades { min_us, max_us } => axis::decades(min_us as f64, max_us as f64),
        };
        (across, up)
    }

    fn draw(&self, area: &Canvas<'_>, frame: &Frame) -> Result<(), Failure> {
        let (across, up) = self.axes(frame);
        let end_s = across.to;
        let mut chart = ChartBuilder::on(area)
            .margin_top(TOP * FINE)
            .margin_right(RIGHT * FINE)
            .set_label_area_size(LabelAreaPosition::Left, LEFT * FINE)
            .set_label_area_size(LabelAreaPosition::Bottom, BOTTOM * FINE)
            .build_cartesian_2d(across, up)?;
        for shade in &frame.bands {
            self.shade(area, shade, end_s)?;
        }
        let letters = letters(Ink::Text);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .bold_line_style(stroke(Ink::Grid))
            .axis_style(stroke(Ink::Axis))
            .label_style(letters)
            .x_label_formatter(&|at| units::clock(*at))
            .y_label_formatter(&|figure| self.scale.mark(*figure))
            .set_all_tick_mark_size(4 * FINE)
            .draw()?;
        let columns = (self.width - LEFT - RIGHT) as usize;
        for line in &self.lines {
            let style = stroke(Ink::Line(line.look));
            for piece in &line.pieces {
                let place = |&(at, figure): &(f64, f64)| (at, self.scale.height(figure));
                let points: Vec<_> = thin(piece, end_s, columns).iter().map(place).collect();
                if let [point] = points[..] {
                    let dot = Circle::new(point, 2 * FINE, Ink::Line(line.look).rgb().filled());
                    chart.draw_series([dot])?;
                } else {
                    chart.draw_series([PathElement::new(points, style)])?;
                }
            }
        }
        Ok(())
    }

    /// Shades a phase and writes its name above.
    fn shade(&self, area: &Canvas<'_>, shade: &Shade, end_s: f64) -> Result<(), Failure> {
        let room = f64::from((self.width - LEFT - RIGHT) * FINE);
        let at = |secs: f64| {
            let part = (secs / end_s).clamp(0.0, 1.0);
            (LEFT * FINE).cast_signed() + (part * room).round() as i32
        };
        let (from, to) = (at(shade.from_s), at(shade.to_s));
        let corners = [
            (from, 0),
            (to, ((self.height - BOTTOM) * FINE).cast_signed()),
        ];
        let fill = Ink::Band(shade.band).rgb().filled();
        area.draw(&Rectangle::new(corners, fill))?;
        let fits = |text: &str| {
            let width = text.chars().count() as f64 * LETTER_WIDTH + 4.0;
            width * f64::from(FINE) <= f64::from(to - from)
        };
        let name = text::short(&shade.name).into_owned();
        let number = shade.number.to_string();
        let Some(label) = [name, number].into_iter().find(|text| fits(text)) else {
            return Ok(());
        };
        let centred = letters(Ink::Text).pos(Pos::new(HPos::Center, VPos::Center));
        let middle = (i32::midpoint(from, to), (TOP * FINE / 2).cast_signed());
        area.draw_text(&label, &centred, middle)
    }
}

impl Scale {
    /// Where a figure is, in units of the axis.
    fn height(self, figure: f64) -> f64 {
        match self {
            Self::Linear(_) => figure,
            Self::Decades { .. } => figure.max(1.0).log10(),
        }
    }

    /// What stands at a mark of the axis.
    fn mark(self, at: f64) -> String {
        match self {
            Self::Linear(_) => self.words(at),
            Self::Decades { .. } => self.words(10_f64.powf(at)),
        }
    }

    fn words(self, figure: f64) -> String {
        match self {
            Self::Linear(Unit::Count) => units::short(figure),
            Self::Linear(Unit::Bytes) => units::bytes(figure),
            Self::Decades { .. } => units::micros(figure.round()),
        }
    }
}

fn stroke(ink: Ink) -> ShapeStyle {
    ink.rgb().stroke_width(FINE)
}

fn letters(ink: Ink) -> TextStyle<'static> {
    // The library takes a size of 1.24 for letters of 1.
    let size = LETTER * f64::from(FINE) * 1.24;
    ("sans-serif", size).into_font().color(&ink.rgb())
}

/// At most two points for each column of pixels, the least and the greatest, so that long runs give no larger pages and
/// no peak is lost.
fn thin(points: &[(f64, f64)], end_s: f64, columns: usize) -> Vec<(f64, f64)> {
    if points.len() <= 2 * columns {
        return points.to_vec();
    }
    let column = |at: f64| units::whole(at / end_s * columns as f64);
    let same = |one: &(f64, f64), other: &(f64, f64)| column(one.0) == column(other.0);
    let mut kept = Vec::with_capacity(2 * columns);
    for group in points.chunk_by(same) {
        let least = group.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let most = group.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let (Some(&least), Some(&most)) = (least, most) else {
            continue;
        };
        let (first, second) = if least.0 <= most.0 {
            (least, most)
        } else {
            (most, least)
        };
        kept.push(first);
        if second != first {
            kept.push(second);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_keep_their_peaks() {
        let mut points: Vec<_> = (0..100_000).map(|at| (f64::from(at), 1.0)).collect();
        points[77_777].1 = 9.0;
        let kept = thin(&points, 100_000.0, 500);
        assert!(kept.len() <= 1_002, "{}", kept.len());
        assert!(kept.contains(&(77_777.0, 9.0)));
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_line_ends_where_figures_are_missing() {
        let figures = [
            (0.0, Some(1.0)),
            (1.0, None),
            (2.0, Some(2.0)),
            (3.0, Some(f64::NAN)),
        ];
        let line = Line::new("x", 0, figures.into_iter());
        assert_eq!(line.pieces, [vec![(0.0, 1.0)], vec![(2.0, 2.0)]]);
    }
}
