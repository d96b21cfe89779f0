//! That a sum of many fractions is what it is said to be: a tree of sums, level by level, each by a sumcheck whose
//! messages are committed to (`STATEMENT.md`, section 6; LogUp-GKR, Papini and Haboeck, eprint 2023/1284).
//!
//! A tree is about fractions alone; what its leaves are made of is the caller's.

use ff::Field;
use pasta_curves::{EqAffine, Fp};
use rayon::prelude::*;

use crate::conduct::{Draw, Sent};
use crate::messages::{FiatShamir, Sender};

/// A linear form in the scalars of messages: their numbers, and coefficients.
pub(crate) type Form = Vec<(usize, Fp)>;

/// That a linear form equals a sum of products of two others.
#[derive(Clone, Debug)]
pub(crate) struct LinearIdentity {
    pub(crate) linear: Form,
    pub(crate) products: Vec<[Form; 2]>,
}

/// Numerator and denominator.
pub(crate) type Fraction = [Fp; 2];

/// 0/1, which adds nothing.
const NOTHING: Fraction = [Fp::ZERO, Fp::ONE];

fn add([n0, d0]: Fraction, [n1, d1]: Fraction) -> Fraction {
    [n0 * d1 + n1 * d0, d0 * d1]
}

fn sum(pair: &[Fraction]) -> Fraction {
    match pair {
        [left, right] => add(*left, *right),
        alone => alone[0],
    }
}

/// A binary tree of sums of fractions.
#[derive(Clone, Debug)]
pub(crate) struct FractionTree {
    /// Its place among the trees of a proof.
    pub(crate) number: usize,
    /// The number of its first scalar.
    pub(crate) first: usize,
    /// Its leaves are `2^depth`.
    pub(crate) depth: usize,
    /// Leaves from this one on are 0/1.
    pub(crate) active: usize,
}

impl FractionTree {
    /// Trees of the leaves of so many columns of `2^k` rows, `width` columns each but the last.
    pub(crate) fn all(k: u32, columns: usize, width: usize) -> Vec<Self> {
        let mut first = 0;
        let tree = |(number, begin): (usize, usize)| {
            let columns = width.min(columns - begin);
            let depth = (k + columns.next_power_of_two().ilog2()) as usize;
            let tree = Self { number, first, depth, active: columns << k };
            first += tree.scalars();
            tree
        };
        (0..columns).step_by(width).enumerate().map(tree).collect()
    }

    /// How many scalars each message has: the root; for each level two a round, and the four ends.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = usize> {
        let levels = (0..self.depth).flat_map(|level| std::iter::repeat_n(2, level).chain([4]));
        std::iter::once(2).chain(levels)
    }

    pub(crate) fn messages(&self) -> usize {
        1 + self.depth * (self.depth + 1) / 2
    }

    /// Scalars of all messages.
    pub(crate) fn scalars(&self) -> usize {
        self.rounds_at(self.depth) - self.first
    }

    /// The number of the first scalar of a level.
    fn rounds_at(&self, level: usize) -> usize {
        self.first + 2 + level * (level + 3)
    }

    /// The number of the first of the four ends of a level.
    fn ends_at(&self, level: usize) -> usize {
        self.rounds_at(level) + 2 * level
    }

    /// Numerator and denominator of the whole sum.
    pub(crate) fn root(&self) -> [Form; 2] {
        [0, 1].map(|i| vec![(self.first + i, Fp::ONE)])
    }
}

/// The challenges of a tree.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    /// One per level, of numerator and denominator.
    pub(crate) lambdas: Vec<Fp>,
    /// One per round of each level.
    pub(crate) rounds: Vec<Vec<Fp>>,
    /// One per level, of the two halves.
    pub(crate) mus: Vec<Fp>,
}

impl Draws {
    /// Draws the challenges that follow from the commitments to all messages.
    pub(crate) fn follow(tree: &FractionTree, transcript: &mut FiatShamir, points: &[EqAffine]) -> Self {
        let mut points = points.iter();
        let mut next = || points.next().expect("a point per message");
        let [mut lambda] = transcript.draw(next(), [Draw::Lambda]);
        let mut draws = Self { lambdas: Vec::new(), rounds: Vec::new(), mus: Vec::new() };
        for level in 0..tree.depth {
            draws.lambdas.push(lambda);
            let round = |_| {
                let [r] = transcript.draw(next(), [Draw::Round]);
                r
            };
            draws.rounds.push((0..level).map(round).collect());
            let [mu, of_next] = transcript.draw(next(), [Draw::Mu, Draw::Lambda]);
            draws.mus.push(mu);
            lambda = of_next;
        }
        draws
    }

