//! Messages between nodes of a graph, and the rectifier.

use rayon::prelude::*;

use super::{FixedError, round_shift, word};

/// Fractional bits of a coefficient.
pub const COEFFICIENT_BITS: u32 = 30;

/// A sparse matrix in compressed rows: a row for every receiver, its entries at `starts[i]..starts[i + 1]`.
#[derive(Clone, Copy, Debug)]
pub struct SparseRows<'a> {
    /// First entry of each receiver, and behind them the number of entries.
    pub starts: &'a [usize],
    /// The sender of each entry.
    pub senders: &'a [u32],
    /// Its coefficient at scale `2^-30`, at most one.
    pub coefficients: &'a [u32],
}

impl SparseRows<'_> {
    pub(crate) fn check(&self, site: &str, rows: usize) -> Result<(), FixedError> {
        let entries = self.senders.len();
        let ordered =
            self.starts.first() == Some(&0) && self.starts.is_sorted() && self.starts.last() == Some(&entries);
        FixedError::require(ordered && self.coefficients.len() == entries, "propagation", site)?;
        FixedError::require(self.senders.iter().all(|&sender| (sender as usize) < rows), "sender", site)?;
        match self.coefficients.iter().any(|&coefficient| coefficient > 1 << COEFFICIENT_BITS) {
            true => Err(FixedError::parameter("coefficient", site)),
            false => Ok(()),
        }
    }
}

/// `y_i = round(sum_j p_ij x_j / 2^30)` for `x` `(senders, width)`: `(receivers, width)`. A product is below `2^61`
/// and there are fewer than `2^32` of them, so that no sum overflows.
///
/// # Errors
/// [`FixedError::Overflow`] at an output that reaches `2^31`, [`FixedError::Shape`], [`FixedError::Parameter`].
pub fn aggregate(site: &str, over: SparseRows<'_>, x: &[i32], width: usize) -> Result<Vec<i64>, FixedError> {
    FixedError::require(width > 0 && x.len().is_multiple_of(width), "messages", site)?;
    over.check(site, x.len() / width)?;
    let row = |receiver: usize| {
        let mut sums = vec![0i128; width];
        for entry in over.starts[receiver]..over.starts[receiver + 1] {
            let coefficient = i64::from(over.coefficients[entry]);
            let x = &x[over.senders[entry] as usize * width..][..width];
            sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += i128::from(coefficient * i64::from(x)));
        }
        let output = |(at, sum)| word(round_shift(sum, COEFFICIENT_BITS), site, receiver * width + at);
        sums.into_iter().enumerate().map(output).collect::<Result<Vec<i64>, _>>()
    };
    // Sequential collection keeps the first error the same on every machine.
    let rows: Vec<_> = (0..over.starts.len() - 1).into_par_iter().map(row).collect();
    Ok(rows.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
}

/// `max(x, 0)`, entry by entry, exactly.
pub fn relu(x: &[i64]) -> Vec<i64> {
    x.iter().map(|&x| x.max(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: u32 = 1 << COEFFICIENT_BITS;

    fn over<'a>(starts: &'a [usize], senders: &'a [u32], coefficients: &'a [u32]) -> SparseRows<'a> {
        SparseRows { starts, senders, coefficients }
    }

    #[test]
    fn a_sum_is_rounded_once_half_up() {
        let x = [3, -3, 5, 1];
        let sums = |coefficients: &[u32]| aggregate("s", over(&[0, 2, 2], &[0, 1], coefficients), &x, 2).unwrap();
        assert_eq!(sums(&[ONE, ONE]), [8, -2, 0, 0]);
        // 1.5 + 2.5 and -1.5 + 0.5 are whole; with one term alone, halves go up.
        assert_eq!(sums(&[ONE / 2, ONE / 2]), [4, -1, 0, 0]);
        assert_eq!(sums(&[ONE / 2, 0]), [2, -1, 0, 0]);
        assert_eq!(relu(&[-1, 0, i64::MAX]), [0, 0, i64::MAX]);
    }

    #[test]
    fn what_does_not_fit_is_an_error_with_its_name() {
        let large = i32::MAX;
        let sum = |starts: &[usize], senders: &[u32], coefficients: &[u32], x: &[i32], width| {
            aggregate("s", over(starts, senders, coefficients), x, width)
        };
        assert_eq!(sum(&[0, 1], &[0], &[ONE], &[large], 1), Ok(vec![large.into()]));
        assert_eq!(
            sum(&[0, 2], &[0, 1], &[ONE, 1 << 1], &[large, large], 1),
            Err(FixedError::overflow("output", "s", 0, 31))
        );
        assert_eq!(sum(&[0, 1], &[1], &[ONE], &[large], 1), Err(FixedError::shape("sender", "s")));
        assert_eq!(sum(&[0, 1], &[0], &[ONE + 1], &[large], 1), Err(FixedError::parameter("coefficient", "s")));
        assert_eq!(sum(&[0, 2], &[0], &[ONE], &[large], 1), Err(FixedError::shape("propagation", "s")));
        assert_eq!(sum(&[0, 1], &[0], &[], &[large], 1), Err(FixedError::shape("propagation", "s")));
        assert_eq!(sum(&[0, 1], &[0], &[ONE], &[large], 2), Err(FixedError::shape("messages", "s")));
    }
}
