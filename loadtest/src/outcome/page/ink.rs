//! Colours by name. The drawing library knows only figures for colours: each ink is drawn as a placeholder, which then
//! becomes a class, so that the style sheet decides what is seen in light, in the dark and on paper.

use plotters::style::RGBColor;

/// Looks that lines can have; the style sheet has as many.
pub(super) const LOOKS: usize = 8;

/// What something is drawn with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// Words.
    Text,
    /// Axes.
    Axis,
    /// Lines of the grid.
    Grid,
    /// Phases in turn, and those that disturb.
    Band(Band),
    /// One of the looks of lines.
    Line(usize),
}

/// How a phase is shaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Band {
    /// The first, third, …
    Odd,
    /// The second, fourth, …
    Even,
    /// Storms and restarts.
    Rough,
}

impl Ink {
    fn all() -> impl Iterator<Item = Self> {
        let bands = [Band::Odd, Band::Even, Band::Rough].map(Self::Band);
        let fixed = [Self::Text, Self::Axis, Self::Grid].into_iter();
        fixed.chain(bands).chain((0..LOOKS).map(Self::Line))
    }

    fn number(self) -> u8 {
        match self {
            Self::Text => 0,
            Self::Axis => 1,
            Self::Grid => 2,
            Self::Band(Band::Odd) => 3,
            Self::Band(Band::Even) => 4,
            Self::Band(Band::Rough) => 5,
            Self::Line(look) => 16 + (look % LOOKS) as u8,
        }
    }

    /// Class in the style sheet.
    pub(super) fn class(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Axis => "axis".to_owned(),
            Self::Grid => "grid".to_owned(),
            Self::Band(Band::Odd) => "odd".to_owned(),
            Self::Band(Band::Even) => "even".to_owned(),
            Self::Band(Band::Rough) => "rough".to_owned(),
            Self::Line(look) => format!("l{}", look % LOOKS),
        }
    }

    /// The placeholder.
    pub(super) fn rgb(self) -> RGBColor {
        RGBColor(1, 2, self.number())
    }
}

/// Puts classes where placeholders are. Quotes in text are escaped, so that none can be taken for an attribute.
pub(super) fn with_classes(svg: &str) -> String {
    let mut svg = svg.replace(" opacity=\"1\"", "");
    for ink in Ink::all() {
        let class = ink.class();
        let RGBColor(red, green, blue) = ink.rgb();
        let placeholder = format!("\"#{red:02X}{green:02X}{blue:02X}\"");
        svg = svg.replace(
            &format!("fill={placeholder}"),
            &format!("class=\"f {class}\""),
        );
        svg = svg.replace(
            &format!("stroke={placeholder}"),
            &format!("class=\"s {class}\""),
        );
    }
    svg
}