    /// Where the nodes of a level are looked at, the coordinate of the highest bit first; the leaves are level `depth`.
    pub(crate) fn point(&self, level: usize) -> Vec<Fp> {
        match level.checked_sub(1) {
            None => Vec::new(),
            Some(above) => self.rounds[above].iter().rev().chain([&self.mus[above]]).copied().collect(),
        }
    }

    /// What numerators and denominators of a level are claimed to be there.
    pub(crate) fn claims(&self, tree: &FractionTree, level: usize) -> [Form; 2] {
        let Some(above) = level.checked_sub(1) else { return tree.root() };
        let (ends, mu) = (tree.ends_at(above), self.mus[above]);
        [0, 2].map(|i| vec![(ends + i, Fp::ONE - mu), (ends + i + 1, mu)])
    }

    /// That every level follows from the one below it.
    pub(crate) fn identities(&self, tree: &FractionTree) -> Vec<LinearIdentity> {
        let identity = |level: usize| {
            let (point, lambda, ends) = (self.point(level), self.lambdas[level], tree.ends_at(level));
            let [mut linear, denominators] = self.claims(tree, level);
            linear.extend(denominators.into_iter().map(|(number, factor)| (number, lambda * factor)));
            for (round, (r, p)) in self.rounds[level].iter().zip(point.iter().rev()).enumerate() {
                let at = tree.rounds_at(level) + 2 * round;
                linear.extend([(at, *r - p), (at + 1, r.square() - p)]);
            }
            let single = |number: usize| vec![(number, Fp::ONE)];
            let left = vec![(ends, Fp::ONE), (ends + 2, lambda)];
            LinearIdentity { linear, products: vec![[left, single(ends + 3)], [single(ends + 1), single(ends + 2)]] }
        };
        (0..tree.depth).map(identity).collect()
    }
}

/// What identities, each with its weight, and factors, with powers of zeta, come to: adds the coefficients of scalars,
/// and returns those of products and those of both columns of factors.
pub(crate) fn weigh<'i>(
    identities: impl IntoIterator<Item = (&'i LinearIdentity, Fp)>,
    zeta: Fp,
    scalars: &mut [Fp],
) -> (Vec<Fp>, [Vec<Fp>; 2]) {
    let mut add = |form: &Form, weight: Fp| form.iter().for_each(|(at, factor)| scalars[*at] += weight * factor);
    let (mut products, mut factors) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut zetas = std::iter::successors(Some(zeta), |power| Some(*power * zeta));
    for (identity, weight) in identities {
        add(&identity.linear, weight);
        for product in &identity.products {
            products.push(-weight);
            for ((factor, column), zeta) in product.iter().zip(&mut factors).zip(&mut zetas) {
                column.push(zeta);
                add(factor, -zeta);
            }
        }
    }
    (products, factors)
}

/// That the fractions of all trees add up to zero. Numerators and denominators of the sums of the first two, three, ..
/// trees, all but the whole sum, are scalars from `at` on.
pub(crate) fn whole(trees: &[FractionTree], at: usize) -> Vec<LinearIdentity> {
    let mut identities = Vec::new();
    let mut roots = trees.iter().map(FractionTree::root);
    let [mut numerator, mut denominator] = roots.next().expect("there is a table");
    let single = |number: usize| vec![(number, Fp::ONE)];
    let mut sum = at;
    let mut left = trees.len() - 1;
    if left == 0 {
        identities.push(LinearIdentity { linear: numerator, products: Vec::new() });
        return identities;
    }
    for [n, d] in roots {
        left -= 1;
        let products = vec![[numerator, d.clone()], [n, denominator.clone()]];
        let linear = if left == 0 { Form::new() } else { single(sum) };
        identities.push(LinearIdentity { linear, products });
        if left > 0 {
            identities.push(LinearIdentity { linear: single(sum + 1), products: vec![[denominator, d]] });
        }
        (numerator, denominator) = (single(sum), single(sum + 1));
        sum += 2;
    }
    identities
}

/// The messages of all trees, of their scalars one after another.
pub(crate) fn messages<'s>(trees: &[FractionTree], mut scalars: &'s [Fp]) -> Vec<&'s [Fp]> {
    let sizes = trees.iter().flat_map(FractionTree::sizes);
    let message = |size: usize| {
        let (message, others) = scalars.split_at(size);
        scalars = others;
        message
    };
    sizes.map(message).collect()
}

