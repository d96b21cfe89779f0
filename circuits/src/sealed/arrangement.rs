//! What is committed to, and where: cells of a byte or two, in planes, in groups, in columns.
//!
//! A *tensor* is rows of features whose values are linear in cells. A *group* holds tensors that are made of the same
//! kinds of cells, its *planes*, one after another; the cell of a plane at a row and a position has its place in a
//! column by these alone. A plan says nothing of values: prover and verifier make it from the network, the base, the
//! adapter's shapes and the statement.

use std::sync::Arc;

use super::tables::LookupTable;
use crate::layout::{Layout, MAX_K, SiteShape, useful_rows};

/// Bits of a limb.
pub(crate) const LIMB: u32 = 16;
/// Limbs of an activation.
pub(crate) const WORD_LIMBS: usize = 2;

/// So many rows: of tokens, of positions of a continuation, of receivers of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space(pub(crate) usize);

/// Sums of planes, or of columns, with a factor each: up to three.
pub(crate) type PlaneSums = Vec<Vec<(usize, i64)>>;

/// Sums of planes that are looked up together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LookupLeaf {
    pub(crate) table: LookupTable,
    pub(crate) entry: PlaneSums,
}

impl LookupLeaf {
    /// Of one plane alone.
    pub(crate) fn of(table: LookupTable, plane: usize) -> Self {
        Self { table, entry: vec![vec![(plane, 1)]] }
    }

    /// Of the planes of a number in limbs.
    pub(crate) fn limbs(table: LookupTable, first: usize, count: usize) -> impl Iterator<Item = Self> {
        (first..first + count).map(move |plane| Self::of(table, plane))
    }
}

/// Kinds of cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) planes: usize,
    pub(crate) leaves: Vec<LookupLeaf>,
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) space: Space,
    pub(crate) class: Class,
    /// Positions of a row.
    pub(crate) length: usize,
    /// Whether rows follow each other in one vector instead of having a column each.
    flat: bool,
    /// Rows of the vectors that are cut into columns: one if it is flat.
    pub(crate) lanes: usize,
    /// Entries of a lane.
    pub(crate) vector: usize,
    /// Columns of a plane of a lane.
    pub(crate) pieces: usize,
    /// The number of its first column among all of cells.
    pub(crate) first: usize,
}

impl Group {
    pub(crate) fn columns(&self) -> usize {
        self.pieces * self.lanes * self.class.planes
    }

    /// Lane, and place in its vector.
    pub(crate) fn place(&self, row: usize, position: usize) -> (usize, usize) {
        if self.flat { (0, row * self.length + position) } else { (row, position) }
    }

    /// The column of a piece of a plane of a lane.
    pub(crate) fn column(&self, piece: usize, lane: usize, plane: usize) -> usize {
        self.first + (piece * self.lanes + lane) * self.class.planes + plane
    }
}

/// Planes with a factor each.
pub(crate) type PlanePattern = Arc<[(usize, i128)]>;

/// Limbs that follow each other.
pub(crate) fn limbs(first: usize, count: usize) -> PlanePattern {
    (0..count).map(|limb| (first + limb, 1i128 << (LIMB as usize * limb))).collect()
}

/// Cells that a tensor is made of.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) group: usize,
    pub(crate) offset: usize,
    pub(crate) pattern: PlanePattern,
    /// Which rows of the group's space, if not all.
    pub(crate) rows: Option<Arc<[usize]>>,
}

/// Rows of features that are linear in cells.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub(crate) space: Space,
    pub(crate) width: usize,
    pub(crate) terms: Vec<Term>,
    /// What everybody knows, added.
    pub(crate) public: Option<Arc<Vec<i64>>>,
    /// Added to every entry.
    pub(crate) constant: i128,
}

impl Tensor {
    /// Features of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What all may know.
    pub(crate) fn public(space: Space, width: usize, values: Vec<i64>) -> Self {
        Self { space, width, terms: Vec::new(), public: Some(Arc::new(values)), constant: 0 }
    }
}

