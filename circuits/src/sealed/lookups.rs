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
    /// With the number of its first entry among those of all tables.
    tables: Vec<(LookupTable, usize)>,
    /// How many entries all tables have.
    entries: usize,
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

    /// The same of all entries of a table. One is little more than the one before it, and adding is faster than
    /// multiplying.
    pub(crate) fn denominators(&self, table: LookupTable) -> impl Iterator<Item = Fp> {
        let powers = [Fp::ONE, self.base, self.base.square()];
        let mut before = table.entries()[0];
        let mut denominator = self.denominator(table, before);
        table.entries().iter().map(move |entry| {
            for ((power, part), before) in powers.iter().zip(entry).zip(&mut before) {
                match part - std::mem::replace(before, *part) {
                    0 => {}
                    1 => denominator -= power,
                    more => denominator -= signed(more.into()) * power,
                }
            }
            denominator
        })
    }
}

impl Lookups {
    /// With so many columns a tree, where they are not the protocol's.
    pub(crate) fn new(arrangement: &Arrangement, width: Option<usize>) -> Self {
        let width = width.unwrap_or(1 << (TREE_LEAVES - arrangement.k));
        let columns = leaf_columns(arrangement);
        let mut entries = 0;
        let tables = arrangement.tables().into_iter().map(|table| {
            let first = entries;
            entries += table.entries().len();
            (table, first)
        });
        let tables = tables.collect();
        let mut lookups = Self { k: arrangement.k, columns, tables, entries, width, trees: Vec::new() };
        lookups.trees = FractionTree::all(arrangement.k, lookups.columns.len() + lookups.counts(), width);
        lookups
    }

    /// Columns that count how often entries of tables occur.
    pub(crate) fn counts(&self) -> usize {
        self.entries.div_ceil(useful_rows(self.k))
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
        for (table, planes) in &self.columns {
            let first = self.first(*table);
            for row in 0..rows {
                if let Some(at) = table.place(cells.entry(planes, row)[0]) {
                    counts[first + at] += 1;
                }
            }
        }
        counts.chunks(rows).map(|counts| counts.iter().map(|count| Fp::from(*count)).collect()).collect()
    }

    /// The number of a table's first entry among those of all tables.
    fn first(&self, table: LookupTable) -> usize {
        let own = self.tables.iter().find(|(other, _)| *other == table);
        own.expect("tables are those of columns").1
    }

    /// Denominators of all tables' cells, the last entry's to the end of its column.
    pub(crate) fn denominators(&self, fingerprint: Fingerprint) -> Vec<Fp> {
        let cells = self.counts() * useful_rows(self.k);
        let mut all = Vec::with_capacity(cells);
        all.extend(self.tables.iter().flat_map(|(table, _)| fingerprint.denominators(*table)));
        let last = all.last().copied().unwrap_or(Fp::ONE);
        all.resize(cells, last);
        all
    }

    /// The transcript of a tree begins here.
    pub(crate) fn transcript(&self, bound: &Digest, tree: &FractionTree, early: Option<Draw>) -> FiatShamir {
        let digest = Absorb::new(Tag::SealedTree).digest(bound).u32(tree.number as u32).finish();
        FiatShamir { digest, early }
    }

    /// Leaves of a tree, as functions of their numbers, with the denominators of all tables' cells.
    pub(crate) fn leaf<'a>(
        &'a self,
        tree: &'a FractionTree,
        cells: &'a Cells<'_>,
        counts: &'a [Vec<Fp>],
        (fingerprint, denominators): (Fingerprint, &'a [Fp]),
    ) -> impl Fn(usize) -> Fraction + Sync + 'a {
        let rows = useful_rows(self.k);
        let firsts: Vec<usize> = self.columns.iter().map(|(table, _)| self.first(*table)).collect();
        move |leaf: usize| {
            let (column, row) = (tree.number * self.width + (leaf >> self.k), leaf & ((1 << self.k) - 1));
            if row >= rows {
                return [Fp::ZERO, Fp::ONE];
            }
            if let Some(count) = column.checked_sub(self.columns.len()) {
                let own = counts[count].get(row).copied().unwrap_or_default();
                return [-own, denominators[count * rows + row]];
            }
            let (table, planes) = &self.columns[column];
            let entry = cells.entry(planes, row);
            // Forgers in tests have entries that are in no table.
            let known = table.place(entry[0]).filter(|at| table.entries()[*at] == entry);
            let known = known.map(|at| denominators[firsts[column] + at]);
            [Fp::ONE, known.unwrap_or_else(|| fingerprint.denominator(*table, entry))]
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
        let denominators = self.denominators(fingerprint);
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
                    let sum: Fp = denominators[count * rows..].iter().zip(&of_row).map(|(own, row)| *own * row).sum();
                    others += of_column * (sum - inside);
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
