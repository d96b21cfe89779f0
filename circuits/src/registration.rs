//! Registration: every committed entry is a signed 16-bit integer (`STATEMENT.md`, section 6).

use ff::{Field, PrimeField};
use pasta_curves::{EqAffine, Fp};
use rand_chacha::ChaCha20Rng;

use crate::bytes::{EncodingError, Reader};
#[cfg(test)]
use crate::check::never;
use crate::check::{Check, Checks, Stop, go_on};
use crate::columns::{Committed, append_points, commit_columns, read_points};
use crate::commitment::{AdapterCommitment, Opening, SiteFactors, arrange};
use crate::conduct::{Conduct, Draw, HONEST, Label};
use crate::entropy::{fork, fresh_generator};
use crate::error::{CheckFailed, ProveError};
use crate::field::powers;
use crate::folding::{Column, Folding, Spread, Strip, Witness};
use crate::fractions::{self, Draws, Form, Fraction, FractionTree, LinearIdentity, equality};
use crate::hash::{Absorb, Digest, Tag};
use crate::key::{CommitmentKey, MESSAGE_ROWS};
use crate::layout::{OFFSET, useful_rows};
use crate::link::{self, LINK_BYTES, LinkSubject};
use crate::messages::{FiatShamir, Sender};

const KIND: u8 = 1;
/// log2 of the most leaves of a tree, of which a prover takes some 64 bytes each.
const TREE_LEAVES: u32 = 22;
/// Entries of the table: all 16-bit integers.
const TABLE: usize = 1 << 16;

/// All sizes: a function of the number of columns and of k.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    k: u32,
    /// Columns of the commitment, which are followed by those of the table.
    columns: usize,
    /// Columns of a tree, of which the last may have fewer.
    width: usize,
    pub(crate) trees: Vec<FractionTree>,
}

impl Shape {
    pub(crate) fn new(commitment: &AdapterCommitment) -> Self {
        Self::of(commitment.k(), commitment.points.len(), 1 << (TREE_LEAVES - commitment.k()))
    }

    pub(crate) fn of(k: u32, columns: usize, width: usize) -> Self {
        let mut shape = Self { k, columns, width, trees: Vec::new() };
        shape.trees = FractionTree::all(k, columns + shape.tables(), width);
        shape
    }

    /// Columns that count how often the table's entries occur.
    pub(crate) fn tables(&self) -> usize {
        TABLE.div_ceil(useful_rows(self.k))
    }

    /// The column and the row of a leaf.
    fn leaf(&self, tree: &FractionTree, leaf: usize) -> (usize, usize) {
        (tree.number * self.width + (leaf >> self.k), leaf & ((1 << self.k) - 1))
    }

    pub(crate) fn messages(&self) -> usize {
        self.trees.iter().map(FractionTree::messages).sum()
    }

    /// The number of the first scalar after those of the trees: of the sums of the first two, three, .. trees.
    pub(crate) fn sums_at(&self) -> usize {
        self.trees.last().map_or(0, |tree| tree.first + tree.scalars())
    }

    /// Columns of one row for each scalar.
    fn scalar_columns(&self) -> usize {
        let sums = 2 * self.trees.len().saturating_sub(2);
        (self.sums_at() + sums).div_ceil(useful_rows(self.k))
    }
}

/// The entry of the table's cell: there are some more cells than integers, which stand for the last one.
pub(crate) fn table_entry(cell: usize) -> Fp {
    Fp::from(cell.min(TABLE - 1) as u64) - Fp::from(OFFSET)
}

/// X less the entry of each of the table's cells: one less than the one before, until there are no more integers.
pub(crate) fn table_denominators(point: Fp, cells: usize) -> Vec<Fp> {
    let entries = std::iter::successors(Some(point - table_entry(0)), |last| Some(*last - Fp::ONE));
    let mut all: Vec<Fp> = entries.take(TABLE).collect();
    let last = all[TABLE - 1];
    all.resize(cells, last);
    all
}

