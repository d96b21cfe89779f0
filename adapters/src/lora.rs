//! LoRA factors as plain numbers (Hu et al. 2021): what is read from and written to files,
//! committed and proved. The trainable form lives in [`crate::train`].

use std::collections::BTreeMap;

/// The two factors of one site; the site computes `W x + scale * B A x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// Rank `r`.
    pub rank: usize,
    /// Input features.
    pub d_in: usize,
    /// Output features.
    pub d_out: usize,
    /// `A`, row-major `(rank, d_in)`.
    pub a: Vec<f32>,
    /// `B`, row-major `(d_out, rank)`.
    pub b: Vec<f32>,
    /// `alpha / r` (or `alpha / sqrt(r)` with rsLoRA).
    pub scale: f32,
}

/// A LoRA adapter: factors by site (module path without `.weight`), in name order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adapter {
    /// Factors by site.
    pub sites: BTreeMap<String, Factors>,
}
