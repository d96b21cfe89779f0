//! What networks of graphs take beside weights: features of nodes, and how messages pass between them.
//!
//! Both hold numbers that are the same for every interpretation. A coefficient of a propagation is an integer at
//! scale `2^-30`; floating point computes with the nearest f32 to it, so that the propagation that is trained with is
//! the one that is proved.

use std::ops::Range;
use std::sync::OnceLock;

/// Fractional bits of a coefficient.
pub const COEFFICIENT_BITS: u32 = 30;
/// One, as a coefficient: the largest there is.
pub const ONE: u32 = 1 << COEFFICIENT_BITS;

/// A sparse matrix in compressed rows, its entries in rising order of columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse<T> {
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<T>,
    width: usize,
}

impl<T: Copy> Sparse<T> {
    /// A matrix of `width` columns whose rows are given one after another, each a list of columns and values.
    ///
    /// # Panics
    /// If the columns of a row do not rise or lie outside.
    pub fn from_rows<R: IntoIterator<Item = (u32, T)>>(width: usize, rows: impl IntoIterator<Item = R>) -> Self {
        let mut sparse = Self { starts: vec![0], columns: Vec::new(), values: Vec::new(), width };
        for row in rows {
            let first = sparse.columns.len();
            for (column, value) in row {
                assert!((column as usize) < width, "a column must lie in the matrix");
                let rises = sparse.columns[first..].last().is_none_or(|&last| last < column);
                assert!(rises, "the columns of a row must rise");
                sparse.columns.push(column);
                sparse.values.push(value);
            }
            sparse.starts.push(sparse.columns.len());
        }
        sparse
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Entries that are held.
    pub fn entries(&self) -> usize {
        self.columns.len()
    }

    /// Columns and values of a row.
    pub fn row(&self, row: usize) -> impl Iterator<Item = (u32, T)> {
        let range = self.range(row);
        self.columns[range.clone()].iter().copied().zip(self.values[range].iter().copied())
    }

    /// Where a row's entries stand among all.
    pub fn range(&self, row: usize) -> Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }

    /// First entry of each row, and behind them the number of entries.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Column of each entry.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// Value of each entry.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The same with other values at the same places, one for each entry.
    ///
    /// # Panics
    /// If there are not as many values as entries.
    pub fn with_values<U>(&self, values: Vec<U>) -> Sparse<U> {
        assert_eq!(values.len(), self.columns.len(), "every entry has a value");
        Sparse { starts: self.starts.clone(), columns: self.columns.clone(), values, width: self.width }
    }

    /// The given rows in the given order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        Self::from_rows(self.width, rows.iter().map(|&row| self.row(row)))
    }

    /// Rows and columns exchanged; the value of an entry becomes its place among the entries of `self`.
    pub fn transposed(&self) -> Sparse<u32> {
        let mut starts = vec![0; self.width + 1];
        self.columns.iter().for_each(|&column| starts[column as usize + 1] += 1);
        (0..self.width).for_each(|column| starts[column + 1] += starts[column]);
        let mut next = starts.clone();
        let (mut columns, mut values) = (vec![0; self.entries()], vec![0; self.entries()]);
        for row in 0..self.rows() {
            for entry in self.range(row) {
                let at = &mut next[self.columns[entry] as usize];
                (columns[*at], values[*at]) = (row as u32, entry as u32);
                *at += 1;
            }
        }
        Sparse { starts, columns, values, width: self.rows() }
    }
}

/// How the values of one set of nodes come from those of another, or of the same: a row for every node that receives,
/// a column for every node that sends.
#[derive(Debug)]
pub struct Propagation {
    coefficients: Sparse<u32>,
    /// The same as f32, and rows and columns exchanged, made at the first use.
    floats: OnceLock<Sparse<f32>>,
    back: OnceLock<Sparse<f32>>,
    places: OnceLock<Sparse<u32>>,
}

impl Propagation {
    /// Coefficients at scale `2^-30`.
    ///
    /// # Panics
    /// If one is above [`ONE`].
    pub fn new(coefficients: Sparse<u32>) -> Self {
        assert!(coefficients.values.iter().all(|&value| value <= ONE), "a coefficient is at most one");
        Self { coefficients, floats: OnceLock::new(), back: OnceLock::new(), places: OnceLock::new() }
    }