/// Cells of one operation, side by side in a group.
#[derive(Clone, Debug)]
pub(crate) struct CellSpan {
    pub(crate) group: usize,
    pub(crate) offset: usize,
    pub(crate) width: usize,
    pub(crate) space: Space,
}

impl CellSpan {
    /// The sum of some planes.
    pub(crate) fn tensor(&self, pattern: PlanePattern) -> Tensor {
        self.tensor_from(pattern, 0)
    }

    /// The same with something added to every entry.
    pub(crate) fn tensor_from(&self, pattern: PlanePattern, constant: i128) -> Tensor {
        let term = Term { group: self.group, offset: self.offset, pattern, rows: None };
        Tensor { space: self.space, width: self.width, terms: vec![term], public: None, constant }
    }

    pub(crate) fn plane(&self, plane: usize) -> Tensor {
        self.tensor(limbs(plane, 1))
    }
}

/// The adapter as far as it is public.
#[derive(Clone, Debug)]
pub(crate) struct Adapted {
    pub(crate) shapes: Vec<SiteShape>,
    pub(crate) layout: Layout,
}

/// Where all cells stand.
#[derive(Clone, Debug)]
pub(crate) struct Arrangement {
    pub(crate) k: u32,
    /// Rows of each space.
    pub(crate) spaces: Vec<usize>,
    pub(crate) groups: Vec<Group>,
    pub(crate) adapter: Adapted,
}

/// Groups as they stand in columns of `2^k` rows.
fn lay(k: u32, spaces: &[usize], groups: &[(Space, Class, usize)]) -> Vec<Group> {
    let rows = useful_rows(k);
    let mut first = 0;
    let group = |(space, class, length): &(Space, Class, usize)| {
        // Columns that are hardly filled cost as much as full ones.
        let flat = *length < rows;
        let (lanes, vector) = match flat {
            true => (1, spaces[space.0] * length),
            false => (spaces[space.0], *length),
        };
        let pieces = vector.div_ceil(rows);
        let (space, class, length) = (*space, class.clone(), *length);
        let group = Group { space, class, length, flat, lanes, vector, pieces, first };
        first += group.columns();
        group
    };
    groups.iter().map(group).collect()
}

/// Time of a row of the last proof, in units of 50 us of one core.
const ROW_COST: usize = 8;
/// Time of a column in the same unit, without its cells.
const COLUMN_COST: usize = 3;

impl Arrangement {
    /// Lays all groups out at the k that costs least, which is not below the adapter's.
    pub(crate) fn new(spaces: Vec<usize>, groups: Vec<(Space, Class, usize)>, adapter: Adapted) -> Self {
        let cost = |k: &u32| {
            let columns: usize = lay(*k, &spaces, &groups).iter().map(Group::columns).sum();
            (ROW_COST << *k) + COLUMN_COST * columns
        };
        let k = (adapter.layout.k..=MAX_K).min_by_key(cost).unwrap_or(MAX_K);
        Self { k, groups: lay(k, &spaces, &groups), spaces, adapter }
    }

    /// The same at another k.
    #[cfg(test)]
    pub(crate) fn at(self, k: u32) -> Self {
        let groups: Vec<_> = self.groups.into_iter().map(|group| (group.space, group.class, group.length)).collect();
        Self { k, groups: lay(k, &self.spaces, &groups), ..self }
    }

    pub(crate) fn rows(&self, space: Space) -> usize {
        self.spaces[space.0]
    }

    /// Columns of cells.
    pub(crate) fn columns(&self) -> usize {
        self.groups.iter().map(Group::columns).sum()
    }

    /// The tables that are used, in order.
    pub(crate) fn tables(&self) -> Vec<LookupTable> {
        let mut tables: Vec<LookupTable> =
            self.groups.iter().flat_map(|group| group.class.leaves.iter().map(|leaf| leaf.table)).collect();
        tables.sort_unstable();
        tables.dedup();
        tables
    }
}
