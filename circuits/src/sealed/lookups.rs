//! Every cell is in its table: sums of reciprocals, in trees of fractions (`STATEMENT.md`, section 6 has the argument
//! for one table).

use ff::Field;
use pasta_curves::{EqAffine, Fp};

use super::arrangement::{Arrangement, PlaneSums};
use super::cells::{Cells, leaf_columns};
use super::tables::{LookupTable, TableEntry};
use crate::conduct::Draw;
use crate::field::signed;
use crate::folding::Strip;
use crate::fractions::{Draws, Form, Fraction, FractionTree, LinearIdentity, equality};
use crate::hash::{Absorb, Digest, Tag};
use crate::layout::useful_rows;
use crate::messages::FiatShamir;

/// log2 of the most leaves of a tree.
const TREE_LEAVES: u32 = 22;
/// Bytes that a prover takes for a leaf of the tree that it is at: all levels, and halves of the lowest.
const LEAF_BYTES: u64 = 128;

/// All leaves: of columns of cells, then of tables.
pub(crate) struct Lookups {
    k: u32,
    columns: Vec<(LookupTable, PlaneSums)>,
    tables: Vec<LookupTable>,
    /// Entries of all tables, one after another, the last repeated to the end of its column.
    entries: Vec<(LookupTable, TableEntry)>,
    /// Columns of a tree, of which the last may have fewer.
    width: usize,
    pub(crate) trees: Vec<FractionTree>,
}

/// What an entry and its table are told apart by: X, and the base of the polynomial that its parts are coefficients of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fingerprint {
    pub(crate) point: Fp,
    pub(crate) base: Fp,
}

impl Fingerprint {
    /// X less the polynomial of an entry.
    pub(crate) fn denominator(&self, table: LookupTable, [key, second, third]: TableEntry) -> Fp {
        let tag = Fp::from(table.tag());
        let small = |value: i64| signed(value.into());
        let rest = small(second) + self.base * (small(third) + self.base * tag);
        self.point - small(key) - self.base * rest
    }
}

impl Lookups {
    /// With so many columns a tree, where they are not the protocol's.
    pub(crate) fn new(arrangement: &Arrangement, width: Option<usize>) -> Self {
        let width = width.unwrap_or(1 << (TREE_LEAVES - arrangement.k));
        let columns = leaf_columns(arrangement);
        let tables = arrangement.tables();
        let entries =
            tables.iter().flat_map(|table| table.entries().into_iter().map(|entry| (*table, entry))).collect();
        let mut lookups = Self { k: arrangement.k, columns, tables, entries, width, trees: Vec::new() };
        lookups.trees = FractionTree::all(arrangement.k, lookups.columns.len() + lookups.counts(), width);
        lookups
    }

    /// Columns that count how often entries of tables occur.
    pub(crate) fn counts(&self) -> usize {
        self.entries.len().div_ceil(useful_rows(self.k))
    }

    /// Bytes that a prover takes for the largest tree.
    pub(crate) fn bytes(&self) -> u64 {
        LEAF_BYTES * self.trees.iter().map(|tree| tree.active as u64).max().unwrap_or(0)
    }

    pub(crate) fn messages(&self) -> usize {
        self.trees.iter().map(FractionTree::messages).sum()
    }

    /// The number of the first scalar after those of the trees.
    pub(crate) fn sums_at(&self) -> usize {
        self.trees.last().map_or(0, |tree| tree.first + tree.scalars())
    }

    /// Scalars of messages, and of sums of the first two, three, .. trees.
    pub(crate) fn scalars(&self) -> usize {
        self.sums_at() + 2 * self.trees.len().saturating_sub(2)
    }

    /// How often each entry occurs, in columns. What is in no table is not counted.
    pub(crate) fn count(&self, cells: &Cells<'_>) -> Vec<Vec<Fp>> {
        let rows = useful_rows(self.k);
        let mut counts = vec![0u64; self.counts() * rows];
        let mut starts = Vec::new();
        let mut next = 0;
        for table in &self.tables {
            starts.push(next);
            next += table.entries().len();
        }
        let lengths: Vec<usize> = self.tables.iter().map(|table| table.entries().len()).collect();
        for (table, planes) in &self.columns {
            let number = self.tables.iter().position(|other| other == table).expect("tables are those of columns");
            for row in 0..rows {
                let [key, ..] = cells.entry(planes, row);
                let at = usize::try_from(key - table.least()).ok().filter(|at| *at < lengths[number]);
                if let Some(at) = at {
                    counts[starts[number] + at] += 1;
                }
            }
        }
        counts.chunks(rows).map(|counts| counts.iter().map(|count| Fp::from(*count)).collect()).collect()
    }

    fn table_entry(&self, cell: usize) -> &(LookupTable, TableEntry) {
        &self.entries[cell.min(self.entries.len() - 1)]
    }

    /// The transcript of a tree begins here.
    pub(crate) fn transcript(&self, bound: &Digest, tree: &FractionTree, early: Option<Draw>) -> FiatShamir {
        let digest = Absorb::new(Tag::SealedTree).digest(bound).u32(tree.number as u32).finish();
        FiatShamir { digest, early }
    }