    /// Every receiver takes one sender as it is.
    pub fn choosing(senders: &[usize], of: usize) -> Self {
        Self::new(Sparse::from_rows(of, senders.iter().map(|&sender| [(sender as u32, ONE)])))
    }

    /// The means over the senders of each receiver; nothing where there is none (GraphSAGE, Hamilton et al. 2017).
    /// Columns must rise in every row.
    pub fn means<R: AsRef<[u32]>>(senders: impl IntoIterator<Item = R>, of: usize) -> Self {
        let rows = senders.into_iter().map(|row| {
            let row = row.as_ref();
            let share = round_ratio(u64::from(ONE), row.len().max(1) as u64) as u32;
            row.iter().map(|&sender| (sender, share)).collect::<Vec<_>>()
        });
        Self::new(Sparse::from_rows(of, rows))
    }

    /// The coefficients, as integers.
    pub fn coefficients(&self) -> &Sparse<u32> {
        &self.coefficients
    }

    /// Receivers.
    pub fn rows(&self) -> usize {
        self.coefficients.rows()
    }

    /// Senders.
    pub fn senders(&self) -> usize {
        self.coefficients.width()
    }

    /// Whether every node receives itself alone, as it is.
    pub fn is_identity(&self) -> bool {
        let Sparse { columns, values, width, .. } = &self.coefficients;
        self.rows() == *width
            && columns.len() == *width
            && columns.iter().enumerate().all(|(row, &column)| row == column as usize)
            && values.iter().all(|&value| value == ONE)
    }

    /// The coefficients as the nearest f32.
    pub fn floats(&self) -> &Sparse<f32> {
        self.floats.get_or_init(|| {
            // Exact: a division by a power of two.
            let float = |&value: &u32| value as f32 / ONE as f32;
            self.coefficients.with_values(self.coefficients.values.iter().map(float).collect())
        })
    }

    /// Rows and columns exchanged, with the place of each entry.
    pub fn places(&self) -> &Sparse<u32> {
        self.places.get_or_init(|| self.coefficients.transposed())
    }

    /// [`Propagation::floats`] with rows and columns exchanged.
    pub fn back(&self) -> &Sparse<f32> {
        self.back.get_or_init(|| {
            let (places, floats) = (self.places(), self.floats());
            places.with_values(places.values.iter().map(|&entry| floats.values[entry as usize]).collect())
        })
    }
}

/// `1 / sqrt(a b)` as a coefficient, rounded half up: what an edge between nodes of `a` and `b` neighbours, themselves
/// among them, weighs in a graph convolution (Kipf and Welling 2017). Integers only, the same on every machine.
///
/// # Panics
/// If either is 0.
pub fn symmetric_coefficient(a: usize, b: usize) -> u32 {
    let product = a as u128 * b as u128;
    assert!(product > 0, "a node is its own neighbour at least");
    // floor(2^31 / sqrt(ab)) is the root of floor(2^62 / ab); half up from there.
    (((1u128 << (2 * COEFFICIENT_BITS + 2)) / product).isqrt() as u32).div_ceil(2)
}

/// `weight / sqrt(a b)` as a coefficient, rounded half up and at most one: what an edge of this weight between nodes of
/// these weighed degrees weighs in a graph convolution. Products, quotients and roots as IEEE 754 has them, the same on
/// every machine; nothing of what is no number or negative.
pub fn weighed_coefficient(weight: f64, a: f64, b: f64) -> u32 {
    share_of_one(weight / (a * b).sqrt())
}

/// `weight / total` likewise: the share of a weight in a mean.
pub fn weighed_share(weight: f64, total: f64) -> u32 {
    share_of_one(weight / total)
}

fn share_of_one(share: f64) -> u32 {
    // A conversion to integers takes what is no number, or negative, for zero.
    ((share * f64::from(ONE) + 0.5).floor() as u32).min(ONE)
}

