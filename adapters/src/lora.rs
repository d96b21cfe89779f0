//! LoRA factors as plain numbers (Hu et al. 2021): what is read from and written to files,
//! committed and proved. The trainable form lives in [`crate::train`].

use std::collections::BTreeMap;

/// The two factors of one site; the site computes `W x + scale * B A x`. `Debug` shows none of their numbers: an adapter
/// may be secret.
#[derive(Clone, PartialEq)]
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

impl std::fmt::Debug for Factors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rank, d_in, d_out, scale, .. } = self;
        write!(f, "Factors of rank {rank}, {d_in} to {d_out}, scale {scale}")
    }
}

/// A LoRA adapter: factors by site (module path without `.weight`), in name order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adapter {
    /// Factors by site.
    pub sites: BTreeMap<String, Factors>,
}

impl Adapter {
    /// The adapter as it is exported and committed: scale absorbed into `B`, every value rounded to
    /// the 16-bit grid with one power-of-two scale a tensor. Applying it twice changes nothing.
    ///
    /// # Errors
    /// A value that does not fit the grid.
    pub fn on_grid(&self) -> Result<Self, ftk_kernels::grid::GridError> {
        let round = |f: &Factors| {
            let b: Vec<f32> = f.b.iter().map(|&b| b * f.scale).collect();
            let (a, b) = (ftk_kernels::grid::to_grid(&f.a)?, ftk_kernels::grid::to_grid(&b)?);
            Ok(Factors { a, b, scale: 1.0, ..*f })
        };
        let sites = self.sites.iter().map(|(site, f)| Ok((site.clone(), round(f)?))).collect::<Result<_, _>>()?;
        Ok(Self { sites })
    }
}
