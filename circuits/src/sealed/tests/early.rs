//! Challenges that are known before what they must not know: each lets a forgery pass, which its own time refuses.

use std::sync::Mutex;

use ff::{Field, PrimeField};
use num_bigint::{BigInt, BigUint, Sign};
use pasta_curves::Fp;

use super::forger::Forger;
use super::network::{Network, ROWS, VOCABULARY};
use super::plain::off_by;
use crate::CheckFailed;
use crate::conduct::{Conduct, Draw, HONEST, Label, Sent};
use crate::hash::{Absorb, Tag};
use crate::sealed::cells::Cells;
use crate::sealed::equations::extension;
use crate::sealed::said::{OpeningChallenges, stage_transcript};
use crate::sealed::verify::Followed;
use crate::tests::support::solve;

/// Runs a forgery under its switch, where it passes, and in the real order, where it does not. What it does there is all
/// the same; it takes the challenges of its first run for those of the last.
fn passes_only_if_early(draw: Draw, forgery: &dyn Fn(&Forger, Conduct<'_>) -> Vec<u8>) {
    only_if_early(&Forger::new(), draw, forgery);
}

/// The same of any forger.
fn only_if_early(forger: &Forger, draw: Draw, forgery: &dyn Fn(&Forger, Conduct<'_>) -> Vec<u8>) {
    let forged = forgery(forger, Conduct { early: Some(draw), ..HONEST });
    assert_eq!(forger.verdict(&forged, Some(draw)), Ok(()), "{draw:?}, early");
    assert_eq!(forger.verdict(&forgery(forger, HONEST), None), Err(CheckFailed::SealedProof), "{draw:?}, in time");
}

/// Planes of the roots of norms: what is left below, and above.
const BELOW: usize = 11;
const ABOVE: usize = 19;

/// Adds to a number of eight limbs at a row of the first root.
fn raise(forger: &Forger, cells: &mut Cells<'_>, plane: usize, row: usize, by: u128) {
    let group = &forger.plan.arrangement.groups[0];
    let (lane, at) = group.place(row, 0);
    let columns: Vec<usize> = (plane..plane + 8).map(|plane| group.column(0, lane, plane)).collect();
    let limbs = columns.iter().enumerate();
    let before: u128 = limbs.clone().map(|(limb, column)| (cells.columns[*column][at] as u128) << (16 * limb)).sum();
    let after = before.checked_add(by).expect("limbs have room");
    limbs.for_each(|(limb, column)| cells.columns[*column][at] = ((after >> (16 * limb)) & 0xffff) as i32);
}

/// Numbers of less than 127.9 bits, not zero, with `a u + b v = 0`: there is one pair of them or more, mostly.
fn cancelling(a: Fp, b: Fp) -> Option<[u128; 2]> {
    let integer = |value: Fp| BigInt::from_biguint(Sign::Plus, BigUint::from_bytes_le(&value.to_repr()));
    let small = |value: &BigInt| u128::try_from(value).ok().filter(|value| (1..u128::MAX - (1 << 124)).contains(value));
    // Remainders of Euclid's algorithm are u = c v for c = - b / a, and so are the numbers between them.
    let ratio = -b * a.invert().unwrap();
    let mut before: [BigInt; 2] = [integer(-Fp::ONE) + 1, BigInt::ZERO];
    let mut now: [BigInt; 2] = [integer(ratio), BigInt::from(1)];
    while now[0] > BigInt::ZERO {
        let quotient = &before[0] / &now[0];
        // The least multiple with which u is small; v only grows.
        let least = (&before[0] - BigInt::from(u128::MAX - (1 << 124))).max(BigInt::ZERO) / &now[0] + 1;
        for times in [least, quotient.clone()] {
            let (u, v) = (&before[0] - &times * &now[0], &before[1] - &times * &now[1]);
            if let (true, Some(u), Some(v)) = (times <= quotient, small(&u), small(&v)) {
                assert_eq!(a * Fp::from_u128(u) + b * Fp::from_u128(v), Fp::ZERO);
                return Some([u, v]);
            }
        }
        let next = [&before[0] - &quotient * &now[0], &before[1] - &quotient * &now[1]];
        before = std::mem::replace(&mut now, next);
    }
    None
}

/// Whoever knows gamma breaks two equations at one place by what cancels: how far a root is off, below and above.
#[test]
fn gamma_known_early_hides_two_equations() {
    let draw = Some(Draw::Equations);
    let gamma = |forger: &Forger| OpeningChallenges::draw(&forger.anchor(), &[], draw).first.gamma;
    let mut forgers = (0..).map(|seed| Forger::of(Network::without_curves(seed)));
    let (forger, [below, above]) =
        forgers.find_map(|forger| cancelling(Fp::ONE, gamma(&forger)).map(|by| (forger, by))).unwrap();
    let mut cells = forger.cells();
    raise(&forger, &mut cells, BELOW, 0, below);
    raise(&forger, &mut cells, ABOVE, 0, above);
    for (early, verdict) in [(draw, Ok(())), (None, Err(CheckFailed::SealedProof))] {
        assert_eq!(forger.verdict(&forger.seal(&cells, Conduct { early, ..HONEST }), early), verdict, "{early:?}");
    }
}

/// Whoever knows where equations are looked at breaks one in two rows.
#[test]
fn coordinates_known_early_hide_two_rows() {
    let draw = Some(Draw::Coordinates);
    let forger = Forger::new();
    let rows = extension(&OpeningChallenges::draw(&forger.anchor(), &[], draw).first.rows, ROWS);
    let mut pairs = (0..ROWS).flat_map(|a| (0..a).map(move |b| [a, b]));
    let (pair, by) = pairs.find_map(|[a, b]| cancelling(rows[a], rows[b]).map(|by| ([a, b], by))).unwrap();
    let mut cells = forger.cells();
    pair.iter().zip(by).for_each(|(row, by)| raise(&forger, &mut cells, BELOW, *row, by));
    for (early, verdict) in [(draw, Ok(())), (None, Err(CheckFailed::SealedProof))] {
        assert_eq!(forger.verdict(&forger.seal(&cells, Conduct { early, ..HONEST }), early), verdict, "{early:?}");
    }
}

/// Cells of which one is wrong, the lowest limb of the first root, and what a first proof of them shows.
struct Lie<'f> {
    forger: &'f Forger,
    conduct: Conduct<'f>,
    cells: Cells<'f>,
    /// What everything that must be zero comes to.
    off: Fp,
    followed: Followed<'f>,
    seen: Vec<(Label, usize, Fp)>,
}

/// A site with an adapter, of which the claim on all equations has what it adds.
struct Site {
    /// Its number.
    number: usize,
    /// Its place among sites.
    place: usize,
    /// The row of the first v among v and h.
    first: usize,
    /// Of what it adds.
    weight: Fp,
}

impl<'f> Lie<'f> {
    fn new(forger: &'f Forger, conduct: Conduct<'f>) -> Self {
        let mut cells = forger.cells();
        cells.columns[0][0] += if cells.columns[0][0] == 0 { 1 } else { -1 };
        let seen: Mutex<Vec<(Label, usize, Fp)>> = Mutex::default();
        let record = |label, row, value| {
            seen.lock().unwrap().push((label, row, value));
            value
        };
        let proof = forger.seal(&cells, Conduct { assign: &record, ..conduct });
        assert_eq!(forger.verdict(&proof, conduct.early), Err(CheckFailed::SealedProof), "without amends");
        let followed = forger.follow(&proof, conduct.early);
        let off = off_by(&forger.plan, &cells, &forger.network.factors, &followed.opened.first);
        assert_ne!(off, Fp::ZERO);
        Self { forger, conduct, cells, off, followed, seen: seen.into_inner().unwrap() }
    }

    fn value(&self, label: Label, row: usize) -> Fp {
        self.seen.iter().find(|(own, at, _)| (*own, *at) == (label, row)).unwrap().2
    }

    fn sites(&self) -> Vec<Site> {
        let (mut sites, mut first) = (Vec::new(), 0);
        for (place, (identity, added)) in self.followed.ended.added().into_iter().enumerate() {
            if identity == 0 {
                sites.push(Site { number: added.site, place, first, weight: added.weight });
            }
            first += 2 * self.forger.network.factors[added.site].shape.rank as usize;
        }
        sites
    }

    /// Another proof of the same, with some values changed.
    fn amended(&self, changes: &[(Label, usize, Fp)]) -> Vec<u8> {
        let assign = |label, row, value| {
            let change = changes.iter().find(|(own, at, _)| (*own, *at) == (label, row));
            change.map_or(value, |(.., by)| value + by)
        };
        self.forger.seal(&self.cells, Conduct { assign: &assign, ..self.conduct })
    }
}

/// v and h of sites and lanes.
const OF_LANES: Label = Label::End(1);

/// Whoever knows lambda brings in v of two lanes that are wrong and right together.
#[test]
fn lambda_known_early_hides_wrong_lanes() {
    passes_only_if_early(Draw::Lanes, &|forger, conduct| wrong_lanes(&Lie::new(forger, conduct), |sites| &sites[0]));
    // Of the last places where the adapter of the head occurs, each.
    let forger = Forger::of_several_in(Network::of_rank(4, 23, VOCABULARY, 2));
    for last in 1..3 {
        only_if_early(&forger, Draw::Lanes, &|forger, conduct| {
            wrong_lanes(&Lie::new(forger, conduct), |sites| of_head(forger, sites)[2 - last])
        });
    }
}

/// The last two places where the adapter of the head occurs.
fn of_head<'s>(forger: &Forger, sites: &'s [Site]) -> [&'s Site; 2] {
    let is_head = |site: &&Site| forger.network.factors[site.number].shape.name == "head";
    let all: Vec<&Site> = sites.iter().filter(is_head).collect();
    all[all.len() - 2..].try_into().unwrap()
}