/// Appends those sums to the scalars of all trees.
pub(crate) fn add_sums(trees: &[FractionTree], scalars: &mut Vec<Fp>) {
    let root = |tree: &FractionTree, scalars: &[Fp]| [scalars[tree.first], scalars[tree.first + 1]];
    let Some((first, others)) = trees.split_first() else { return };
    let [mut numerator, mut denominator] = root(first, scalars);
    for tree in &others[..others.len().saturating_sub(1)] {
        let [n, d] = root(tree, scalars);
        (numerator, denominator) = (numerator * d + n * denominator, denominator * d);
        scalars.extend([numerator, denominator]);
    }
}

/// Sums over all bits of `eq(point, j) term(j)`, as a table of the first half of the bits and one of the others.
struct LayerWeights {
    outer: Vec<Fp>,
    inner: Vec<Fp>,
}

impl LayerWeights {
    fn new(point: &[Fp]) -> Self {
        let (outer, inner) = point.split_at(point.len() / 2);
        Self { outer: equality(outer), inner: equality(inner) }
    }

    /// Sums of two terms over all j below `count`, and of the weights.
    fn sum(&self, count: usize, term: impl Fn(usize) -> [Fp; 2] + Sync) -> [Fp; 3] {
        let width = self.inner.len();
        let outer = self.outer.par_iter().enumerate().take(count.div_ceil(width));
        let sums = outer.map(|(block, outer)| {
            let mut sums = [Fp::ZERO; 3];
            for (j, inner) in (block * width..count).zip(&self.inner) {
                let [first, second] = term(j);
                sums[0] += first * inner;
                sums[1] += second * inner;
                sums[2] += inner;
            }
            sums.map(|sum| sum * outer)
        });
        sums.reduce(|| [Fp::ZERO; 3], |a, b| std::array::from_fn(|i| a[i] + b[i]))
    }
}

/// `eq(point, j)` for all j: the product of `p` for each bit that is one, and `1 - p` for the others, highest first.
pub(crate) fn equality(point: &[Fp]) -> Vec<Fp> {
    let mut table = vec![Fp::ONE];
    for p in point {
        table = table
            .into_iter()
            .flat_map(|weight| {
                let one = weight * p;
                [weight - one, one]
            })
            .collect();
    }
    table
}

/// Four values of a pair of nodes below: n0 + lambda d0, n1, d0 and d1.
type Quad = [Fp; 4];

