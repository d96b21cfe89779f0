//! Where the float world meets the field world: the only place that may name both candle and the
//! circuits. Commitments, bundles and verdicts about what a base with an adapter gives for inputs.

pub mod bundle;
pub mod cost;
pub mod fixed;
pub mod keys;
pub mod model;
pub mod opening;
pub mod rounding;
pub mod sealing;
pub mod subject;
pub mod verifier;

pub use self::model::FixedModelError;

/// Errors of exact networks that may know what to do about them.
pub const HINTS: &[ftk_adapters::hint::HintOf] = &[overflow];

/// What to do where a base leaves the range of the integer network, which knows of no commands.
fn overflow(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let overflow = |error: &ftk_proofs::fixed::PassError| {
        matches!(error, ftk_proofs::fixed::PassError::Fixed(ftk_circuits::fixed::FixedError::Overflow { .. }))
    };
    let beyond = matches!(error.downcast_ref(), Some(ftk_circuits::fixed::FixedError::Overflow { .. }));
    (beyond || error.downcast_ref().is_some_and(overflow)).then(|| {
        "proofs are about whole numbers of 32 bits, and what this base computes there has no room in them: nothing can be \
         proved of it on this text, whatever the adapter; try other texts with ftk commit --text, or another base"
            .to_owned()
    })
}