/// Nodes in rising order, with one more.
pub fn with_itself(list: &[u32], node: u32) -> Vec<u32> {
    let mut all = list.to_vec();
    all.insert(all.partition_point(|&neighbour| neighbour < node), node);
    all
}

fn round_ratio(a: u64, b: u64) -> u64 {
    (2 * a / b).div_ceil(2)
}

/// Features of nodes, as data gives them.
#[derive(Debug)]
pub struct Features {
    rows: usize,
    width: usize,
    kind: FeatureStorage,
    /// Rows and columns exchanged, made at the first use.
    places: OnceLock<Sparse<u32>>,
}

#[derive(Debug)]
enum FeatureStorage {
    Dense(Vec<f32>),
    Sparse(Sparse<f32>),
}

/// Share of entries that are not zero above which features are held densely: there a dense product is faster.
const DENSE: f64 = 0.25;

impl Features {
    /// Rows of `width` features, all given.
    ///
    /// # Panics
    /// If they are not whole rows.
    pub fn new(width: usize, values: Vec<f32>) -> Self {
        assert!(width > 0 && values.len().is_multiple_of(width), "features come in whole rows");
        let present = values.iter().filter(|&&value| value != 0.0).count();
        if present as f64 > DENSE * values.len() as f64 {
            return Self {
                rows: values.len() / width,
                width,
                kind: FeatureStorage::Dense(values),
                places: OnceLock::new(),
            };
        }
        let rows = values.chunks_exact(width).map(|row| {
            row.iter().enumerate().filter(|(_, value)| **value != 0.0).map(|(column, &value)| (column as u32, value))
        });
        Self::sparse(Sparse::from_rows(width, rows))
    }

    /// Rows of which only the given entries are not zero.
    pub fn sparse(entries: Sparse<f32>) -> Self {
        Self {
            rows: entries.rows(),
            width: entries.width(),
            kind: FeatureStorage::Sparse(entries),
            places: OnceLock::new(),
        }
    }

    /// Nodes.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Features of one.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Entries that are held.
    pub fn entries(&self) -> usize {
        match &self.kind {
            FeatureStorage::Dense(values) => values.len(),
            FeatureStorage::Sparse(entries) => entries.entries(),
        }
    }

    /// Whether all are finite.
    pub fn is_finite(&self) -> bool {
        let values = match &self.kind {
            FeatureStorage::Dense(values) => values,
            FeatureStorage::Sparse(entries) => &entries.values,
        };
        values.iter().all(|value| value.is_finite())
    }

    /// The features of one node.
    pub fn row(&self, row: usize) -> Vec<f32> {
        match &self.kind {
            FeatureStorage::Dense(values) => values[row * self.width..][..self.width].to_vec(),
            FeatureStorage::Sparse(entries) => {
                let mut values = vec![0.0; self.width];
                entries.row(row).for_each(|(column, value)| values[column as usize] = value);
                values
            }
        }
    }

