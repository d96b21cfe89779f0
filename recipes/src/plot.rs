//! Lines over a common axis as SVG, with a band behind them: what a run's curves and a backtest's page are drawn with.
//! A function of the values alone; readable on light and on dark paper.

use std::fmt::Write;

/// Colours of lines on light and on dark paper; told apart by the colour-blind too (Okabe and Ito).
const COLOURS: [(&str, &str); 6] = [
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#e69f00"),
    ("#009e73", "#2fd3a5"),
    ("#a4507f", "#e29bc4"),
    ("#6b6200", "#f0e442"),
    ("#444444", "#bbbbbb"),
];

/// Room around a plot: for values on the left, for the end of the last label, for what is below the axis.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const BELOW: f64 = 28.0;
/// A row of title and names, and the room between the last of them and the plot.
const ROW: f64 = 20.0;
const GAP: f64 = 8.0;
/// A generous width of a letter, of one in bold type, and of what stands before a name.
const LETTER: f64 = 7.0;
const BOLD: f64 = 7.8;
const SAMPLE: f64 = 24.0;

/// A plot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot<'a> {
    /// What it shows; what lies along the axis, too.
    pub title: &'a str,
    /// Named lines; a line of one point is drawn as a dot.
    pub lines: Vec<(&'a str, Vec<(f64, f64)>)>,
    /// From where on something lies between which two values; `None` where it lies nowhere.
    pub band: Vec<(f64, Option<[f64; 2]>)>,
    /// Width and height of the part that holds the lines.
    pub size: (f64, f64),
}

/// Styles of all plots of a file.
pub fn style() -> String {
    let mut out = "svg text{font:12px system-ui,sans-serif;fill:#222}svg .title{font-weight:600}.grid{stroke:#ddd}\
                   .line{fill:none;stroke-width:1.5}.band{fill:#0072b2;fill-opacity:.18}"
        .to_owned();
    let mut dark =
        "@media(prefers-color-scheme:dark){svg text{fill:#ddd}.grid{stroke:#383838}.band{fill:#56b4e9}".to_owned();
    for (index, (day, night)) in COLOURS.iter().enumerate() {
        push(&mut out, format_args!(".c{index}{{stroke:{day}}}.k{index}{{fill:{day}}}"));
        push(&mut dark, format_args!(".c{index}{{stroke:{night}}}.k{index}{{fill:{night}}}"));
    }
    out + &dark + "}"
}

