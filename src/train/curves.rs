//! `curves.svg`: the figures of `metrics.jsonl` as curves over steps, one panel a kind of figure. A function of that
//! file alone; readable on light and on dark paper.

use std::fmt::Write;
use std::path::Path;

use ftk_adapters::atomic;
use serde_json::{Map, Value};

use super::{METRICS, TrainError};

/// File name of the curves.
pub const CURVES: &str = "curves.svg";

/// Colours of the curves of a panel, on light and on dark paper; told apart by the colour-blind too (Okabe and Ito).
const COLOURS: [(&str, &str); 6] = [
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#e69f00"),
    ("#009e73", "#2fd3a5"),
    ("#a4507f", "#e29bc4"),
    ("#6b6200", "#f0e442"),
    ("#444444", "#bbbbbb"),
];

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#222}.title{font-weight:600}.paper{fill:#fff}\
    .grid{stroke:#ddd}.curve{fill:none;stroke-width:1.5}";
const DARK: &str = "text{fill:#ddd}.paper{fill:#161616}.grid{stroke:#383838}";

/// Size of a panel's plot, and the room around it for title and labels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 160.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 32.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 28.0;

/// Most points of a curve: more cannot be told apart on [`WIDTH`].
const POINTS: usize = 640;

/// One figure over steps.
#[derive(Debug, PartialEq)]
struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Draws the metrics in a run folder.
///
/// # Errors
/// The file system's.
pub fn draw(out: &Path) -> Result<(), TrainError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        |error| TrainError::Io { path, error }
    };
    let (from, to) = (out.join(METRICS), out.join(CURVES));
    let text = std::fs::read_to_string(&from).map_err(io(&from))?;
    atomic::write(&to, svg(&curves(&text)).as_bytes()).map_err(io(&to))
}

/// Every figure but step and epoch, in the order of first appearance.
fn curves(metrics: &str) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for record in metrics.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok()) {
        let Some(step) = record.get("step").and_then(Value::as_f64) else { continue };
        for (name, value) in record.iter().filter(|(name, _)| !["step", "epoch"].contains(&name.as_str())) {
            let Some(value) = value.as_f64() else { continue };
            match curves.iter_mut().find(|curve| curve.name == *name) {
                Some(curve) => curve.points.push((step, value)),
                None => curves.push(Curve { name: name.clone(), points: vec![(step, value)] }),
            }
        }
    }
    curves
}

/// What a figure shares its panel with: the same on held-out rows; rewards of one scale.
fn panel(name: &str) -> &str {
    match name.strip_prefix("eval_").unwrap_or(name) {
        "rewards/chosen" | "rewards/rejected" | "rewards/margins" => "rewards",
        "logps/chosen" | "logps/rejected" => "log-probabilities",
        "rewards/accuracies" => "accuracy of the rewards",
        "grad_norm" => "norm of the gradient",
        "learning_rate" => "learning rate",
        other => other,
    }
}

fn svg(curves: &[Curve]) -> String {
    let mut panels: Vec<(&str, Vec<&Curve>)> = Vec::new();
    for curve in curves {
        let title = panel(&curve.name);
        match panels.iter_mut().find(|(known, _)| *known == title) {
            Some((_, members)) => members.push(curve),
            None => panels.push((title, vec![curve])),
        }
    }
    let (width, row) = (LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM);
    let height = row * panels.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <style>{STYLE}"
    );
    let colours = |out: &mut String, dark: bool| {
        for (index, (day, night)) in COLOURS.iter().enumerate() {
            let colour = if dark { night } else { day };
            push(out, format_args!(".c{index}{{stroke:{colour}}}.k{index}{{fill:{colour}}}"));
        }
    };
    colours(&mut out, false);
    push(&mut out, format_args!("@media(prefers-color-scheme:dark){{{DARK}"));
    colours(&mut out, true);
    push(&mut out, format_args!("}}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n"));
    for (index, (title, members)) in panels.iter().enumerate() {
        push(&mut out, format_args!("<g transform=\"translate({LEFT} {})\">\n", TOP + row * index as f64));
        draw_panel(&mut out, title, members);
        out.push_str("</g>\n");
    }
    out + "</svg>\n"
}

