//! Where the float world meets the field world: the only place that may name both candle and the circuits.

pub mod fixed;
