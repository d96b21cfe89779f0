//! Products of f32 matrices, the same on every processor. Each entry is made of chains of fused multiply-adds,
//! `c = fma(a, b, c)` from 0 in the order of the terms, one for each 512 terms; the chains are added to the result
//! in their order, `r = fma(scale, c, r)`, and the first one of a product onto nothing is `r = scale c`.
//!
//! The main path of `gemm` computes a chain of up to 512 terms in this way whatever caches and registers there are.
//! It adds up small and thin products in another order: those are computed here. So are large ones where registers are
//! those of AVX2 or AVX-512, and those of attention over many rows (`panels`).

#[cfg(target_arch = "x86_64")]
mod across;
mod chain;
mod layout;
mod matrix;
mod panels;
#[cfg(target_arch = "x86_64")]
mod row;
mod target;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod thin;

use gemm_common::Parallelism;

#[cfg(all(feature = "bf16", target_arch = "x86_64"))]
pub(super) use self::layout::prefetch;
#[cfg(feature = "bf16")]
pub(super) use self::layout::{lay_panels, lay_strip};
use self::matrix::CUT;
pub(super) use self::matrix::LINE;
pub use self::matrix::{MatrixView, Onto, Threads};
#[cfg(feature = "bf16")]
pub(super) use self::panels::tile;
pub use self::panels::{Panels, panel_product};
use super::fused::is_fused;

/// Entries of a result that `gemm` may compute in lanes along the sum, where both factors lie that way.
const HORIZONTAL: usize = 256;
/// Terms of a product that `gemm` computes without a chain.
const FEW_TERMS: usize = 2;
/// Columns up to which chains of our own with lanes along the rows are faster.
const THIN: usize = 8;

/// Rows, terms and columns from which on it is worth laying out both factors.
const MANY_ROWS: usize = 64;
const MANY_TERMS: usize = 16;
const MANY_COLUMNS: usize = 32;
/// Terms beyond which a right factor that lies in rows is long: blocks read it piece by piece, and wait for memory.
const LONG: usize = 4096;
/// Rows of the left factor for which that is worth it.
const ROWS_OF_LONG: usize = 512;

/// Most terms of a product that is one chain: added to what stands somewhere it gives what it gives on its own and then
/// added.
pub const CHAIN: usize = CUT;

/// `scale a b`, or that added to what stands in `result`, whose rows are `row_stride` entries apart.
///
/// # Panics
/// If the shapes do not agree.
pub fn product(
    (result, row_stride): (&mut [f32], usize),
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) {
    let (m, n) = (a.rows, b.columns);
    let lies = m == 0 || n == 0 || n <= row_stride && (m - 1) * row_stride + n <= result.len();
    assert!(lies, "the result must lie in its slice");
    // SAFETY: it does, and is borrowed mutably.
    unsafe { product_at((result.as_mut_ptr(), row_stride), onto, scale, (a, b), threads) }
}

/// As [`product`], of a result that begins at an address.
///
/// # Safety
/// The rows of the result lie there, are nobody else's, and have been written if the product is added to them.
unsafe fn product_at(
    (result, row_stride): (*mut f32, usize),
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "columns of the left and rows of the right factor must agree");
    assert!(a.fits() && b.fits(), "the factors must lie in their slices");
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 && onto == Onto::Nothing {
        // SAFETY: as the caller promises; every bit pattern is a number.
        (0..m).for_each(|row| unsafe { result.add(row * row_stride).write_bytes(0, n) });
    }
    // SAFETY: as the caller promises.
    #[cfg(target_arch = "x86_64")]
    if k > 0
        && unsafe {
            row::product(result, onto, scale, (a, b), threads)
                || thin::product((result, row_stride), onto, scale, (a, b), threads)
                || across::product((result, row_stride), onto, scale, (a, b), threads)
        }
    {
        return;
    }
    if by_panels((a, b)) {
        // SAFETY: as the caller promises.
        return unsafe { panels::product(true, (result, row_stride), onto, scale, (a, b), threads) };
    }
    for first in (0..k).step_by(CUT) {
        let terms = CUT.min(k - first);
        let factors = (a.columns(first, terms), b.rows(first, terms));
        let onto = if first == 0 { onto } else { Onto::Present };
        // SAFETY: as the caller promises; the first slice has written what is added to.
        unsafe {
            if by_gemm(factors) {
                whole((result, row_stride), onto, scale, factors, threads);
            } else {
                chain::product((result, row_stride), onto, scale, factors, threads);
            }
        }
    }
}

/// Whether laying out both factors is the fastest way to the product. It is with the registers of AVX2 and, by little, with
/// those of AVX-512; with others it has not been measured.
fn by_panels((a, b): (MatrixView<'_>, MatrixView<'_>)) -> bool {
    let registers = cfg!(target_arch = "x86_64") && is_fused();
    let by_pieces = b.column_stride == 1 && a.columns > LONG && a.rows < ROWS_OF_LONG;
    let many = a.rows >= MANY_ROWS && a.columns >= MANY_TERMS && b.columns >= MANY_COLUMNS;
    registers && many && !by_pieces
}

/// Whether `gemm` adds up the product in chains, and is the faster way to do it.
fn by_gemm((a, b): (MatrixView<'_>, MatrixView<'_>)) -> bool {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    let along_the_sum = a.column_stride == 1 && b.row_stride == 1;
    let horizontal = along_the_sum && (m * n <= HORIZONTAL || m.min(n) <= THIN);
    let lanes_down_a_thin_result = n <= THIN && a.row_stride == 1;
    gemm_runs() && m > 1 && n > 1 && k > FEW_TERMS && !horizontal && !lanes_down_a_thin_result
}

/// Whether `gemm` has a kernel of fused multiply-adds for this processor.
fn gemm_runs() -> bool {
    // Where it sees AVX-512F it takes all of what came with Skylake's for granted.
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if is_x86_feature_detected!("avx512f") && pulp::x86::V4::try_new().is_none() {
        return false;
    }
    is_fused()
}

/// As [`product_at`], of at most [`CUT`] terms, by `gemm`.
///
/// # Safety
/// As [`product_at`].
unsafe fn whole(
    (result, row_stride): (*mut f32, usize),
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(a.fits() && b.fits() && k == b.rows, "the factors must lie in their slices and fit");
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(rayon::current_num_threads()),
    };
    let columns_first = gemm_f32::gemm::f32::get_gemm_fn();
    // SAFETY: every index of a factor was shown above to lie in its slice, the caller promises the same of the result,
    // which overlaps neither factor as nobody else's, and which is read only if it is added to. The kernel wants columns
    // that lie together: of the result transposed, which is the product of the transposed factors in the other order.
    unsafe {
        columns_first(
            n,
            m,
            k,
            result,
            row_stride as isize,
            1,
            onto == Onto::Present,
            b.values.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            a.values.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `scale a b` as rows of a new matrix.
///
/// # Panics
/// As [`product`].
pub fn new_product(scale: f32, a: MatrixView<'_>, b: MatrixView<'_>) -> Vec<f32> {
    let entries = a.rows * b.columns;
    let mut result = Vec::with_capacity(entries);
    // SAFETY: there is room for all rows, which lie one after another, and a product onto nothing writes every entry.
    unsafe {
        product_at((result.as_mut_ptr(), b.columns), Onto::Nothing, scale, (a, b), Threads::All);
        result.set_len(entries);
    }
    result
}
