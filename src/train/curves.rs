//! `curves.svg`: the figures of `metrics.jsonl` as curves over steps, one panel a kind of figure. A function of that
//! file alone; readable on light and on dark paper.

use std::path::Path;

use ftk_adapters::{atomic, foreign};
use ftk_recipes::plot::{self, Plot};
use serde_json::{Map, Value};

use super::error::TrainError;
use super::log::METRICS;

/// File name of the curves.
pub const CURVES: &str = "curves.svg";

const STYLE: &str = ".paper{fill:#fff}@media(prefers-color-scheme:dark){.paper{fill:#161616}}";

/// Size of a panel's lines.
const SIZE: (f64, f64) = (640.0, 160.0);
/// Room above a panel.
const APART: f64 = 8.0;

/// One figure over steps.
#[derive(Debug, PartialEq)]
pub struct FigureCurve {
    /// The figure's key in `metrics.jsonl`.
    pub name: String,
    /// Steps and values.
    pub points: Vec<(f64, f64)>,
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
    let text = foreign::read_text(&from, foreign::DATA).map_err(io(&from))?;
    atomic::write(&to, svg(&curves(&text)).as_bytes()).map_err(io(&to))
}

/// Every figure of `metrics.jsonl` but step and epoch, in the order of first appearance.
pub fn curves(metrics: &str) -> Vec<FigureCurve> {
    let mut curves: Vec<FigureCurve> = Vec::new();
    for record in metrics.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok()) {
        let Some(step) = record.get("step").and_then(Value::as_f64) else { continue };
        for (name, value) in record.iter().filter(|(name, _)| !["step", "epoch"].contains(&name.as_str())) {
            let Some(value) = value.as_f64() else { continue };
            match curves.iter_mut().find(|curve| curve.name == *name) {
                Some(curve) => curve.points.push((step, value)),
                None => curves.push(FigureCurve { name: name.clone(), points: vec![(step, value)] }),
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

fn svg(curves: &[FigureCurve]) -> String {
    let mut panels: Vec<(&str, Vec<&FigureCurve>)> = Vec::new();
    for curve in curves {
        let title = panel(&curve.name);
        match panels.iter_mut().find(|(known, _)| *known == title) {
            Some((_, members)) => members.push(curve),
            None => panels.push((title, vec![curve])),
        }
    }
    let plots: Vec<Plot<'_>> = panels
        .into_iter()
        .map(|(title, members)| {
            let lines = members.into_iter().map(|curve| (curve.name.as_str(), curve.points.clone())).collect();
            Plot { title, lines, size: SIZE, ..Plot::default() }
        })
        .collect();
    let width = plots.iter().map(|plot| plot.outer().0).fold(SIZE.0, f64::max);
    let height: f64 = plots.iter().map(|plot| plot.outer().1 + APART).sum();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <style>{}{STYLE}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n",
        plot::style()
    );
    let mut down = 0.0;
    for plot in plots {
        out.push_str(&format!("<g transform=\"translate(0 {})\">\n", down + APART));
        plot.draw(&mut out);
        out.push_str("</g>\n");
        down += plot.outer().1 + APART;
    }
    out + "</svg>\n"
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
        assert_eq!(drawn.matches("class=\"title\"").count(), 2);
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
}
