//! Packing: several sequences in one row, so that rows are about equally long and steps cost about the same. The
//! sequences of a row do not see each other, which makes a packed run's loss and gradients those of the sequences.

use std::collections::BTreeSet;

use super::encode::ScoredSequence;

/// Rows of at most `room` ids that hold all sequences, none of which is longer: each sequence, the longest first, goes
/// where it leaves the least room (best fit decreasing).
pub fn pack(sequences: Vec<ScoredSequence>, room: usize) -> Vec<ScoredSequence> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(sequences[index].ids.len()));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    // Room left, row.
    let mut open: BTreeSet<(usize, usize)> = BTreeSet::new();
    for index in order {
        let length = sequences[index].ids.len();
        let (left, row) = open.range((length, 0)..).next().copied().unwrap_or((room.max(length), rows.len()));
        open.remove(&(left, row));
        if row == rows.len() {
            rows.push(Vec::new());
        }
        rows[row].push(index);
        open.insert((left - length, row));
    }
    let mut sequences: Vec<Option<ScoredSequence>> = sequences.into_iter().map(Some).collect();
    let mut take = |index: usize| sequences[index].take().expect("every index stands in one row");
    rows.into_iter().map(|row| ScoredSequence::packed(row.into_iter().map(&mut take))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequences(lengths: &[usize]) -> Vec<ScoredSequence> {
        let make = |(index, &length): (usize, &usize)| ScoredSequence::new(vec![index as u32; length], |_| true);
        lengths.iter().enumerate().map(make).collect()
    }

    /// Which sequences each row holds.
    fn contents(rows: &[ScoredSequence]) -> Vec<Vec<u32>> {
        rows.iter().map(|row| row.texts().map(|(ids, _)| ids[0]).collect()).collect()
    }

    #[test]
    fn each_sequence_goes_where_it_fits_best() {
        let rows = pack(sequences(&[3, 7, 5, 2, 4, 10, 3]), 10);
        assert_eq!(contents(&rows), [vec![5], vec![1, 0], vec![2, 4], vec![6, 3]]);
        assert_eq!(rows.iter().map(|row| row.ids.len()).collect::<Vec<_>>(), [10, 10, 9, 5]);
        assert_eq!(contents(&pack(sequences(&[2, 2, 2]), 4)), [vec![0, 1], vec![2]]);
        assert!(pack(Vec::new(), 4).is_empty());
    }

    #[test]
    fn nothing_is_lost_and_no_first_id_is_scored() {
        let lengths: Vec<usize> = (0..97).map(|i| 1 + (i * 37) % 16).collect();
        let rows = pack(sequences(&lengths), 16);
        let mut all: Vec<(u32, usize)> =
            rows.iter().flat_map(|row| row.texts().map(|(ids, _)| (ids[0], ids.len()))).collect();
        all.sort_unstable();
        assert_eq!(all, lengths.iter().enumerate().map(|(i, &l)| (i as u32, l)).collect::<Vec<_>>());
        for row in &rows {
            assert!(row.ids.len() <= 16);
            assert_eq!(row.items(), row.ids.len() - row.texts().count());
        }
        let tokens: usize = lengths.iter().sum();
        assert!(rows.len() <= tokens.div_ceil(16) + 2, "{} rows", rows.len());
    }
}
