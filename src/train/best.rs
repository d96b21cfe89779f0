//! The best evaluation of a run so far, and how long nothing has been better.

use ftk_recipes::{Metrics, Run};

use super::error::TrainError;

/// What `run.best` keeps. `Debug` shows no parameters: an adapter may be secret.
#[derive(Clone, PartialEq)]
pub(super) struct BestKept {
    /// Steps done when it was evaluated.
    pub(super) step: usize,
    /// The figure that `run.best` names.
    pub(super) figure: f64,
    /// Evaluations since.
    pub(super) waited: usize,
    /// Every parameter, in name order.
    pub(super) values: Vec<Vec<f32>>,
}

impl std::fmt::Debug for BestKept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { step, figure, waited, .. } = self;
        write!(f, "Best of step {step}: {figure}, {waited} since")
    }
}

impl BestKept {
    /// Takes in the evaluation after a step; `values` gives the parameters as they stand.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`]: a figure that cannot be compared.
    pub(super) fn update(
        best: &mut Option<Self>,
        run: &Run,
        step: usize,
        figures: &Metrics,
        values: impl FnOnce() -> Vec<Vec<f32>>,
    ) -> Result<(), TrainError> {
        let Some(wanted) = run.best else { return Ok(()) };
        let figure = figures.iter().find(|(name, _)| *name == wanted.name()).map(|(_, figure)| *figure);
        let figure = figure.filter(|figure| figure.is_finite());
        let figure = figure.ok_or(TrainError::NotFinite { step, what: "the figure of run.best" })?;
        match best {
            // An equal figure is none better: the earlier state stays.
            Some(best) if !wanted.improves(figure, best.figure) => best.waited += 1,
            _ => *best = Some(Self { step, figure, waited: 0, values: values() }),
        }
        Ok(())
    }

    /// Whether the run has waited long enough for a better one.
    pub(super) fn exhausted(best: Option<&Self>, run: &Run) -> bool {
        best.zip(run.patience).is_some_and(|(best, patience)| best.waited >= patience)
    }
}