fn wrong_lanes(lie: &Lie<'_>, which: impl Fn(&[Site]) -> &Site) -> Vec<u8> {
    let sites = lie.sites();
    let Site { first, weight, .. } = *which(&sites);
    let [h, other] = [1, 3].map(|at| lie.value(OF_LANES, first + at));
    let changes = solve([Fp::ONE, lie.followed.second.lambda, Fp::ZERO], [weight * h, weight * other, -lie.off]);
    lie.amended(&[(OF_LANES, first, changes[0]), (OF_LANES, first + 2, changes[1])])
}

/// Whoever knows gamma' brings in h of two sites, or of two places of one, that are wrong and right together.
#[test]
fn gamma_of_the_second_stage_known_early_hides_wrong_sites() {
    passes_only_if_early(Draw::SecondSums, &|forger, conduct| {
        wrong_sites(&Lie::new(forger, conduct), |sites| [&sites[0], &sites[1]])
    });
    only_if_early(&Forger::of_several(), Draw::SecondSums, &|forger, conduct| {
        wrong_sites(&Lie::new(forger, conduct), |sites| of_head(forger, sites))
    });
}

fn wrong_sites(lie: &Lie<'_>, which: impl Fn(&[Site]) -> [&Site; 2]) -> Vec<u8> {
    let sites = lie.sites();
    let [a, b] = which(&sites);
    let power = |site: &Site| lie.followed.second.gamma.pow([(lie.followed.ended.scores.len() + site.place) as u64]);
    let times = |site: &Site| site.weight * lie.value(OF_LANES, site.first);
    let changes = solve([power(a), power(b), Fp::ZERO], [times(a), times(b), -lie.off]);
    lie.amended(&[(OF_LANES, a.first + 1, changes[0]), (OF_LANES, b.first + 1, changes[1])])
}