/// The table's cell for an entry.
fn table_cell(entry: &Fp) -> Option<usize> {
    let repr = (*entry + Fp::from(OFFSET)).to_repr();
    let low = usize::from(u16::from_le_bytes([repr[0], repr[1]]));
    repr[2..].iter().all(|byte| *byte == 0).then_some(low)
}

/// What follows from the commitments to the counts: X, and L1.
fn table_draw(adapter: &Digest, counts: &[EqAffine], early: Option<Draw>) -> (Fp, Digest) {
    let before = || Absorb::new(Tag::RegistrationTable).digest(adapter);
    let [point] = if Draw::Table.is_early(early) { before() } else { before().points(counts) }.challenges();
    (point, before().points(counts).finish())
}

/// The transcript of a tree begins here.
fn tree_transcript(bound: &Digest, tree: &FractionTree, early: Option<Draw>) -> FiatShamir {
    let digest = Absorb::new(Tag::RegistrationTree).digest(bound).u32(tree.number as u32).finish();
    FiatShamir { digest, early }
}

/// All challenges before the last ones.
pub(crate) struct Drawn {
    /// X
    pub(crate) point: Fp,
    /// L1: a digest of adapter and counts.
    begun: Digest,
    /// Digest of everything up to the last message.
    bound: Digest,
    pub(crate) trees: Vec<Draws>,
}

impl Drawn {
    pub(crate) fn follow(
        shape: &Shape,
        adapter: &Digest,
        counts: &[EqAffine],
        messages: &[EqAffine],
        early: Option<Draw>,
    ) -> Self {
        let (point, bound) = table_draw(adapter, counts, early);
        let mut rest = messages;
        let mut hash = Absorb::new(Tag::RegistrationMessages).digest(&bound);
        let mut trees = Vec::new();
        for tree in &shape.trees {
            let (own, others) = rest.split_at(tree.messages());
            rest = others;
            let mut transcript = tree_transcript(&bound, tree, early);
            trees.push(Draws::follow(tree, &mut transcript, own));
            hash = hash.digest(&transcript.digest);
        }
        Self { point, begun: bound, bound: hash.finish(), trees }
    }

    /// That every level of every tree follows from the one below it, and that all roots together are zero.
    fn identities(&self, shape: &Shape) -> Vec<LinearIdentity> {
        let levels = shape.trees.iter().zip(&self.trees).flat_map(|(tree, draws)| draws.identities(tree));
        levels.chain(fractions::whole(&shape.trees, shape.sums_at())).collect()
    }

    /// xi, eta, kappa and zeta, drawn after M, U and V.
    fn late(&self, after: Absorb, early: Option<Draw>) -> [Fp; 4] {
        let challenges: [Fp; 4] = after.challenges();
        std::array::from_fn(|i| if Draw::SUMS[i].is_early(early) { self.known()[i] } else { challenges[i] })
    }

    /// The same as a forger in a test knows them who did not commit to anything that they should wait for: kappa weighs
    /// what the messages say, and is known before them.
    pub(crate) fn known(&self) -> [Fp; 4] {
        let hash = || Absorb::new(Tag::RegistrationSums);
        let [xi, eta, _, zeta] = hash().digest(&self.bound).challenges();
        let [_, _, kappa, _] = hash().digest(&self.begun).challenges();
        [xi, eta, kappa, zeta]
    }

