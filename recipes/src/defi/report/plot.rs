//! Lines over a common axis as SVG, with a band behind them.

use std::fmt::Write;

/// Colours on light and on dark paper; told apart by the colour-blind too (Okabe and Ito).
const COLOURS: [(&str, &str); 6] = [
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#e69f00"),
    ("#009e73", "#2fd3a5"),
    ("#a4507f", "#e29bc4"),
    ("#6b6200", "#f0e442"),
    ("#444444", "#bbbbbb"),
];

/// Size of a plot, and the room around it for labels.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 80.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 24.0;
/// Room for a line of names, and names in it.
const NAMES: f64 = 18.0;
const ABREAST: usize = 4;

/// Most points of a line: more cannot be told apart.
const POINTS: usize = 900;

/// The styles of all plots of a page.
pub(super) fn style() -> String {
    let mut out =
        "svg text{font:12px system-ui,sans-serif;fill:#222}.grid{stroke:#ddd}.line{fill:none;stroke-width:1.5}\
                   .band{fill:#0072b2;fill-opacity:.15}"
            .to_owned();
    let mut dark = "@media(prefers-color-scheme:dark){svg text{fill:#ddd}.grid{stroke:#383838}".to_owned();
    for (index, (day, night)) in COLOURS.iter().enumerate() {
        push(&mut out, format_args!(".c{index}{{stroke:{day}}}.k{index}{{fill:{day}}}"));
        push(&mut dark, format_args!(".c{index}{{stroke:{night}}}.k{index}{{fill:{night}}}"));
    }
    out + &dark + "}"
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("a string takes everything");
}

/// A plot of named lines and of a band between two values.
pub(super) fn lines(lines: &[(&str, Vec<(f64, f64)>)], band: &[(f64, [f64; 2])]) -> String {
    let all = || lines.iter().flat_map(|(_, points)| points.iter().copied());
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (left, right) = ends(&mut all().map(|point| point.0));
    let (low, high) = ends(&mut all().map(|point| point.1));
    // A band may be as wide as all prices: the lines decide what is shown, twice as high.
    let room = (high - low).max(high.abs() * 1e-6).max(1e-9) * if band.is_empty() { 0.05 } else { 0.5 };
    let (low, high) = (low - room, high + room);
    let across = |x: f64| LEFT + WIDTH * (x - left) / (right - left).max(1e-9);
    let up = |y: f64| TOP + HEIGHT * (1.0 - (y.clamp(low, high) - low) / (high - low));
    let rows = lines.len().div_ceil(ABREAST) as f64;
    let (width, height) = (LEFT + WIDTH + 20.0, TOP + HEIGHT + BOTTOM + NAMES * rows);
    let mut out = format!("<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n");
    if !left.is_finite() || !low.is_finite() {
        return out + "</svg>\n";
    }
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let (value, hour) = (low + (high - low) * share, left + (right - left) * share);
        let (y, x) = (up(value), across(hour));
        push(
            &mut out,
            format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", LEFT + WIDTH),
        );
        push(
            &mut out,
            format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                y + 4.0,
                label(value)
            ),
        );
        push(
            &mut out,
            format_args!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                TOP + HEIGHT + 16.0,
                label(hour)
            ),
        );
    }
    // Stretches without a band part it.
    for (index, (x, [bottom, top])) in band.iter().enumerate() {
        let end = band.get(index + 1).map_or(right, |next| next.0);
        let (x, end) = (across(*x), across(end));
        let (bottom, top) = (up(*bottom), up(*top));
        push(
            &mut out,
            format_args!(
                "<rect class=\"band\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
                (end - x).clamp(0.0, 4.0),
                bottom - top
            ),
        );
    }
    for (index, (name, points)) in lines.iter().enumerate() {
        let colour = index % COLOURS.len();
        let dash = if index < COLOURS.len() { "" } else { " stroke-dasharray=\"5 3\"" };
        let every = points.len().div_ceil(POINTS).max(1);
        let last = points.len().saturating_sub(1);
        let kept = points.iter().enumerate().filter(|(at, _)| at % every == 0 || *at == last);
        push(&mut out, format_args!("<polyline class=\"line c{colour}\"{dash} points=\""));
        kept.for_each(|(_, (x, y))| push(&mut out, format_args!("{:.1},{:.1} ", across(*x), up(*y))));
        out.push_str("\"/>\n");
        let x = LEFT + WIDTH / ABREAST as f64 * (index % ABREAST) as f64;
        let y = TOP + HEIGHT + BOTTOM + NAMES * ((index / ABREAST) as f64 + 0.7);
        push(
            &mut out,
            format_args!("<text class=\"k{colour}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", super::escape(name)),
        );
    }
    out + "</svg>\n"
}

fn label(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