/// Scalars of M that satisfy the claim on all equations, and differ from two messages by nothing at xi.
#[test]
fn xi_known_early_hides_scalars_of_other_messages() {
    passes_only_if_early(Draw::Xi, &|forger, conduct| {
        let lie = Lie::new(forger, conduct);
        let said = lie.followed.said(&forger.plan, &forger.network.commitment);
        let ([xi, ..], identities) = (said.known(&lie.followed.bound), said.identities());
        let first = said.numbers().stages[0];
        let coefficient =
            |at: usize| identities.all[identities.whole].linear.iter().find(|term| term.0 == at).unwrap().1;
        let second = first + crate::sealed::sums::DEGREE;
        let missing = identities.factor * lie.off;
        let changes = solve([Fp::ONE, xi, Fp::ZERO], [coefficient(first), coefficient(second), missing]);
        lie.amended(&[(Label::Scalar, first, changes[0]), (Label::Scalar, second, changes[1])])
    });
}

/// The same of two scalars of one message, at eta.
#[test]
fn eta_known_early_hides_other_scalars_of_a_message() {
    passes_only_if_early(Draw::Eta, &|forger, conduct| {
        let lie = Lie::new(forger, conduct);
        let said = lie.followed.said(&forger.plan, &forger.network.commitment);
        let ([_, eta, ..], identities) = (said.known(&lie.followed.bound), said.identities());
        let first = said.numbers().stages[0];
        let coefficient =
            |at: usize| identities.all[identities.whole].linear.iter().find(|term| term.0 == at).unwrap().1;
        let missing = identities.factor * lie.off;
        let changes = solve([Fp::ONE, eta, Fp::ZERO], [coefficient(first), coefficient(first + 1), missing]);
        lie.amended(&[(Label::Scalar, first, changes[0]), (Label::Scalar, first + 1, changes[1])])
    });
}