fn draw_panel(out: &mut String, title: &str, curves: &[&Curve]) {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let steps = range(points().map(|point| point.0));
    let values = range(points().map(|point| point.1));
    let x = |step: f64| WIDTH * (step - steps.0) / (steps.1 - steps.0);
    let y = |value: f64| HEIGHT * (values.1 - value) / (values.1 - values.0);

    push(out, format_args!("<text class=\"title\" x=\"0\" y=\"-12\">{}</text>\n", escaped(title)));
    for tick in ticks(values) {
        let at = y(tick);
        push(out, format_args!("<path class=\"grid\" d=\"M0 {at:.1}H{WIDTH}\"/>"));
        push(out, format_args!("<text x=\"-8\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n", at + 4.0, number(tick)));
    }
    for tick in ticks(steps).into_iter().filter(|tick| tick.fract() == 0.0) {
        let (at, below) = (x(tick), HEIGHT + 18.0);
        push(out, format_args!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>\n", number(tick)));
    }
    let mut right = WIDTH;
    for (index, curve) in curves.iter().enumerate().rev() {
        let colour = index % COLOURS.len();
        push(out, format_args!("<text class=\"k{colour}\" x=\"{right:.0}\" y=\"-12\" text-anchor=\"end\">"));
        push(out, format_args!("{}</text>\n", escaped(&curve.name)));
        // Room for the letters of the next name to the left, at a generous width of one.
        right -= 7.5 * curve.name.len() as f64 + 12.0;
        let points = thinned(&curve.points);
        if let [(step, value)] = points.as_slice() {
            push(
                out,
                format_args!("<circle class=\"k{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>\n", x(*step), y(*value)),
            );
            continue;
        }
        push(out, format_args!("<polyline class=\"curve c{colour}\" points=\""));
        for (step, value) in points {
            push(out, format_args!("{:.1},{:.1} ", x(step), y(value)));
        }
        out.push_str("\"/>\n");
    }
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}

/// Lowest and highest value, apart from each other.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
    if low < high { (low, high) } else { (low - 0.5, high + 0.5) }
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

/// Means of neighbours where there are more points than can be seen.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mean = |chunk: &[(f64, f64)]| {
        let count = chunk.len() as f64;
        let (x, y) = chunk.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (x / count, y / count)
    };
    points.chunks(points.len().div_ceil(POINTS).max(1)).map(mean).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\"step\":1,\"epoch\":0.5,\"loss\":2.5,\"rewards/chosen\":0.25}\n\
        {\"step\":2,\"epoch\":1.0,\"loss\":1.5,\"rewards/chosen\":-0.5,\"eval_loss\":2.0,\"eval_rewards/margins\":null}\n";

    #[test]
    fn figures_become_curves_in_panels_with_their_like() {
        let curves = curves(TEXT);
        assert_eq!(
            curves.iter().map(|curve| curve.name.as_str()).collect::<Vec<_>>(),
            ["loss", "rewards/chosen", "eval_loss"]
        );
        assert_eq!(curves[0].points, [(1.0, 2.5), (2.0, 1.5)]);
        let drawn = svg(&curves);
        assert_eq!(drawn.matches("<g ").count(), 2);
        assert_eq!(drawn.matches("<polyline").count(), 2);
        assert_eq!(drawn.matches("<circle").count(), 1);
        // From the upper left to the lower right corner.
        assert!(drawn.contains("points=\"0.0,0.0 640.0,160.0 \""), "{drawn}");
        assert!(drawn.contains("prefers-color-scheme:dark"));
        assert_eq!(drawn, svg(&super::curves(TEXT)));
    }

    #[test]
    fn what_a_file_names_cannot_leave_its_place() {
        let drawn = svg(&curves("{\"step\":1,\"</text><script>\":1}\n"));
        assert!(!drawn.contains("<script>") && drawn.contains("&lt;/text&gt;&lt;script&gt;"), "{drawn}");
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks((0.0, 1.0)), [0.0, 0.2, 0.4, 2.0 * 0.2 + 0.2, 0.8, 1.0]);
        assert_eq!(ticks((1.0, 60.0)), [20.0, 40.0, 60.0]);
        assert_eq!(ticks((-0.3, 0.4)).into_iter().map(number).collect::<Vec<_>>(), ["-0.2", "0", "0.2", "0.4"]);
        assert_eq!([0.1 + 0.2, 2e-5, 1.5e7].map(number), ["0.3", "2e-5", "1.5e7"]);
        assert_eq!(range([3.0].into_iter()), (2.5, 3.5));
    }

    #[test]
    fn long_runs_are_thinned_to_means() {
        let points: Vec<(f64, f64)> = (0..1280).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let thin = thinned(&points);
        assert_eq!(thin.len(), 640);
        assert!(thin.iter().all(|point| point.1 == 0.5));
        assert_eq!(thinned(&points[..640]), &points[..640]);
    }
}
