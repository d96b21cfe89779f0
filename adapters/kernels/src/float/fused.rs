//! The fused multiply-add: `a b + c` rounded once, by the processor's own instruction or, where it has none, computed
//! exactly in f64.

use pulp::{Simd, WithSimd};

/// Whether this processor has the instruction, and vectors of it.
pub(super) fn is_fused() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    {
        // As `gemm` chooses: what `pulp::Arch` compiles loops for from here on.
        pulp::x86::V3::try_new().is_some()
    }
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
    {
        cfg!(target_arch = "aarch64")
    }
}

/// The fused multiply-add on lanes of a register, or on what stands for one.
pub(super) trait Instruction: Copy {
    /// [`Self::WIDTH`] numbers.
    type Lanes: Copy;
    /// Numbers in a register.
    const WIDTH: usize;
    /// Rows of two registers each that can be held while others are read: 4, 6 or 8.
    const ROWS: usize;

    /// Reads numbers, as many as there are lanes.
    fn load(self, from: &[f32]) -> Self::Lanes;
    /// Writes them.
    fn store(self, to: &mut [f32], lanes: Self::Lanes);
    /// One number in all lanes.
    fn splat(self, x: f32) -> Self::Lanes;
    /// `a b` in every lane.
    fn product(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a b + c` in every lane, rounded once.
    fn add_product(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    /// The same of single numbers.
    fn fma(self, a: f32, b: f32, c: f32) -> f32;
}

/// What is written for whichever [`Instruction`] there is.
pub(super) trait FusedKernel {
    /// What comes out.
    type Output;

    /// Computes it. Every implementation is marked `#[inline(always)]`, so that it is compiled for the registers.
    fn run<I: Instruction>(self, with: I) -> Self::Output;
}

/// Computes with or without the processor's own fused multiply-add.
pub(super) fn run<K: FusedKernel>(fused: bool, kernel: K) -> K::Output {
    struct Dispatched<K>(K);

    impl<K: FusedKernel> WithSimd for Dispatched<K> {
        type Output = K::Output;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> K::Output {
            self.0.run(Fused(simd))
        }
    }

    if fused { pulp::Arch::new().dispatch(Dispatched(kernel)) } else { kernel.run(Emulated) }
}

/// By the processor's instruction, on its widest registers.
#[derive(Clone, Copy)]
pub(super) struct Fused<S>(pub(super) S);

impl<S: Simd> Instruction for Fused<S> {
    type Lanes = S::f32s;
    const WIDTH: usize = S::F32_LANES;
    const ROWS: usize = if S::REGISTER_COUNT < 32 { 6 } else { 8 };

    #[inline(always)]
    fn load(self, from: &[f32]) -> S::f32s {
        S::as_simd_f32s(from).0[0]
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], lanes: S::f32s) {
        S::as_mut_simd_f32s(to).0[0] = lanes;
    }

    #[inline(always)]
    fn splat(self, x: f32) -> S::f32s {
        self.0.splat_f32s(x)
    }

    #[inline(always)]
    fn product(self, a: S::f32s, b: S::f32s) -> S::f32s {
        self.0.mul_f32s(a, b)
    }

    #[inline(always)]
    fn add_product(self, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
        self.0.mul_add_f32s(a, b, c)
    }

    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// By [`emulated`], which compilers turn into vector instructions of f64.
#[derive(Clone, Copy)]
pub(super) struct Emulated;

impl Instruction for Emulated {
    type Lanes = [f32; 4];
    const WIDTH: usize = 4;
    const ROWS: usize = 4;

    #[inline(always)]
    fn load(self, from: &[f32]) -> [f32; 4] {
        std::array::from_fn(|lane| from[lane])
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], lanes: [f32; 4]) {
        to.copy_from_slice(&lanes);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 4] {
        [x; 4]
    }

    #[inline(always)]
    fn product(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn add_product(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|lane| emulated(a[lane], b[lane], c[lane]))
    }

    #[inline(always)]
    fn fma(self, a: f32, b: f32, c: f32) -> f32 {
        emulated(a, b, c)
    }
}

/// `a b + c` without the instruction. The product is exact in f64; the sum is rounded to odd, from which rounding to
/// f32 gives what rounding once gives (Boldo and Melquiond 2008).
#[inline(always)]
pub(super) fn emulated(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    // What the sum lost (Knuth's two-sum). Not a number beside infinities, which need no correction.
    let part = sum - product;
    let lost = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    let inexact = lost.abs() > 0.0;
    // The neighbour on the side of what was lost has an odd last bit where this one's is even.
    let outwards = (lost > 0.0) == (sum > 0.0);
    let odd = if outwards { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    f64::from_bits(if inexact && bits & 1 == 0 { odd } else { bits }) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What both give, as bits; all that are not numbers are one.
    fn both(a: f32, b: f32, c: f32) -> [u32; 2] {
        // Through a black box, so that the reference is not folded away.
        let (a, b, c) = std::hint::black_box((a, b, c));
        [emulated(a, b, c), libm::fmaf(a, b, c)].map(|x| if x.is_nan() { u32::MAX } else { x.to_bits() })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn any_bits(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
            let [ours, exact] = both(f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
            prop_assert_eq!(ours, exact);
        }

        /// Operands with few bits and sums that cancel or lie in the middle between two numbers.
        #[test]
        fn near_halves(a in -4096i32..4096, b in -4096i32..4096, c in -64i32..64, by in -40i32..40, low in -150i32..100) {
            let scale = |x: i32, by: i32| (f64::from(x) * 2f64.powi(by)) as f32;
            for c in [scale(c, by + low), -scale(a, by) * scale(b, low) , scale(a, low)] {
                let [ours, exact] = both(scale(a, by), scale(b, low), c);
                prop_assert_eq!(ours, exact);
            }
        }
    }

    #[test]
    fn halves_with_and_without_a_rest() {
        let (one, ulp) = (1.0f32, f32::EPSILON);
        // 1 + ulp/2 is a tie and goes to even; the least rest beyond it decides.
        assert_eq!(emulated(ulp / 2.0, one, one), one);
        let rest = f32::from_bits(1);
        assert_eq!(emulated(one + ulp, ulp / 2.0, one), one + ulp);
        assert_eq!(emulated(rest, rest, one), one);
        assert_eq!(emulated(one - ulp / 2.0, ulp / 2.0, one), one);
        assert_eq!(emulated(f32::MAX, 2.0, -f32::INFINITY), -f32::INFINITY);
        assert_eq!(emulated(f32::MAX, f32::MAX, 0.0), f32::INFINITY);
        assert!(emulated(f32::INFINITY, 1.0, f32::NEG_INFINITY).is_nan());
    }
}