/// A v that is wrong in its own identity by what makes up for the claim on all equations.
#[test]
fn kappa_known_early_hides_two_identities() {
    passes_only_if_early(Draw::Kappa, &|forger, conduct| {
        let lie = Lie::new(forger, conduct);
        let said = lie.followed.said(&forger.plan, &forger.network.commitment);
        let ([_, _, kappa, _], identities) = (said.known(&lie.followed.bound), said.identities());
        let Site { place, first, weight, .. } = lie.sites()[0];
        let whole = kappa.pow([identities.whole as u64]) * identities.factor;
        let own = kappa.pow([(identities.of_sites + place) as u64]);
        let by = whole * lie.off * (own - whole * weight * lie.value(OF_LANES, first + 1)).invert().unwrap();
        lie.amended(&[(OF_LANES, first, by)])
    });
}

/// Factors of two products that satisfy the claim on all equations, and differ from what they are by nothing at zeta.
#[test]
fn zeta_known_early_hides_other_factors() {
    passes_only_if_early(Draw::Zeta, &|forger, conduct| {
        let lie = Lie::new(forger, conduct);
        let said = lie.followed.said(&forger.plan, &forger.network.commitment);
        let ([.., zeta], identities) = (said.known(&lie.followed.bound), said.identities());
        let first: usize = identities.all[..identities.whole].iter().map(|identity| identity.products.len()).sum();
        let [v, other] = [first, first + 1].map(|product| lie.value(Label::Pair(1), product));
        let changes = solve([Fp::ONE, zeta.square(), Fp::ZERO], [v, other, -identities.factor * lie.off]);
        lie.amended(&[(Label::Pair(0), first, changes[0]), (Label::Pair(0), first + 1, changes[1])])
    });
}

/// Whoever knows r chooses a polynomial that is wrong and right there: then the sums need not be what the cells say.
#[test]
fn a_round_known_early_hides_a_wrong_sum() {
    passes_only_if_early(Draw::Sum, &|forger, conduct| {
        let lie = Lie::new(forger, conduct);
        let begun = stage_transcript(&lie.followed.opened.bound, 1, conduct.early);
        let [r]: [Fp; 1] = Absorb::new(Tag::Message).digest(&begun.digest).challenges();
        // The verifier's claim is less than the sum by what is off, half of which is left after a round.
        let amends = lie.off * Fp::TWO_INV * (r - Fp::TWO_INV).invert().unwrap();
        let send = |what: Sent, message: &mut [Fp]| {
            if what == (Sent::Sum { stage: 1, round: 0 }) {
                message[0] += amends;
            }
        };
        forger.seal(&lie.cells, Conduct { send: &send, ..conduct })
    });
}

/// Whoever knows X makes up for an entry that is in no table by a count: then limbs need not be limbs.
#[test]
fn a_point_known_early_hides_an_entry_of_no_table() {
    passes_only_if_early(Draw::Table, &|forger, conduct| {
        let mut cells = forger.cells();
        // What is left below a root, in other limbs: 2^16 more in the lowest, one less in the next.
        let group = &forger.plan.arrangement.groups[0];
        let (low, next) = (group.column(0, 0, BELOW), group.column(0, 0, BELOW + 1));
        let row = (0..cells.columns[next].len()).find(|row| cells.columns[next][*row] > 0).unwrap();
        cells.columns[low][row] += 1 << 16;
        cells.columns[next][row] -= 1;
        let proof = forger.seal(&cells, conduct);
        assert_eq!(forger.verdict(&proof, conduct.early), Err(CheckFailed::SealedProof), "without a count");
        let fingerprint = forger.follow(&proof, conduct.early).opened.fingerprint;
        // The fraction of the entry, at the place of the least entry of the first table.
        let (table, least) = (group.class.leaves[BELOW].table, forger.plan.arrangement.tables()[0]);
        let entry = [i64::from(cells.columns[low][row]), 0, 0];
        let of_entry = fingerprint.denominator(table, entry);
        let of_least = fingerprint.denominator(least, [least.least(), 0, 0]);
        let more = of_least * of_entry.invert().unwrap();
        let assign = |label: Label, row: usize, value: Fp| {
            if label == Label::Count(0) && row == 0 { value + more } else { value }
        };
        forger.seal(&cells, Conduct { assign: &assign, ..conduct })
    });
}
