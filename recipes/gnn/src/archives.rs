//! Archives of NumPy arrays by other names than PyG's: sparse matrices row by row, as Shchur et al. (2018) published
//! graphs that DGL and PyG download, and lists of edges with several splits, as Platonov et al. (2023) did.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::GraphError;
use super::npz::{Array, Values};

type Arrays = BTreeMap<String, Array>;

/// The same arrays under PyG's names; those that have them already come back as they are.
///
/// # Errors
/// Matrices that are malformed; several splits, of which none is meant.
pub fn by_their_names(path: &Path, mut arrays: Arrays) -> Result<Arrays, GraphError> {
    for mark in ["adj_", "adj_matrix."] {
        if arrays.contains_key(&format!("{mark}indptr")) {
            return by_rows(path, arrays, mark);
        }
    }
    if arrays.contains_key("edges") && arrays.contains_key("node_labels") {
        for (theirs, ours) in [("node_features", "x"), ("node_labels", "y")] {
            arrays.remove(theirs).map(|array| arrays.insert(ours.to_owned(), array));
        }
        let edges = arrays.remove("edges").map(|edges| turned(path, edges)).transpose()?;
        edges.map(|edges| arrays.insert("edge_index".to_owned(), edges));
        for (theirs, ours) in [("train_masks", "train_mask"), ("val_masks", "val_mask"), ("test_masks", "test_mask")] {
            let Some(mut masks) = arrays.remove(theirs) else { continue };
            if let [splits, nodes] = masks.shape[..] {
                if splits != 1 {
                    let error =
                        GraphError::at(path, format!(":{theirs}"), format!("holds {splits} splits, one is read"));
                    return Err(error.hinted("keep one of them in all three masks, such as train_masks[:1]"));
                }
                masks.shape = vec![nodes];
            }
            arrays.insert(ours.to_owned(), masks);
        }
    }
    Ok(arrays)
}

/// Edges (2, edges) of edges (edges, 2).
fn turned(path: &Path, edges: Array) -> Result<Array, GraphError> {
    let wrong = || GraphError::at(path, ":edges", format!("must be integers (edges, 2), not {:?}", edges.shape));
    let (Values::Integers(ends), &[count, 2]) = (&edges.values, edges.shape.as_slice()) else { return Err(wrong()) };
    let end = |end: usize| ends.iter().skip(end).step_by(2).copied();
    Ok(Array { shape: vec![2, count], values: Values::Integers(end(0).chain(end(1)).collect()) })
}

/// A matrix of which every row's entries stand one after another.
struct RowMatrix {
    shape: [usize; 2],
    starts: Vec<usize>,
    columns: Vec<i64>,
    values: Option<Values>,
}

impl RowMatrix {
    fn take(path: &Path, arrays: &mut Arrays, mark: &str) -> Result<Self, GraphError> {
        let mut part = |name: &str| arrays.remove(&format!("{mark}{name}"));
        let wrong = |message: &str| GraphError::at(path, format!(":{mark}indptr"), message);
        let integers = |array: Option<Array>, name: &str| match array.map(|array| array.values) {
            Some(Values::Integers(values)) => Ok(values),
            _ => Err(GraphError::at(path, format!(":{mark}{name}"), "must be integers")),
        };
        let shape = integers(part("shape"), "shape")?;
        let (starts, columns) = (integers(part("indptr"), "indptr")?, integers(part("indices"), "indices")?);
        let values = part("data").map(|array| array.values);
        let [rows, width] = shape[..] else { return Err(wrong("is not the matrix of two axes that its shape says")) };
        let size = |value: i64| usize::try_from(value).map_err(|_| wrong("holds a negative number"));
        let shape = [size(rows)?, size(width)?];
        let starts: Vec<usize> = starts.into_iter().map(size).collect::<Result<_, _>>()?;
        let whole = starts.len() == shape[0].saturating_add(1)
            && starts.first() == Some(&0)
            && starts.last() == Some(&columns.len())
            && starts.is_sorted();
        let inside = columns.iter().all(|&column| usize::try_from(column).is_ok_and(|column| column < shape[1]));
        let told = values.as_ref().is_none_or(|values| values.len() == columns.len());
        match whole && inside && told {
            true => Ok(Self { shape, starts, columns, values }),
            false => Err(wrong("does not fit its matrix")),
        }
    }

    /// Row and place of every entry.
    fn entries(&self) -> impl Iterator<Item = (usize, usize)> {
        self.starts.windows(2).enumerate().flat_map(|(row, ends)| (ends[0]..ends[1]).map(move |at| (row, at)))
    }
}

/// Most entries of features that are spread out: beyond any such archive that is published.
const MOST_ENTRIES: usize = 1 << 31;
/// Of so many entries one is given at least; of words of a paper it is one of a hundred or two.
const LEAST_FILLED: usize = 512;