    /// The one equation that all of it comes to, once the commitments to scalars and factors are known.
    fn folding(
        &self,
        shape: &Shape,
        identities: &[LinearIdentity],
        columns: &[EqAffine],
        early: Option<Draw>,
    ) -> Folding {
        let rows = useful_rows(shape.k);
        let hash = || Absorb::new(Tag::RegistrationSums);
        let after = || hash().digest(&self.bound).points(columns);
        let [xi, eta, kappa, zeta] = self.late(after(), early);

        let mut scalars = vec![Fp::ZERO; shape.scalar_columns() * rows];
        let mut start = Fp::ZERO;
        let weights = powers(kappa, identities.len() + 2 * shape.trees.len());
        let (products, factors) = fractions::weigh(identities.iter().zip(weights.iter().copied()), zeta, &mut scalars);
        let mut weights = weights[identities.len()..].iter().copied();
        let mut weight = || weights.next().expect("two for each tree");
        let mut add = |form: &Form, weight: Fp| form.iter().for_each(|(at, factor)| scalars[*at] += weight * factor);

        let mut strips = Vec::new();
        let denominators = table_denominators(self.point, shape.tables() * rows);
        for (tree, draws) in shape.trees.iter().zip(&self.trees) {
            let point = draws.point(tree.depth);
            let (of_column, of_row) = point.split_at(tree.depth - shape.k as usize);
            let (of_column, mut of_row) = (equality(of_column), equality(of_row));
            of_row.truncate(rows);
            let inside: Fp = of_row.iter().sum();
            let [numerator, denominator] = draws.claims(tree, tree.depth);
            let [by_numerator, by_denominator] = [weight(), weight()];
            add(&numerator, by_numerator);
            add(&denominator, by_denominator);
            // n = sum_entries eq inside - < m, eq >, and d = 1 + sum_entries eq ((X - 1) inside - < w, eq >)
            // + sum_tables < X - 1 - t, eq >.
            let (mut entries, mut others) = (Fp::ZERO, Fp::ONE);
            let begin = tree.number * shape.width;
            let mut of_columns = Vec::with_capacity(tree.active >> shape.k);
            for (column, of_column) in (begin..begin + (tree.active >> shape.k)).zip(of_column) {
                let Some(table) = column.checked_sub(shape.columns) else {
                    entries += of_column;
                    of_columns.push(by_denominator * of_column);
                    continue;
                };
                let sum: Fp = denominators[table * rows..].iter().zip(&of_row).map(|(own, row)| *own * row).sum();
                others += of_column * (sum - inside);
                of_columns.push(by_numerator * of_column);
            }
            let inside = entries * inside;
            start -= by_numerator * inside + by_denominator * (others + inside * (self.point - Fp::ONE));
            strips.push(Strip { first: begin, weights: of_columns, coefficients: of_row });
        }

        // The messages hold what M holds.
        let of_row: Vec<Fp> = powers(eta, MESSAGE_ROWS).iter().map(|power| eta * power).collect();
        let of_message = powers(xi, shape.messages());
        let mut at = 0;
        for (size, weight) in shape.trees.iter().flat_map(FractionTree::sizes).zip(&of_message) {
            for of_row in &of_row[..size] {
                scalars[at] -= *weight * of_row;
                at += 1;
            }
        }
        let mut first = shape.columns + shape.tables();
        strips.push(Strip { first, weights: of_message, coefficients: of_row });
        first += shape.messages();
        // Nothing is claimed of it: whoever proves knows what is in each of these columns.
        let opened = powers(xi, shape.columns + shape.tables());
        strips.push(Strip { first: 0, weights: opened, coefficients: Vec::new() });
        for coefficients in scalars.chunks(rows).chain(factors.iter().flat_map(|column| column.chunks(rows))) {
            strips.push(Strip { first, weights: vec![Fp::ONE], coefficients: coefficients.to_vec() });
            first += 1;
        }
        let products = products.chunks(rows).map(<[Fp]>::to_vec).collect();
        let spread = Spread::default();
        Folding { k: shape.k, strips, products, start, spread, bound: after().finish(), early }
    }
}

fn subject(adapter: Digest) -> LinkSubject {
    LinkSubject { kind: KIND, anchor: adapter, adapter }
}

