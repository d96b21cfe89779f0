//! Inputs written as digits, in planes of one digit each.

use crate::vectors::vectorised;

/// Rows of weights that a kernel takes at once.
pub(super) const OUTPUTS: usize = 4;
/// Rows of inputs that it takes at once.
pub(super) const ROWS: usize = 3;
/// Bits of a digit where there are two. With fewer, sums would be no longer.
pub(super) const BITS_OF_TWO: std::ops::RangeInclusive<u32> = 8..=12;
/// Bits of a digit where there are three, which hold every 32-bit integer.
const BITS_OF_THREE: u32 = 11;
/// Planes are padded with zeros to whole registers of the widest kernel.
pub(super) const WIDTH: usize = 32;
/// Sums of [`OUTPUTS`] rows of weights, each with [`ROWS`] rows of inputs.
pub(super) type TileSums = [[i64; ROWS]; OUTPUTS];
/// Exact sums; rows of weights are of one length, which the digits are of.
pub(super) type DigitKernel = fn([&[i16]; OUTPUTS], &DigitPlanes) -> TileSums;

/// At most [`ROWS`] rows of inputs as digits: `x = sum_j digit_j 2^(j bits)`. Rows that are missing are zero.
#[derive(Debug)]
pub(super) struct DigitPlanes {
    /// Digits of an input, two or three.
    pub(super) count: usize,
    pub(super) bits: u32,
    /// Entries of a plane.
    pub(super) stride: usize,
    /// A plane for each row and digit, digits of a row one after another, the lowest first.
    pub(super) planes: Vec<i16>,
}

impl DigitPlanes {
    pub(super) fn new(rows: &[i32], d_in: usize) -> Self {
        let peak = vectorised(
            #[inline(always)]
            || rows.iter().fold(0, |peak: u32, x| peak.max(x.unsigned_abs())),
        );
        // Less the low digit and divided, |x| is at most 2^(b-1) - 1 + 1/2.
        let two = BITS_OF_TWO.into_iter().find(|bits| peak <= (1 << (2 * bits - 1)) - (1 << bits));
        let (count, bits) = two.map_or((3, BITS_OF_THREE), |bits| (2, bits));
        let stride = d_in.next_multiple_of(WIDTH);
        let mut planes = vec![0; ROWS * count * stride];
        for (planes, row) in planes.chunks_exact_mut(count * stride).zip(rows.chunks_exact(d_in)) {
            let (low, upper) = planes.split_at_mut(stride);
            let (middle, high) = upper.split_at_mut(stride);
            if count == 2 {
                vectorised(
                    #[inline(always)]
                    || {
                        for ((low, middle), &x) in low.iter_mut().zip(middle.iter_mut()).zip(row) {
                            let (digit, rest) = lowest(x, bits);
                            (*low, *middle) = (digit, rest as i16);
                        }
                    },
                );
            } else {
                vectorised(
                    #[inline(always)]
                    || {
                        let digits = low.iter_mut().zip(middle.iter_mut()).zip(high.iter_mut());
                        for (((low, middle), high), &x) in digits.zip(row) {
                            let (digit, rest) = lowest(x, bits);
                            let (second, rest) = lowest(rest, bits);
                            (*low, *middle, *high) = (digit, second, rest as i16);
                        }
                    },
                );
            }
        }
        Self { count, bits, stride, planes }
    }

    /// Steps after which sums in 32 bits may be full.
    pub(super) fn steps(&self) -> usize {
        1 << (16 - self.bits)
    }

    /// Whether the planes are of rows of so many inputs.
    pub(super) fn holds(&self, d_in: usize) -> bool {
        let whole = self.stride.is_multiple_of(WIDTH) && self.stride == d_in.next_multiple_of(WIDTH);
        whole && self.planes.len() == ROWS * self.count * self.stride
    }
}

/// The lowest digit, from `-(2^(bits-1) - 1)` to `2^(bits-1)`, and what is left, divided by its place.
#[inline(always)]
fn lowest(x: i32, bits: u32) -> (i16, i32) {
    let low = x & (1i32.wrapping_shl(bits)).wrapping_sub(1);
    let carry = i32::from(low > 1i32.wrapping_shl(bits.wrapping_sub(1)));
    (low.wrapping_sub(carry.wrapping_shl(bits)) as i16, x.wrapping_shr(bits).wrapping_add(carry))
}