fn by_rows(path: &Path, mut arrays: Arrays, mark: &str) -> Result<Arrays, GraphError> {
    let adjacency = RowMatrix::take(path, &mut arrays, mark)?;
    let sources: Vec<i64> = adjacency.entries().map(|(row, _)| row as i64).collect();
    let count = sources.len();
    let ends = sources.into_iter().chain(adjacency.columns.iter().copied()).collect();
    let ones = adjacency.values.as_ref().is_none_or(|values| (0..count).all(|at| values.number(at) == 1.0));
    if !ones {
        let values = adjacency.values.ok_or_else(|| GraphError::malformed(path, "holds no weights"))?;
        arrays.insert("edge_attr".to_owned(), Array { shape: vec![count], values });
    }
    arrays.insert("edge_index".to_owned(), Array { shape: vec![2, count], values: Values::Integers(ends) });
    let features = mark.replace("adj", "attr");
    if arrays.contains_key(&format!("{features}indptr")) {
        let matrix = RowMatrix::take(path, &mut arrays, &features)?;
        let [rows, width] = matrix.shape;
        let size = rows.checked_mul(width).filter(|&size| size <= MOST_ENTRIES);
        let size =
            size.ok_or_else(|| GraphError::malformed(path, format!("features of {rows} times {width} are too many")))?;
        // No archive of a few bytes may ask for memory that nothing in it fills.
        if size / LEAST_FILLED > matrix.columns.len().max(LEAST_FILLED) {
            return Err(GraphError::malformed(
                path,
                format!("features of {rows} times {width}, and hardly any is given"),
            ));
        }
        let mut values = vec![0.0f32; size];
        for (row, at) in matrix.entries() {
            values[row * width + matrix.columns[at] as usize] =
                matrix.values.as_ref().map_or(1.0, |values| values.number(at)) as f32;
        }
        arrays.insert("x".to_owned(), Array { shape: vec![rows, width], values: Values::Floats(values) });
    }
    if let Some(labels) = arrays.remove("labels") {
        arrays.insert("y".to_owned(), labels);
    }
    Ok(arrays)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integers(shape: &[usize], values: &[i64]) -> Array {
        Array { shape: shape.to_vec(), values: Values::Integers(values.to_vec()) }
    }

    fn named(arrays: &[(&str, Array)]) -> Result<Arrays, String> {
        let arrays = arrays.iter().map(|(name, array)| ((*name).to_owned(), array.clone())).collect();
        by_their_names(Path::new("g.npz"), arrays).map_err(|error| error.to_string())
    }

    /// Edges 0-2, 1-0, 1-2 and two features.
    fn rows() -> Vec<(&'static str, Array)> {
        vec![
            ("adj_data", Array { shape: vec![3], values: Values::Floats(vec![1.0; 3]) }),
            ("adj_indices", integers(&[3], &[2, 0, 2])),
            ("adj_indptr", integers(&[4], &[0, 1, 3, 3])),
            ("adj_shape", integers(&[2], &[3, 3])),
            ("attr_data", Array { shape: vec![2], values: Values::Floats(vec![0.5, 2.0]) }),
            ("attr_indices", integers(&[2], &[1, 0])),
            ("attr_indptr", integers(&[4], &[0, 1, 1, 2])),
            ("attr_shape", integers(&[2], &[3, 2])),
            ("labels", integers(&[3], &[0, 1, 1])),
        ]
    }

    #[test]
    fn sparse_rows_become_edges_and_features() {
        let found = named(&rows()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["edge_index", "x", "y"]);
        assert_eq!(found["edge_index"], integers(&[2, 3], &[0, 1, 1, 2, 0, 2]));
        assert_eq!(found["x"].values, Values::Floats(vec![0.0, 0.5, 0.0, 0.0, 2.0, 0.0]));
        let mut weighed = rows();
        weighed[0].1.values = Values::Floats(vec![1.0, 3.0, 1.0]);
        assert_eq!(named(&weighed).unwrap()["edge_attr"].shape, [3]);
        let refused = |at: usize, values: &[i64]| {
            let mut broken = rows();
            broken[at].1.values = Values::Integers(values.to_vec());
            named(&broken).unwrap_err()
        };
        assert_eq!(refused(2, &[0, 3, 1, 3]), "g.npz:adj_indptr: does not fit its matrix");
        assert_eq!(refused(1, &[2, 0, 3]), "g.npz:adj_indptr: does not fit its matrix");
        assert_eq!(refused(3, &[3, -3]), "g.npz:adj_indptr: holds a negative number");
        assert_eq!(refused(7, &[3, 1 << 40]), "g.npz: features of 3 times 1099511627776 are too many");
        assert_eq!(refused(7, &[3, 1 << 20]), "g.npz: features of 3 times 1048576, and hardly any is given");
    }

    #[test]
    fn one_of_several_splits_must_be_meant() {
        let masks = |splits: usize| Array { shape: vec![splits, 2], values: Values::Flags(vec![true; 2 * splits]) };
        let edges = ("edges", integers(&[2, 2], &[0, 1, 1, 0]));
        let labels = ("node_labels", integers(&[2], &[1, 0]));
        let found = named(&[edges.clone(), labels.clone(), ("train_masks", masks(1))]).unwrap();
        assert_eq!(found["edge_index"], integers(&[2, 2], &[0, 1, 1, 0]));
        assert_eq!((found["train_mask"].shape.as_slice(), found["y"].shape.as_slice()), (&[2][..], &[2][..]));
        let refused = named(&[edges, labels.clone(), ("train_masks", masks(10))]).unwrap_err();
        assert_eq!(refused, "g.npz:train_masks: holds 10 splits, one is read");
        let flat = named(&[("edges", integers(&[4], &[0, 1, 1, 0])), labels]).unwrap_err();
        assert_eq!(flat, "g.npz:edges: must be integers (edges, 2), not [4]");
    }
}
