//! Loops compiled for each generation of vector instructions, chosen at run time.

use pulp::{Simd, WithSimd};

/// Runs a loop compiled for the vector instructions of this processor. Its closure has to be marked
/// `#[inline(always)]`.
#[inline(always)]
pub(crate) fn vectorised<R>(of: impl FnMut() -> R) -> R {
    /// Calls the closure itself. A closure that `pulp` takes as it is may be called once through a function between,
    /// which is compiled without those instructions and need not be inlined.
    struct Loop<F>(F);

    impl<R, F: FnMut() -> R> WithSimd for Loop<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }

    pulp::Arch::new().dispatch(Loop(of))
}