    /// Leaves of a tree, as functions of their numbers.
    pub(crate) fn leaf<'a>(
        &'a self,
        tree: &'a FractionTree,
        cells: &'a Cells<'_>,
        counts: &'a [Vec<Fp>],
        fingerprint: Fingerprint,
    ) -> impl Fn(usize) -> Fraction + Sync + 'a {
        let rows = useful_rows(self.k);
        let denominators: Vec<Vec<(TableEntry, Fp)>> = self
            .tables
            .iter()
            .map(|table| {
                table.entries().into_iter().map(|entry| (entry, fingerprint.denominator(*table, entry))).collect()
            })
            .collect();
        let number_of = |table: &LookupTable| self.tables.iter().position(|other| other == table).unwrap_or_default();
        let numbers: Vec<usize> = self.columns.iter().map(|(table, _)| number_of(table)).collect();
        move |leaf: usize| {
            let (column, row) = (tree.number * self.width + (leaf >> self.k), leaf & ((1 << self.k) - 1));
            if row >= rows {
                return [Fp::ZERO, Fp::ONE];
            }
            if let Some(count) = column.checked_sub(self.columns.len()) {
                let (table, entry) = self.table_entry(count * rows + row);
                let own = counts[count].get(row).copied().unwrap_or_default();
                return [-own, fingerprint.denominator(*table, *entry)];
            }
            let (table, planes) = &self.columns[column];
            let entry = cells.entry(planes, row);
            let known = usize::try_from(entry[0] - table.least()).ok();
            let known = known.and_then(|at| denominators[numbers[column]].get(at)).filter(|known| known.0 == entry);
            [Fp::ONE, known.map_or_else(|| fingerprint.denominator(*table, entry), |known| known.1)]
        }
    }

    /// That every level of every tree follows from the one below it, and that all roots together are zero.
    pub(crate) fn identities(&self, draws: &[Draws]) -> Vec<LinearIdentity> {
        let levels = self.trees.iter().zip(draws).flat_map(|(tree, draws)| draws.identities(tree));
        let mut identities: Vec<LinearIdentity> = levels.collect();
        identities.extend(crate::fractions::whole(&self.trees, self.sums_at()));
        identities
    }

    /// Appends what only this prover knows: sums of the first two, three, .. trees.
    pub(crate) fn add_sums(&self, scalars: &mut Vec<Fp>) {
        crate::fractions::add_sums(&self.trees, scalars);
    }

    /// What the leaves' claims come to: a strip for each tree, and what is constant. `claim` takes a claim on a
    /// numerator or a denominator and says with what weight.
    pub(crate) fn strips(
        &self,
        draws: &[Draws],
        fingerprint: Fingerprint,
        (of_cells, of_counts): (usize, usize),
        claim: &mut dyn FnMut(&Form) -> Fp,
    ) -> (Vec<Strip>, Fp) {
        let rows = useful_rows(self.k);
        let mut strips = Vec::new();
        let mut constant = Fp::ZERO;
        for (tree, draws) in self.trees.iter().zip(draws) {
            let point = draws.point(tree.depth);
            let (of_column, of_row) = point.split_at(tree.depth - self.k as usize);
            let (of_column, mut of_row) = (equality(of_column), equality(of_row));
            of_row.truncate(rows);
            let inside: Fp = of_row.iter().sum();
            let [numerator, denominator] = draws.claims(tree, tree.depth);
            let [by_numerator, by_denominator] = [claim(&numerator), claim(&denominator)];
            // n = sum_cells eq inside - sum_counts < m, eq >, d = 1 + sum_cells eq ((X - 1) inside - < entry, eq >)
            // + sum_tables eq < X - 1 - entry, eq >.
            let begin = tree.number * self.width;
            let mut weights = vec![Fp::ZERO; of_counts + self.counts()];
            let mut others = Fp::ONE;
            for (column, of_column) in (begin..begin + (tree.active >> self.k)).zip(of_column) {
                if let Some(count) = column.checked_sub(self.columns.len()) {
                    let cells = (count * rows..).zip(&of_row);
                    let sum: Fp = cells
                        .map(|(cell, row)| {
                            let (table, entry) = self.table_entry(cell);
                            (fingerprint.denominator(*table, *entry) - Fp::ONE) * row
                        })
                        .sum();
                    others += of_column * sum;
                    weights[of_counts + count] += by_numerator * of_column;
                    continue;
                }
                let (table, planes) = &self.columns[column];
                let nothing = fingerprint.denominator(*table, [0; 3]) - Fp::ONE;
                constant += of_column * inside * (by_numerator + by_denominator * nothing);
                let mut power = by_denominator * of_column;
                for part in planes {
                    for (plane, factor) in part {
                        weights[of_cells + plane] += power * signed((*factor).into());
                    }
                    power *= fingerprint.base;
                }
            }
            constant += by_denominator * others;
            let first = weights.iter().position(|weight| *weight != Fp::ZERO).unwrap_or(weights.len());
            let weights = weights.split_off(first);
            strips.push(Strip { first, weights, coefficients: of_row });
        }
        (strips, -constant)
    }
}

/// Points of trees in order.
pub(crate) fn follow(
    lookups: &Lookups,
    bound: &Digest,
    messages: &[EqAffine],
    early: Option<Draw>,
) -> (Vec<Draws>, Vec<Digest>) {
    let mut rest = messages;
    let mut digests = Vec::new();
    let draws = lookups.trees.iter().map(|tree| {
        let (own, others) = rest.split_at(tree.messages());
        rest = others;
        let mut transcript = lookups.transcript(bound, tree, early);
        let draws = Draws::follow(tree, &mut transcript, own);
        digests.push(transcript.digest);
        draws
    });
    let draws = draws.collect();
    (draws, digests)
}
