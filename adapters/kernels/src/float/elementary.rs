//! The exponential, written so that compilers turn a loop over it into vector instructions.

/// Below this, `exp` is 0 in f32 but for subnormal numbers.
const LOWEST: f32 = -87.0;
/// A little above this, `exp` overflows.
const HIGHEST: f32 = 88.0;
/// Adding and subtracting it rounds to the nearest integer.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts, the first with enough zeros at its end that its multiples are exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `e^x` with a relative error below 2e-7; arguments beyond -87 ... 88 are cut to the range.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(LOWEST, HIGHEST);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN2[0]) - n * LN2[1];
    // The series to degree 7 on |r| <= ln 2 / 2.
    let tail = 1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0));
    let series = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * tail))));
    // n is an integer of at most 127 either way, and stands in the last bits of `rounded`: neither a conversion that looks
    // at its limits nor a checked sum would become a vector instruction.
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(n.wrapping_add(127) << 23);
    series * power
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Sum of a function over equally long slices, in sixteen interleaved partial sums: vectors may be
/// used, and the order of additions is fixed.
#[inline(always)]
pub(super) fn reduce<const N: usize>(slices: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    const LANES: usize = 16;
    let length = slices[0].len();
    let slices = slices.map(|slice| &slice[..length]);
    let mut lanes = [0.0f32; LANES];
    let whole = length / LANES * LANES;
    let mut at = 0;
    while at < whole {
        let blocks = slices.map(|slice| &slice[at..at + LANES]);
        for lane in 0..LANES {
            lanes[lane] += f(blocks.map(|block| block[lane]));
        }
        at += LANES;
    }
    for index in whole..length {
        lanes[index - whole] += f(slices.map(|slice| slice[index]));
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Largest entry; minus infinity of none.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            lanes[lane] = if block[lane] > lanes[lane] { block[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |largest, &x| if x > largest { x } else { largest })
}
