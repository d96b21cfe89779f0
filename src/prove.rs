//! Where the float world meets the field world: the only place that may name both candle and the
//! circuits. Commitments, bundles and verdicts about what a base with an adapter gives for inputs.

pub mod bundle;
pub mod cases;
pub mod cost;
pub mod fixed;
pub mod graph_base;
pub mod keys;
pub mod limits;
mod model;
pub mod opening;
pub mod refusal;
pub mod rounding;
pub mod subject;
pub mod verdict;
pub mod verifier;

pub use self::model::{FixedModel, FixedModelError, Net, site_factors};
