//! Rotary position embedding in the half-split layout: feature `i` of a head turns together with
//! feature `i + dim / 2`.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::{rows_a_chunk, written};
use crate::vectors::vectorised;

/// Which way to turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// By the angle.
    Forward,
    /// Back by the angle: the transpose, which is the gradient's way.
    Back,
}

/// Turns every head of every row of `x` by the angles of its position: `cos` and `sin` hold
/// `dim / 2` values a position, `positions` one position a row of `width` entries.
///
/// # Panics
/// If the lengths do not agree.
pub fn rotate(x: &[f32], width: usize, [cos, sin]: [&[f32]; 2], dim: usize, positions: &[u32], turn: Turn) -> Vec<f32> {
    let half = dim / 2;
    assert!(half > 0 && dim == 2 * half && width.is_multiple_of(dim), "heads are two halves");
    assert!(x.len() == positions.len() * width, "rows must be whole heads");
    let rows = rows_a_chunk(width);
    let operands = x.par_chunks(rows * width).zip(positions.par_chunks(rows));
    let write = |y: &mut [MaybeUninit<f32>]| {
        y.par_chunks_mut(rows * width).zip(operands).for_each(|(y, (x, positions))| {
            vectorised(
                #[inline(always)]
                || {
                    let rows = x.chunks_exact(width).zip(positions);
                    for (y, (x, &position)) in y.chunks_exact_mut(width).zip(rows) {
                        let at = position as usize * half;
                        let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
                        for (y, x) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
                            let ((x1, x2), (y1, y2)) = (x.split_at(half), y.split_at_mut(half));
                            for i in 0..half {
                                let sin = if turn == Turn::Forward { sin[i] } else { -sin[i] };
                                y1[i].write(x1[i] * cos[i] - x2[i] * sin);
                                y2[i].write(x2[i] * cos[i] + x1[i] * sin);
                            }
                        }
                    }
                },
            );
        });
    };
    // SAFETY: every row, which is whole heads, each two halves.
    unsafe { written(x.len(), write) }
}
