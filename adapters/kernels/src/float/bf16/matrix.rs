//! Weights in bf16, how numbers become such, and how long chains are.

use half::bf16;

/// Most terms of one chain.
pub(super) const CUT: usize = 512;

/// Weights `(d_out, d_in)`, row-major.
#[derive(Clone, Copy, Debug)]
pub struct Bf16Matrix<'a> {
    pub(super) values: &'a [bf16],
    pub(super) d_in: usize,
}

/// Along which side of the weights a product sums up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Side {
    /// `x W^T`, from `(rows, d_in)` to `(rows, d_out)`.
    Inputs,
    /// `g W`, from `(rows, d_out)` to `(rows, d_in)`.
    Outputs,
}

impl<'a> Bf16Matrix<'a> {
    /// All of `values` as rows of `d_in` entries.
    ///
    /// # Panics
    /// If they are not whole rows.
    pub fn new(values: &'a [bf16], d_in: usize) -> Self {
        assert!(d_in > 0 && values.len().is_multiple_of(d_in), "a weight needs whole rows");
        Self { values, d_in }
    }

    /// Terms of a sum and entries of a row of the result.
    pub(super) fn sides(self, side: Bf16Side) -> (usize, usize) {
        let d_out = self.values.len() / self.d_in;
        if side == Bf16Side::Inputs { (self.d_in, d_out) } else { (d_out, self.d_in) }
    }

    /// The entry that a term is multiplied by for an entry of the result.
    #[inline(always)]
    pub(super) fn at(self, side: Bf16Side, term: usize, entry: usize) -> bf16 {
        let (row, column) = if side == Bf16Side::Inputs { (entry, term) } else { (term, entry) };
        self.values[row * self.d_in + column]
    }
}

/// The nearest number in bf16, of two equally near ones the even one; zero for what is below the least normal number.
#[inline(always)]
pub(super) fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let sign = bits & 0x8000_0000;
    let up = bits.wrapping_add(0x7fff).wrapping_add(bits >> 16 & 1);
    let nearest = if magnitude > 0x7f80_0000 { bits | 0x0040_0000 } else { up };
    (if magnitude < 0x0080_0000 { sign >> 16 } else { nearest >> 16 }) as u16
}

/// A number in bf16, zero for what is below the least normal number.
#[inline(always)]
pub(super) fn without_subnormal(bits: u16) -> u16 {
    if bits & 0x7f80 == 0 { bits & 0x8000 } else { bits }
}
