//! The operations of a network, as cells and as what holds between them: a file a kind.

pub(crate) mod attention;
pub(crate) mod choice;
pub(crate) mod gate;
pub(crate) mod graph;
pub(crate) mod linear;
pub(crate) mod log_prob;
pub(crate) mod norm;
pub(crate) mod rope;