/// Proves that a commitment is to 16-bit entries. The result is the link, then the proof.
///
/// `progress` is called with (parts done, parts) before the first and after each.
///
/// # Errors
/// If factors or opening are not the commitment's.
pub fn register(
    key: &CommitmentKey,
    commitment: &AdapterCommitment,
    opening: &Opening,
    factors: &[SiteFactors],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<u8>, ProveError> {
    commitment.check_key(key).map_err(ProveError::Public)?;
    commitment.check_secret(opening, factors)?;
    let columns = arrange(&commitment.layout, factors);
    register_columns(key, commitment, opening, &columns, progress, HONEST, fresh_generator()?)
}

/// Registers columns as [`arrange`] makes them; forgers in tests pass others, and conduct themselves otherwise.
pub(crate) fn register_columns(
    key: &CommitmentKey,
    commitment: &AdapterCommitment,
    opening: &Opening,
    columns: &[Vec<Fp>],
    progress: &mut dyn FnMut(usize, usize),
    conduct: Conduct<'_>,
    mut random: ChaCha20Rng,
) -> Result<Vec<u8>, ProveError> {
    let mut shape = Shape::new(commitment);
    if let Some(width) = conduct.width {
        shape = Shape::of(shape.k, shape.columns, width);
    }
    let rows = useful_rows(shape.k);
    let adapter = commitment.digest();
    progress(0, shape.trees.len() + 1);

    let mut counts = vec![0u64; shape.tables() * rows];
    for cell in columns.iter().flatten().filter_map(table_cell) {
        counts[cell] += 1;
    }
    let mut counts: Vec<Vec<Fp>> =
        counts.chunks(rows).map(|counts| counts.iter().map(|count| Fp::from(*count)).collect()).collect();
    conduct.pass(Label::Count, &mut counts);
    let counted = commit_columns(key, &counts, &mut random);
    let mut points: Vec<EqAffine> = counted.iter().map(|column| column.point).collect();
    let (point, bound) = table_draw(&adapter, &points, conduct.early);

    let (mut scalars, mut messages) = (Vec::new(), Vec::new());
    let denominators = table_denominators(point, shape.tables() * rows);
    for tree in &shape.trees {
        let leaf = |leaf: usize| -> Fraction {
            let (column, row) = shape.leaf(tree, leaf);
            if row >= rows {
                return [Fp::ZERO, Fp::ONE];
            }
            let value = |columns: &[Vec<Fp>], column: usize| columns[column].get(row).copied().unwrap_or_default();
            match column.checked_sub(shape.columns) {
                None => [Fp::ONE, point - value(columns, column)],
                Some(table) => [-value(&counts, table), denominators[table * rows + row]],
            }
        };
        let transcript = tree_transcript(&bound, tree, conduct.early);
        let random = fork(&mut random);
        let mut sender = Sender::new(key, transcript, random, conduct);
        fractions::prove(tree, &leaf, &mut sender);
        scalars.extend(sender.scalars);
        messages.extend(sender.committed);
        progress(tree.number + 1, shape.trees.len() + 1);
    }

    let sent: Vec<EqAffine> = messages.iter().map(|message| message.point).collect();
    let drawn = Drawn::follow(&shape, &adapter, &points, &sent, conduct.early);
    let identities = drawn.identities(&shape);
    let messages_of = scalars.clone();
    fractions::add_sums(&shape.trees, &mut scalars);
    conduct.pass_one(Label::Scalar, &mut scalars);
    let value = |form: &Form| -> Fp { form.iter().map(|(at, factor)| scalars[*at] * factor).sum() };
    let products = identities.iter().flat_map(|identity| &identity.products);
    let mut factors: [Vec<Fp>; 2] = [0, 1].map(|side| products.clone().map(|product| value(&product[side])).collect());
    for (side, factors) in factors.iter_mut().enumerate() {
        conduct.pass_one(Label::Pair(side), factors);
    }
    let held: Vec<Vec<Fp>> =
        std::iter::once(&scalars).chain(&factors).flat_map(|column| column.chunks(rows)).map(<[Fp]>::to_vec).collect();
    let committed = commit_columns(key, &held, &mut random);
    let held_points: Vec<EqAffine> = committed.iter().map(|column| column.point).collect();
    let folding = drawn.folding(&shape, &identities, &held_points, conduct.early);

    let before = columns.iter().chain(&counts).map(Vec::as_slice);
    let all = before.chain(fractions::messages(&shape.trees, &messages_of)).chain(held.iter().map(Vec::as_slice));
    let values: Vec<Column<'_>> = all.map(Column::Full).collect();
    let committed: Vec<Committed> =
        commitment.committed(opening).chain(counted).chain(messages).chain(committed).collect();
    points.extend(sent);
    points.extend(held_points);
    let mut proof = Vec::new();
    append_points(&mut proof, &points);
    let witness = Witness { columns: &values, committed: &committed };
    let equations = folding.prove(key, witness, conduct, &mut random, &mut proof)?;
    let mut bytes = link::prove(key, &subject(adapter), &proof, equations, &mut random, conduct.check)?;
    bytes.extend(proof);
    progress(shape.trees.len() + 1, shape.trees.len() + 1);
    Ok(bytes)
}

/// Everything about a registration but its sums.
pub(crate) fn begin<'k>(
    key: &'k CommitmentKey,
    commitment: &AdapterCommitment,
    registration: &[u8],
    stop: &Stop<'_>,
) -> Result<Checks<'k>, CheckFailed> {
    commitment.check_key(key)?;
    begin_as(key, commitment, &Shape::new(commitment), registration, stop, None)
}