    /// Those of the given nodes in the given order.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        match &self.kind {
            FeatureStorage::Sparse(entries) => Self::sparse(entries.select(rows)),
            FeatureStorage::Dense(values) => {
                let values = rows.iter().flat_map(|&row| &values[row * self.width..][..self.width]).copied().collect();
                Self {
                    rows: rows.len(),
                    width: self.width,
                    kind: FeatureStorage::Dense(values),
                    places: OnceLock::new(),
                }
            }
        }
    }

    /// The same where the columns of this list that are true are zero.
    ///
    /// # Panics
    /// If the list is not as long as there are columns.
    #[must_use]
    pub fn without(&self, columns: &[bool]) -> Self {
        assert_eq!(columns.len(), self.width, "every column is kept or not");
        match &self.kind {
            FeatureStorage::Sparse(entries) => {
                let kept = |row| entries.row(row).filter(|(column, _)| !columns[*column as usize]);
                Self::sparse(Sparse::from_rows(self.width, (0..self.rows).map(kept)))
            }
            FeatureStorage::Dense(values) => {
                let cells = values.iter().zip(columns.iter().cycle());
                let values = cells.map(|(&value, &gone)| if gone { 0.0 } else { value }).collect();
                Self {
                    rows: self.rows,
                    width: self.width,
                    kind: FeatureStorage::Dense(values),
                    places: OnceLock::new(),
                }
            }
        }
    }

    /// All entries row by row, where they are held densely.
    pub fn dense(&self) -> Option<&[f32]> {
        match &self.kind {
            FeatureStorage::Dense(values) => Some(values),
            FeatureStorage::Sparse(_) => None,
        }
    }

    /// The entries that are not zero, where only those are held.
    pub fn held_sparsely(&self) -> Option<&Sparse<f32>> {
        match &self.kind {
            FeatureStorage::Dense(_) => None,
            FeatureStorage::Sparse(entries) => Some(entries),
        }
    }

    /// Rows and columns of sparse features exchanged, with the place of each entry.
    pub fn places(&self) -> Option<&Sparse<u32>> {
        let entries = self.held_sparsely()?;
        Some(self.places.get_or_init(|| entries.transposed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coefficients_are_rounded_half_up() {
        for (a, b) in [(1, 1), (2, 2), (2, 3), (5, 170), (13_000, 13_000), (1, usize::MAX >> 34)] {
            let exact = f64::from(ONE) / ((a as f64) * (b as f64)).sqrt();
            let found = f64::from(symmetric_coefficient(a, b));
            assert!((found - exact).abs() <= 0.5 + 1e-6 * exact.max(1.0).log2(), "{a} {b}: {found} of {exact}");
        }
        assert_eq!(symmetric_coefficient(1, 1), ONE);
        assert_eq!(symmetric_coefficient(2, 2), ONE / 2);
        assert_eq!(Propagation::means([[0, 1, 2]], 3).coefficients().values(), [357_913_941; 3]);
        assert_eq!(Propagation::means([[0, 1]], 3).coefficients().values(), [ONE / 2; 2]);
    }

    #[test]
    fn exchanging_twice_gives_the_places_back() {
        let sparse = Sparse::from_rows(4, [vec![(0, 'a'), (3, 'b')], vec![], vec![(0, 'c')]]);
        let back = sparse.transposed();
        assert_eq!(back.starts(), [0, 2, 2, 2, 3]);
        assert_eq!((back.columns(), back.values()), (&[0, 2, 0][..], &[0, 2, 1][..]));
        let again = back.transposed();
        assert_eq!((again.starts(), again.columns()), (sparse.starts(), sparse.columns()));
        let named: Vec<char> =
            again.values().iter().map(|&at| sparse.values()[back.values()[at as usize] as usize]).collect();
        assert_eq!(named, ['a', 'b', 'c']);
    }

    #[test]
    fn features_are_held_by_what_they_are() {
        let few = Features::new(4, vec![0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let many = Features::new(2, vec![1.0, 2.0, 0.0, 3.0]);
        assert!(few.dense().is_none() && many.dense().is_some());
        assert_eq!((few.row(0), few.row(1)), (vec![0.0, 2.0, 0.0, 0.0], vec![0.0; 4]));
        assert_eq!(few.select(&[1, 0, 0]).row(2), few.row(0));
        assert_eq!(many.select(&[1, 0]).row(0), [0.0, 3.0]);
        assert_eq!(
            (many.without(&[true, false]).row(0), many.without(&[false, true]).row(1)),
            (vec![0.0, 2.0], vec![0.0; 2])
        );
        assert_eq!(few.without(&[false, true, false, false]).entries(), 0);
        assert_eq!(few.without(&[true, false, true, true]).row(0), few.row(0));
    }

    #[test]
    fn the_identity_is_told_from_other_choices() {
        assert!(Propagation::choosing(&[0, 1], 2).is_identity());
        assert!(!Propagation::choosing(&[1, 0], 2).is_identity() && !Propagation::choosing(&[0], 2).is_identity());
    }

    #[test]
    #[should_panic(expected = "the columns of a row must rise")]
    fn two_entries_at_one_place_are_refused() {
        Sparse::from_rows(2, [[(1, 1.0), (1, 2.0)]]);
    }
}
