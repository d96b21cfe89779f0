//! Products in bf16 as they are defined, number by number.

use rayon::prelude::*;

use super::super::fused::emulated;
use super::matrix::{Bf16Matrix, Bf16Side, CUT, rounded, without_subnormal};

/// Powers of two by which a sum at the edge of normal numbers is moved among them.
const AWAY: i32 = 60;

/// As [`super::product`].
pub(super) fn product(x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Vec<f32> {
    let (terms, entries) = weight.sides(side);
    let mut result = vec![0.0; x.len() / terms * entries];
    result.par_chunks_mut(entries).zip(x.par_chunks(terms)).for_each(|(result, x)| {
        let x: Vec<f32> = x.iter().map(|&x| wide(rounded(x))).collect();
        for (entry, result) in result.iter_mut().enumerate() {
            let factor = |term| wide(without_subnormal(weight.at(side, term, entry).to_bits()));
            for first in (0..terms).step_by(CUT) {
                let mut sum = 0.0;
                for even in (first..terms.min(first + CUT)).step_by(2) {
                    // A term that is missing is a product of zeros.
                    let (x1, w1) = if even + 1 < terms { (x[even + 1], factor(even + 1)) } else { (0.0, 0.0) };
                    sum = add_product(x[even], factor(even), add_product(x1, w1, sum));
                }
                *result = if first == 0 { sum } else { *result + sum };
            }
        }
    });
    result
}

fn wide(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// `a b + c` rounded once, zero where the result, rounded as if there were no least exponent, is below the least normal
/// number. No operand is a subnormal number.
fn add_product(a: f32, b: f32, c: f32) -> f32 {
    let sum = emulated(a, b, c);
    if sum.abs() > f32::MIN_POSITIVE || sum == 0.0 && (a == 0.0 || b == 0.0) {
        return sum;
    }
    // The same among normal numbers. An operand that would overflow there has no sum down here.
    let away = 2f32.powi(AWAY);
    let moved = if a.abs() < b.abs() { emulated(a * away, b, c * away) } else { emulated(a, b * away, c * away) };
    if moved.abs() < f32::MIN_POSITIVE * away { 0.0f32.copysign(sum) } else { sum }
}