/// The same with other sizes, and challenges that are drawn too early, in tests.
fn begin_as<'k>(
    key: &'k CommitmentKey,
    commitment: &AdapterCommitment,
    shape: &Shape,
    registration: &[u8],
    stop: &Stop<'_>,
    early: Option<Draw>,
) -> Result<Checks<'k>, CheckFailed> {
    go_on(stop)?;
    let (link, proof) =
        registration.split_at_checked(LINK_BYTES).ok_or(CheckFailed::RegistrationEncoding(EncodingError::Truncated))?;
    let adapter = commitment.digest();
    let mut reader = Reader::new(proof);
    let mut read = |count: usize| read_points(&mut reader, count).ok_or(CheckFailed::RegistrationProof);
    let (counts, messages, scalars) = (read(shape.tables())?, read(shape.messages())?, read(shape.scalar_columns())?);
    go_on(stop)?;
    let drawn = Drawn::follow(shape, &adapter, &counts, &messages, early);
    let identities = drawn.identities(shape);
    let products: usize = identities.iter().map(|identity| identity.products.len()).sum();
    let factors = read(2 * products.div_ceil(useful_rows(shape.k)))?;
    let held = [scalars, factors].concat();
    let folding = drawn.folding(shape, &identities, &held, early);
    go_on(stop)?;
    let columns = [commitment.points.as_slice(), &counts, &messages, &held].concat();
    let (sum, equations) = folding.verify(key, &columns, &mut reader).ok_or(CheckFailed::RegistrationProof)?;
    let link = link::verify(key, &subject(adapter), proof, equations, link).ok_or(CheckFailed::RegistrationLink)?;
    Ok(Checks {
        seed: link.seed,
        checks: vec![
            Check { sum, otherwise: CheckFailed::RegistrationProof },
            Check { sum: link.sum, otherwise: CheckFailed::RegistrationLink },
        ],
    })
}

/// Verifies what [`register_columns`] made of trees of so many columns, with a challenge that is drawn too early.
#[cfg(test)]
pub(crate) fn verify_as(
    key: &CommitmentKey,
    commitment: &AdapterCommitment,
    registration: &[u8],
    width: Option<usize>,
    early: Option<Draw>,
) -> Result<(), CheckFailed> {
    let mut shape = Shape::new(commitment);
    if let Some(width) = width {
        shape = Shape::of(shape.k, shape.columns, width);
    }
    begin_as(key, commitment, &shape, registration, &never, early)?.settle()
}