impl Plot<'_> {
    /// Width and height with everything around it.
    pub fn outer(&self) -> (f64, f64) {
        (LEFT + self.size.0 + RIGHT, self.names().1 + self.size.1 + BELOW)
    }

    /// An element of HTML.
    pub fn html(&self) -> String {
        let (width, height) = self.outer();
        let mut out = format!("<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n");
        self.draw(&mut out);
        out + "</svg>\n"
    }

    /// Where each name stands, and the room above the lines.
    fn names(&self) -> (Vec<(f64, f64)>, f64) {
        let (mut x, mut y) = (BOLD * self.title.chars().count() as f64 + SAMPLE, ROW);
        let place = |(name, _): &(&str, _)| {
            let wide = SAMPLE + LETTER * name.chars().count() as f64;
            if x + wide > self.size.0 + RIGHT {
                (x, y) = (0.0, y + ROW);
            }
            let at = (x, y);
            x += wide + LETTER;
            at
        };
        let places = self.lines.iter().map(place).collect();
        (places, y + GAP)
    }

    /// Draws it, its upper left corner at the origin.
    pub fn draw(&self, out: &mut String) {
        let (width, height) = self.size;
        let (names, top) = self.names();
        push(out, format_args!("<g transform=\"translate({LEFT} {top})\">\n"));
        push(out, format_args!("<text class=\"title\" x=\"0\" y=\"{}\">{}</text>\n", ROW - top, escaped(self.title)));
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let along = range(points().map(|point| point.0));
        let mut values = range(points().map(|point| point.1));
        if !self.band.is_empty() {
            // A band may be as wide as all values there are: the lines decide what is shown, with as much around them.
            let room = (values.1 - values.0) / 2.0;
            values = (values.0 - room, values.1 + room);
        }
        let x = |at: f64| width * (at - along.0) / (along.1 - along.0);
        let y = |value: f64| height * (values.1 - value.clamp(values.0, values.1)) / (values.1 - values.0);
        for tick in ticks(values) {
            let at = y(tick);
            push(out, format_args!("<path class=\"grid\" d=\"M0 {at:.1}H{width}\"/>"));
            let below = at + 4.0;
            push(out, format_args!("<text x=\"-8\" y=\"{below:.1}\" text-anchor=\"end\">{}</text>\n", number(tick)));
        }
        for tick in ticks(along).into_iter().filter(|tick| tick.fract() == 0.0) {
            let (at, below) = (x(tick), height + 18.0);
            push(
                out,
                format_args!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>\n", number(tick)),
            );
        }
        self.draw_band(out, along.1, x, y);
        for (index, ((name, points), (from, row))) in self.lines.iter().zip(names).enumerate() {
            let colour = index % COLOURS.len();
            let dash = if index < COLOURS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
            let (middle, end) = (row - top - 4.0, from + SAMPLE - LETTER);
            push(out, format_args!("<path class=\"line c{colour}\"{dash} d=\"M{from:.0} {middle}H{end:.0}\"/>"));
            let (start, base) = (from + SAMPLE - 2.0, row - top);
            push(
                out,
                format_args!("<text class=\"k{colour}\" x=\"{start:.0}\" y=\"{base}\">{}</text>\n", escaped(name)),
            );
            if let [(at, value)] = points.as_slice() {
                let (cx, cy) = (x(*at), y(*value));
                push(out, format_args!("<circle class=\"k{colour}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3\"/>\n"));
                continue;
            }
            push(out, format_args!("<polyline class=\"line c{colour}\"{dash} points=\""));
            // More points than that cannot be told apart.
            for (at, value) in thinned(points, width as usize) {
                push(out, format_args!("{:.1},{:.1} ", x(at), y(value)));
            }
            out.push_str("\"/>\n");
        }
        out.push_str("</g>\n");
    }

    /// One shape a stretch, in steps.
    fn draw_band(&self, out: &mut String, end: f64, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) {
        let until = |index: usize| self.band.get(index + 1).map_or(end, |next| next.0);
        let band: Vec<(usize, f64, Option<[f64; 2]>)> =
            self.band.iter().enumerate().map(|(index, (from, held))| (index, *from, *held)).collect();
        for stretch in band.chunk_by(|one, next| one.2.is_some() == next.2.is_some()) {
            let sides =
                || stretch.iter().filter_map(|(index, from, held)| Some((x(*from), x(until(*index)), (*held)?)));
            let mut shape = String::new();
            for (from, to, [low, _]) in sides() {
                push(&mut shape, format_args!("{from:.1},{0:.1} {to:.1},{0:.1} ", y(low)));
            }
            for (from, to, [_, high]) in sides().collect::<Vec<_>>().into_iter().rev() {
                push(&mut shape, format_args!("{to:.1},{0:.1} {from:.1},{0:.1} ", y(high)));
            }
            if !shape.is_empty() {
                push(out, format_args!("<polygon class=\"band\" points=\"{shape}\"/>\n"));
            }
        }
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}

/// Lowest and highest value, apart from each other.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
    match low.partial_cmp(&high) {
        Some(std::cmp::Ordering::Less) => (low, high),
        Some(std::cmp::Ordering::Equal) => (low - 0.5, high + 0.5),
        _ => (0.0, 1.0),
    }
}

/// Round numbers inside a range: three to six of them, 1, 2 or 5 times a power of ten apart.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|index| index as f64 * step).collect()
}

