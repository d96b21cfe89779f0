//! Products of f32 matrices with weights, or what attention multiplies by, in bf16, sums in f32, the same on every
//! processor. Both factors are rounded to bf16, those below 2^-56 to zero. An entry adds up groups of 32 terms: of each
//! the chain of the terms at even places, `c = fma(a, b, c)` from zero, and that of the odd ones, added to each other and
//! then to the entry. That is what `tdpbf16ps` of AMX computes. Processors with AVX512-BF16 compute chains by
//! `vdpbf16ps`, others by multiply-adds of f32. No sum but zero comes below the least normal number, which the units for
//! bf16 take for zero.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod matrix;
mod numbers;
#[cfg(test)]
mod portable;
#[cfg(test)]
mod tests;
mod widened;

use std::sync::LazyLock;

#[cfg(target_arch = "x86_64")]
use self::avx512::{Dots, FEW, Tiles, WordPanels};
pub use self::matrix::{Bf16Matrix, Bf16Side};
pub use self::numbers::{narrowed_all, rounded_all, widened_all};
use self::widened::WidePanels;
use super::fused::is_fused;
use super::product::{MatrixView, Onto};

/// Name of the numbers that a step computes whose products with frozen weights and in attention are these, which
/// `ARITHMETIC.md` defines.
pub const ARITHMETIC: &str = "ftk-bf16-2";

/// What a processor computes these products by.
#[derive(Clone, Copy, Debug)]
enum Bf16Unit {
    #[cfg(target_arch = "x86_64")]
    Tiles(Tiles),
    #[cfg(target_arch = "x86_64")]
    Dots(Dots),
    F32 {
        fused: bool,
    },
}

impl Bf16Unit {
    /// All that this processor has, the fastest first.
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if let Some(dots) = Dots::detect() {
            all.extend(Tiles::detect(dots).map(Self::Tiles));
            all.push(Self::Dots(dots));
        }
        all.push(Self::F32 { fused: is_fused() });
        all
    }

    /// The fastest for so many rows.
    fn of_rows(rows: usize) -> Self {
        static ALL: LazyLock<Vec<Bf16Unit>> = LazyLock::new(Bf16Unit::all);
        // Elsewhere there is but one.
        #[cfg(not(target_arch = "x86_64"))]
        let _ = rows;
        match ALL.as_slice() {
            #[cfg(target_arch = "x86_64")]
            [Self::Tiles(_), few, ..] if rows < Tiles::WORTH => *few,
            all => all[0],
        }
    }

    fn product(self, x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Vec<f32> {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(tiles) => avx512::product(tiles, x, weight, side),
            #[cfg(target_arch = "x86_64")]
            Self::Dots(dots) => {
                avx512::product_of_few(dots, x, weight, side).unwrap_or_else(|| avx512::product(dots, x, weight, side))
            }
            Self::F32 { fused } => widened::product(fused, x, weight, side),
        }
    }

    /// For products with about so many rows.
    fn panels(self, weight: Bf16Matrix<'_>, side: Bf16Side, rows: usize) -> Bf16Panels<'_> {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = rows;
        let ready = match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(tiles) => ReadyWeight::Tiles(WordPanels::new(tiles, weight, side)),
            #[cfg(target_arch = "x86_64")]
            Self::Dots(dots) if rows <= FEW => ReadyWeight::AsItLies(dots),
            #[cfg(target_arch = "x86_64")]
            Self::Dots(dots) => ReadyWeight::Dots(WordPanels::new(dots, weight, side)),
            Self::F32 { fused } => ReadyWeight::F32(WidePanels::new(fused, weight, side)),
        };
        Bf16Panels { ready, weight, side }
    }
}

/// Whether products are computed by tiles of AMX.
pub fn has_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    return matches!(Bf16Unit::of_rows(usize::MAX), Bf16Unit::Tiles(_));
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// The product of every row of `x` with the weights: `(rows, d_out)`, or `(rows, d_in)` on the way back.
///
/// # Panics
/// If `x` is not whole rows of what is summed up.
pub fn product(x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Vec<f32> {
    let (terms, entries) = weight.sides(side);
    // Of no terms, no rows but none are whole.
    assert!(x.len().is_multiple_of(terms), "a product needs whole rows");
    if terms == 0 || entries == 0 {
        return Vec::new();
    }
    Bf16Unit::of_rows(x.len() / terms).product(x, weight, side)
}

/// Weights made ready for more products than one, each on its caller's thread.
pub struct Bf16Panels<'a> {
    ready: ReadyWeight,
    weight: Bf16Matrix<'a>,
    side: Bf16Side,
}

enum ReadyWeight {
    /// For rows so few that laying them out would take longer than the sums.
    #[cfg(target_arch = "x86_64")]
    AsItLies(Dots),
    #[cfg(target_arch = "x86_64")]
    Tiles(WordPanels<Tiles>),
    #[cfg(target_arch = "x86_64")]
    Dots(WordPanels<Dots>),
    F32(WidePanels),
}

impl<'a> Bf16Panels<'a> {
    /// For products with about so many rows each.
    pub fn new(weight: Bf16Matrix<'a>, side: Bf16Side, rows: usize) -> Self {
        Bf16Unit::of_rows(rows).panels(weight, side, rows)
    }

    /// `scale` times the product of `a`, whose rows or columns lie together, with the first terms, as many as `a` has
    /// columns, and the first entries of the weights, as many as `columns`; or that added to what stands in `result`, whose
    /// rows are so many entries apart.
    ///
    /// # Panics
    /// If there are fewer or `a` has none, or the result does not lie in its slice.
    pub fn product(&self, result: (&mut [f32], usize), onto: Onto, scale: f32, a: MatrixView<'_>, columns: usize) {
        let (terms, entries) = self.weight.sides(self.side);
        assert!(a.columns <= terms && columns <= entries, "the weights must have these terms and entries");
        assert!(a.fits() && a.columns > 0, "the left factor must lie in its slice and have terms");
        if a.rows == 0 || columns == 0 {
            return;
        }
        let (values, stride) = &result;
        assert!(
            columns <= *stride && (a.rows - 1) * stride + columns <= values.len(),
            "the result must lie in its slice"
        );
        match &self.ready {
            #[cfg(target_arch = "x86_64")]
            ReadyWeight::AsItLies(dots) => {
                let part = self.weight.part(self.side, 0..a.columns, 0..columns);
                avx512::product_of_few_onto(*dots, result, onto, scale, a, (part, self.side));
            }
            #[cfg(target_arch = "x86_64")]
            ReadyWeight::Tiles(panels) => panels.product(result, onto, scale, a, columns),
            #[cfg(target_arch = "x86_64")]
            ReadyWeight::Dots(panels) => panels.product(result, onto, scale, a, columns),
            ReadyWeight::F32(panels) => panels.product(result, onto, scale, a, columns),
        }
    }
}