/// Proves the sum of all leaves. `leaf` is asked for each below `tree.active`, several times.
pub(crate) fn prove(tree: &FractionTree, leaf: &(dyn Fn(usize) -> Fraction + Sync), sender: &mut Sender<'_>) {
    let leaf = |i: usize| if i < tree.active { leaf(i) } else { NOTHING };
    // All levels but the leaves, the root last.
    let mut levels: Vec<Vec<Fraction>> = Vec::with_capacity(tree.depth);
    let nodes = (0..tree.active.div_ceil(2)).into_par_iter();
    levels.push(nodes.map(|i| add(leaf(2 * i), leaf(2 * i + 1))).collect());
    while levels.len() < tree.depth {
        let below = &levels[levels.len() - 1];
        levels.push(below.par_chunks(2).map(sum).collect());
    }
    let number = tree.number;
    let root = levels.pop().map_or(NOTHING, |root| root[0]);
    let ([mut numerator, mut denominator], [mut lambda]) =
        sender.send(Sent::Root { tree: number }, root, [Draw::Lambda]);
    let mut point: Vec<Fp> = Vec::new();
    for level in 0..tree.depth {
        let below = levels.pop();
        let child = |i: usize| match &below {
            Some(nodes) => nodes.get(i).copied().unwrap_or(NOTHING),
            None => leaf(i),
        };
        let first = |i: usize| -> Quad {
            let ([n0, d0], [n1, d1]) = (child(2 * i), child(2 * i + 1));
            [n0 + lambda * d0, n1, d0, d1]
        };
        let mut count = below.as_ref().map_or(tree.active, Vec::len).div_ceil(2);
        let mut bound: Option<Vec<Quad>> = None;
        let mut claim = numerator + lambda * denominator;
        let mut rounds = Vec::with_capacity(level);
        for round in 0..level {
            let p = point.pop().unwrap_or_default();
            let nothing = [lambda, Fp::ZERO, Fp::ONE, Fp::ONE];
            let quad = |i: usize| match &bound {
                Some(quads) => quads.get(i).copied().unwrap_or(nothing),
                None => first(i),
            };
            let pairs = count.div_ceil(2);
            let [at_zero, square, inside] = LayerWeights::new(&point).sum(pairs, |j| {
                let (a, b) = (quad(2 * j), quad(2 * j + 1));
                let rise: Quad = std::array::from_fn(|i| b[i] - a[i]);
                [a[0] * a[3] + a[1] * a[2], rise[0] * rise[3] + rise[1] * rise[2]]
            });
            // From there on all are 0/1, whose term is lambda and does not change.
            let at_zero = at_zero + lambda * (Fp::ONE - inside);
            // Zero, which has no inverse, is drawn by nobody.
            let linear = (claim - at_zero) * p.invert().unwrap_or(Fp::ZERO) - square;
            let what = Sent::Round { tree: number, level, round };
            let ([linear, square], [r]) = sender.send(what, [linear, square], [Draw::Round]);
            claim += linear * (r - p) + square * (r.square() - p);
            let halves = (0..pairs).into_par_iter().map(|j| {
                let (a, b) = (quad(2 * j), quad(2 * j + 1));
                std::array::from_fn(|i| a[i] + r * (b[i] - a[i]))
            });
            let halves = halves.collect();
            bound = Some(halves);
            count = pairs;
            rounds.push(r);
        }
        let [left, n1, d0, d1] = bound.map_or_else(|| first(0), |quads| quads[0]);
        let what = Sent::Ends { tree: number, level };
        let ([n0, n1, d0, d1], [mu, of_next]) =
            sender.send(what, [left - lambda * d0, n1, d0, d1], [Draw::Mu, Draw::Lambda]);
        numerator = n0 + mu * (n1 - n0);
        denominator = d0 + mu * (d1 - d0);
        lambda = of_next;
        point = rounds.into_iter().rev().chain([mu]).collect();
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::conduct::HONEST;
    use crate::hash::Digest;
    use crate::key::CommitmentKey;

    /// Everything a tree says, against the sum of its fractions and the values of its leaves; ragged trees, fractions
    /// of value zero and of denominator zero among them.
    #[test]
    fn a_tree_says_what_its_leaves_say() {
        let key = CommitmentKey::generate(6).unwrap();
        let mut random = ChaCha20Rng::seed_from_u64(1);
        for (depth, active, zero) in
            [(1, 1, false), (1, 2, false), (3, 5, false), (5, 32, true), (6, 33, false), (6, 50, true)]
        {
            let mut leaves: Vec<Fraction> = (0..active)
                .map(|i| {
                    [
                        Fp::from(u64::from(random.next_u32() % 3)),
                        if i % 7 == 3 { Fp::ONE } else { Fp::random(&mut random) },
                    ]
                })
                .collect();
            if zero {
                leaves[active / 2] = [Fp::ONE, Fp::ZERO];
            }
            let tree = FractionTree { number: 0, first: 0, depth, active };
            let transcript = FiatShamir { digest: Digest([1; 32]), early: None };
            let mut sender = Sender::new(&key, transcript.clone(), ChaCha20Rng::seed_from_u64(2), HONEST);
            prove(&tree, &|i| leaves[i], &mut sender);
            let scalars = &sender.scalars;
            assert_eq!((scalars.len(), sender.committed.len()), (tree.scalars(), tree.messages()), "{depth}");
            assert_eq!(tree.sizes().sum::<usize>(), tree.scalars());
            let points: Vec<EqAffine> = sender.committed.iter().map(|message| message.point).collect();
            let mut again = transcript;
            let draws = Draws::follow(&tree, &mut again, &points);
            assert_eq!(again.digest, sender.transcript.digest);
            let value = |form: &Form| -> Fp { form.iter().map(|(at, factor)| scalars[*at] * factor).sum() };
            let sum = leaves.iter().fold(NOTHING, |sum, leaf| add(sum, *leaf));
            assert_eq!(tree.root().map(|form| value(&form)), sum);
            for (level, identity) in draws.identities(&tree).iter().enumerate() {
                let products: Fp = identity.products.iter().map(|[left, right]| value(left) * value(right)).sum();
                assert_eq!(value(&identity.linear), products, "level {level} of {depth}");
            }
            let weights = equality(&draws.point(depth));
            leaves.resize(1 << depth, NOTHING);
            for (side, claim) in draws.claims(&tree, depth).iter().enumerate() {
                let expected: Fp = leaves.iter().zip(&weights).map(|(leaf, weight)| leaf[side] * weight).sum();
                assert_eq!(value(claim), expected, "{depth}");
            }
        }
    }
}