/// Six digits, without what floating point leaves behind them.
fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = format!("{value:.5e}");
    let rounded: f64 = text.parse().expect("a number's text is a number");
    if (1e-4..1e6).contains(&rounded.abs()) { format!("{rounded}") } else { format!("{rounded:e}") }
}

/// Means of neighbours where there are more points than these.
fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let mean = |chunk: &[(f64, f64)]| {
        let count = chunk.len() as f64;
        let (x, y) = chunk.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (x / count, y / count)
    };
    points.chunks(points.len().div_ceil(most.max(1)).max(1)).map(mean).collect()
}

/// Text between tags or in quotes.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (f64, f64) = (640.0, 160.0);

    #[test]
    fn lines_go_from_corner_to_corner_and_one_point_is_a_dot() {
        let lines = vec![("down", vec![(1.0, 2.0), (2.0, 1.0)]), ("dot", vec![(1.5, 1.5)])];
        let plot = Plot { title: "loss, by step", lines, size: SIZE, ..Plot::default() };
        let drawn = plot.html();
        assert!(drawn.contains("points=\"0.0,0.0 640.0,160.0 \""), "{drawn}");
        assert!(drawn.contains("cx=\"320.0\" cy=\"80.0\"") && !drawn.contains("<polygon"), "{drawn}");
        assert_eq!(drawn, plot.html());
        assert!(style().contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn a_band_is_parted_where_there_is_none_and_cut_where_lines_end() {
        let lines = vec![("price", vec![(0.0, 10.0), (4.0, 20.0)])];
        let band = vec![(0.0, Some([5.0, 15.0])), (1.0, None), (2.0, Some([0.0, 100.0])), (3.0, Some([10.0, 20.0]))];
        let drawn = Plot { title: "", lines, band, size: SIZE }.html();
        // Values from 5 to 25 are shown.
        assert!(drawn.contains("<polygon class=\"band\" points=\"0.0,160.0 160.0,160.0 160.0,80.0 0.0,80.0 \"/>"));
        assert!(
            drawn.contains("points=\"320.0,160.0 480.0,160.0 480.0,120.0 640.0,120.0 640.0,40.0 480.0,40.0 480.0,0.0")
        );
    }

    #[test]
    fn names_that_do_not_fit_beside_the_title_begin_a_row() {
        let name = "a name of some thirty letters.";
        let plot =
            |count| Plot { title: "title", lines: vec![(name, Vec::new()); count], size: SIZE, ..Plot::default() };
        let (one, three) = (plot(1).names(), plot(4).names());
        assert_eq!((one.1, three.1), (ROW + GAP, 2.0 * ROW + GAP));
        assert!(three.0.iter().all(|(x, _)| *x + SAMPLE + LETTER * 30.0 <= SIZE.0 + RIGHT), "{three:?}");
        assert!(plot(2).html().ends_with("</g>\n</svg>\n"), "nothing to draw is no error");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks((0.0, 1.0)), [0.0, 0.2, 0.4, 2.0 * 0.2 + 0.2, 0.8, 1.0]);
        assert_eq!(ticks((1.0, 60.0)), [20.0, 40.0, 60.0]);
        assert_eq!(ticks((-0.3, 0.4)).into_iter().map(number).collect::<Vec<_>>(), ["-0.2", "0", "0.2", "0.4"]);
        assert_eq!([0.1 + 0.2, 2e-5, 1.5e7].map(number), ["0.3", "2e-5", "1.5e7"]);
        assert_eq!(range([3.0, f64::NAN].into_iter()), (2.5, 3.5));
        assert_eq!(range(std::iter::empty()), (0.0, 1.0));
    }

    #[test]
    fn long_lines_are_thinned_to_means() {
        let points: Vec<(f64, f64)> = (0..1280).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let thin = thinned(&points, 640);
        assert_eq!(thin.len(), 640);
        assert!(thin.iter().all(|point| point.1 == 0.5));
        assert_eq!(thinned(&points[..640], 640), &points[..640]);
    }
}
