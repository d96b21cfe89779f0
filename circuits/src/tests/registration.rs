//! Forgeries of registrations: everything that is sent, each alone, with all that follows computed honestly from it; and
//! each challenge known too early, where a forgery passes that the real order refuses.

use std::sync::Mutex;

use ff::Field;
use group::GroupEncoding;
use pasta_curves::{EqAffine, Fp};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::support::{Case, *};
use crate::bytes::Reader;
use crate::columns::read_points;
use crate::conduct::{Conduct, Draw, HONEST, Label, Sent};
use crate::layout::useful_rows;
use crate::registration::{Drawn, Shape, table_denominators, table_entry, verify_as};
use crate::*;

const FORGER: Conduct<'static> = Conduct { check: false, ..HONEST };
const REFUSED: Result<(), CheckFailed> = Err(CheckFailed::RegistrationProof);
/// Two columns of the adapter and 293 of the table, of 2^8 rows: one tree of depth 17, or three of 100 columns.
const THREE: Option<usize> = Some(100);

fn case() -> Case {
    Case::small()
}

fn shape_of(case: &Case, width: Option<usize>) -> Shape {
    let shape = Shape::new(&case.commitment);
    width.map_or(shape, |width| Shape::of(case.commitment.k(), case.commitment.points.len(), width))
}

fn random() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(3)
}

/// The verdict of a verifier that draws its challenges as the prover did.
fn judge(case: &Case, conduct: Conduct<'_>, bytes: &[u8]) -> Result<(), CheckFailed> {
    verify_as(case.key, &case.commitment, bytes, conduct.width, conduct.early)
}

fn registered(case: &Case, columns: &[Vec<Fp>], conduct: Conduct<'_>) -> Result<(), CheckFailed> {
    judge(case, conduct, &case.register_with(columns, conduct, random()))
}

/// Each by itself and one from another.
#[test]
fn denominators_are_those_of_the_tables_cells() {
    let point = Fp::from(77).invert().unwrap();
    let cells = (1 << 16) + 300;
    let all: Vec<Fp> = (0..cells).map(|cell| point - table_entry(cell)).collect();
    assert!(table_denominators(point, cells) == all);
}

#[test]
fn trees_of_any_width_are_accepted_and_belong_to_their_width() {
    let case = case();
    let columns = case.columns();
    for width in [None, Some(200), THREE, Some(64), Some(1 << 9)] {
        let conduct = Conduct { width, ..HONEST };
        let bytes = case.register_with(&columns, conduct, random());
        assert_eq!(judge(&case, conduct, &bytes), Ok(()), "{width:?}");
        let other = Conduct { width: Some(150), ..HONEST };
        assert_eq!(judge(&case, other, &bytes), REFUSED, "{width:?}");
    }
}

#[test]
fn the_same_randomness_gives_the_same_bytes_for_every_number_of_threads() {
    let case = case();
    let columns = case.columns();
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| case.register_with(&columns, Conduct { width: THREE, ..HONEST }, random()))
    };
    let one = of(1);
    assert!(one == of(2) && one == of(5));
}

/// Each kind of scalar of each message, at the top, in the middle and at the leaves, of the first tree and of a later.
#[test]
fn a_changed_message_is_refused_though_all_after_it_follows_from_it() {
    let case = case();
    let columns = case.columns();
    let last = shape_of(&case, None).trees[0].depth - 1;
    let mut changes = vec![(None, Sent::Root { tree: 0 }, 2)];
    for level in [0, 9, last] {
        changes.push((None, Sent::Ends { tree: 0, level }, 4));
        if level > 0 {
            changes.push((None, Sent::Round { tree: 0, level, round: 0 }, 2));
            changes.push((None, Sent::Round { tree: 0, level, round: level - 1 }, 2));
        }
    }
    changes.push((THREE, Sent::Root { tree: 1 }, 2));
    changes.push((THREE, Sent::Round { tree: 2, level: 3, round: 1 }, 2));
    changes.push((THREE, Sent::Ends { tree: 2, level: 4 }, 4));
    for (width, changed, scalars) in changes {
        for scalar in 0..scalars {
            let send = |what: Sent, message: &mut [Fp]| {
                if what == changed {
                    message[scalar] += Fp::ONE;
                }
            };
            let conduct = Conduct { send: &send, width, ..FORGER };
            assert_eq!(registered(&case, &columns, conduct), REFUSED, "{changed:?}, scalar {scalar}");
        }
    }
}

/// Wherever it stands, and however many trees add up to what must be zero.
#[test]
fn an_entry_out_of_range_is_refused() {
    let case = case();
    let rows = useful_rows(case.commitment.k());
    let mut honest = case.columns();
    honest.iter_mut().for_each(|column| column.resize(rows, Fp::ZERO));
    let last = honest.len() - 1;
    for width in [None, Some(200), THREE, Some(32)] {
        let conduct = Conduct { width, ..FORGER };
        assert_eq!(registered(&case.committed_to(&honest), &honest, conduct), Ok(()), "{width:?}");
        for (column, row) in [(0, 0), (0, rows - 1), (last, 0), (last, rows - 1)] {
            for entry in [Fp::from(1 << 15), -Fp::from((1 << 15) + 1)] {
                let mut columns = honest.clone();
                columns[column][row] = entry;
                let forged = case.committed_to(&columns);
                assert_eq!(registered(&forged, &columns, conduct), REFUSED, "{width:?}, {column}, {row}");
            }
        }
    }
}

#[test]
fn a_registration_needs_the_key_of_its_size() {
    let case = case();
    assert_eq!(verify_registration(key(9), &case.commitment, &case.register()), Err(CheckFailed::Key(8)));
}

#[test]
fn changed_sums_of_trees_are_refused() {
    let case = case();
    let columns = case.columns();
    let sums = shape_of(&case, THREE).sums_at();
    for changed in [sums, sums + 1] {
        let assign = |label, row, value| if (label, row) == (Label::Scalar, changed) { value + Fp::ONE } else { value };
        assert_eq!(registered(&case, &columns, Conduct { assign: &assign, width: THREE, ..FORGER }), REFUSED);
    }
}

#[test]
fn changed_counts_scalars_factors_and_cross_terms_are_refused() {
    let case = case();
    let columns = case.columns();
    let count = case.register_with(&columns, HONEST, random());
    assert_eq!(judge(&case, HONEST, &count), Ok(()));
    let mut changes = vec![(Label::Count(0), 0), (Label::Count(292), 100), (Label::Count(146), 7)];
    changes.extend([0, 1, 2, 3, 50, 300, 341].map(|row| (Label::Scalar, row)));
    changes.extend([0, 1, 33].into_iter().flat_map(|row| [(Label::Pair(0), row), (Label::Pair(1), row)]));
    changes.extend([0, 5, 11].map(|row| (Label::Cross(0), row)));
    for changed in changes {
        let assign = |label, row, value| if (label, row) == changed { value + Fp::ONE } else { value };
        assert_eq!(registered(&case, &columns, Conduct { assign: &assign, ..FORGER }), REFUSED, "{changed:?}");
    }
    // Cells of the table past the last integer count as that one.
    let moved = |label, row, value| match (label, row) {
        (Label::Count(292), 127) => value - Fp::from(5),
        (Label::Count(292), 223) => value + Fp::from(5),
        _ => value,
    };
    assert_eq!(table_entry(65_535), table_entry(292 * 224 + 223));
    assert_eq!(registered(&case, &columns, Conduct { assign: &moved, ..FORGER }), Ok(()));
}

/// U and V that hold what they should in other rows, or each other's.
#[test]
fn permuted_factors_are_refused() {
    let case = case();
    let columns = case.columns();
    let seen: Mutex<[Vec<Fp>; 2]> = Mutex::default();
    let record = |label, _, value| {
        if let Label::Pair(side) = label {
            seen.lock().unwrap()[side].push(value);
        }
        value
    };
    let conduct = Conduct { assign: &record, ..FORGER };
    assert_eq!(registered(&case, &columns, conduct), Ok(()));
    let [left, right] = seen.into_inner().unwrap();
    let count = left.len();
    let reversed = |label, row: usize, value| match label {
        Label::Pair(0) => left[count - 1 - row],
        Label::Pair(1) => right[count - 1 - row],
        _ => value,
    };
    let neighbours = |label, row: usize, value| if label == Label::Pair(0) { left[row ^ 1] } else { value };
    let exchanged = |label, row: usize, value| match label {
        Label::Pair(0) => right[row],
        Label::Pair(1) => left[row],
        _ => value,
    };
    let forgeries: [&(dyn Fn(Label, usize, Fp) -> Fp + Sync); 3] = [&reversed, &neighbours, &exchanged];
    for (number, assign) in forgeries.into_iter().enumerate() {
        assert_eq!(registered(&case, &columns, Conduct { assign, ..FORGER }), REFUSED, "{number}");
    }
}

/// Points of a registration that are sent in other places, or not at all.
#[test]
fn points_cannot_be_moved() {
    let case = case();
    let conduct = Conduct { width: THREE, ..HONEST };
    let bytes = case.register_with(&case.columns(), conduct, random());
    let again = case.register_with(&case.columns(), conduct, ChaCha20Rng::seed_from_u64(4));
    let shape = shape_of(&case, THREE);
    let point = |number: usize| LINK_BYTES + 32 * number..LINK_BYTES + 32 * (number + 1);
    let messages = shape.tables();
    let trees: Vec<usize> = shape.trees.iter().map(crate::fractions::FractionTree::messages).collect();
    let held = messages + shape.messages();
    let swap = |a: usize, b: usize| {
        let mut moved = bytes.clone();
        moved[point(a)].copy_from_slice(&bytes[point(b)]);
        moved[point(b)].copy_from_slice(&bytes[point(a)]);
        judge(&case, conduct, &moved)
    };
    assert_eq!(swap(0, 1), REFUSED, "counts");
    assert_eq!(swap(messages + 5, messages + 6), REFUSED, "two rounds");
    assert_eq!(swap(messages + 5, messages + trees[0] + 5), REFUSED, "two trees");
    assert_eq!(swap(held, held + 1), REFUSED, "M");
    assert_eq!(swap(held + 5, held + 6), REFUSED, "U and V");
    // Whole trees: the second for the first, doubled, or left out; of another registration of the same adapter.
    let tree = |number: usize| {
        let begin = messages + trees[..number].iter().sum::<usize>();
        LINK_BYTES + 32 * begin..LINK_BYTES + 32 * (begin + trees[number])
    };
    assert_eq!(trees[0], trees[1]);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.clone();
        change(&mut changed);
        judge(&case, conduct, &changed)
    };
    assert_eq!(with(&|changed| changed[tree(0)].copy_from_slice(&bytes[tree(1)])), REFUSED, "doubled");
    let exchanged = |changed: &mut Vec<u8>| {
        changed[tree(0)].copy_from_slice(&bytes[tree(1)]);
        changed[tree(1)].copy_from_slice(&bytes[tree(0)]);
    };
    assert_eq!(with(&exchanged), REFUSED, "exchanged");
    assert_eq!(with(&|changed| drop(changed.drain(tree(1)))), REFUSED, "left out");
    let one_more = |changed: &mut Vec<u8>| {
        let more = bytes[tree(1)].to_vec();
        changed.splice(tree(2).end..tree(2).end, more);
    };
    assert_eq!(with(&one_more), REFUSED, "one more");
    for number in 0..3 {
        assert_eq!(with(&|changed| changed[tree(number)].copy_from_slice(&again[tree(number)])), REFUSED, "another's");
    }
    let linked = |changed: &mut Vec<u8>| changed[..LINK_BYTES].copy_from_slice(&again[..LINK_BYTES]);
    assert_eq!(with(&linked), Err(CheckFailed::RegistrationLink));
}

/// Columns of other places, of another adapter, or none, all computed honestly.
#[test]
fn trees_are_about_the_columns_of_their_place() {
    let case = case();
    let honest = case.columns();
    let forged = |change: &dyn Fn(&mut Vec<Vec<Fp>>)| {
        let mut columns = honest.clone();
        change(&mut columns);
        registered(&case, &columns, FORGER)
    };
    let refused = Err(CheckFailed::RegistrationLink);
    assert_eq!(forged(&|_| {}), Ok(()));
    assert_eq!(forged(&|columns| columns.swap(0, 1)), refused, "exchanged");
    assert_eq!(forged(&|columns| columns[1] = columns[0].clone()), refused, "doubled");
    assert_eq!(forged(&|columns| columns[1].fill(Fp::ZERO)), refused, "left out");
    let other = Case::with(factors(9, &[shape("q", 2, 20, 5), shape("v", 1, 7, 33)])).columns();
    assert_eq!(forged(&|columns| columns.clone_from(&other)), refused, "another adapter's");
}

/// A commitment of which one entry is 2^15, and what its forger knows from a first run with the same randomness.
struct Forger {
    case: Case,
    columns: Vec<Vec<Fp>>,
    early: Option<Draw>,
}

type Change<'a> = &'a (dyn Fn(Sent, &mut [Fp]) + Sync);
type Messages = Vec<(Sent, Vec<Fp>)>;
type Assign<'a> = &'a (dyn Fn(Label, usize, Fp) -> Fp + Sync);

impl Forger {
    fn new(early: Draw) -> Self {
        let case = case();
        let mut columns = case.columns();
        columns[1][5] = Fp::from(1 << 15);
        let case = case.committed_to(&columns);
        Self { case, columns, early: Some(early) }
    }

    fn conduct<'a>(&self, send: Change<'a>, assign: Assign<'a>) -> Conduct<'a> {
        Conduct { send, assign, early: self.early, ..FORGER }
    }

    /// A run, with what it sent and what was drawn.
    fn run(&self, send: Change<'_>, assign: Assign<'_>) -> (Vec<u8>, Messages, Drawn) {
        let sent = Mutex::new(Vec::new());
        let record = |what: Sent, message: &mut [Fp]| {
            send(what, message);
            sent.lock().unwrap().push((what, message.to_vec()));
        };
        let bytes = self.case.register_with(&self.columns, self.conduct(&record, assign), random());
        let shape = shape_of(&self.case, None);
        let mut reader = Reader::new(&bytes[LINK_BYTES..]);
        let mut read = |count| -> Vec<EqAffine> { read_points(&mut reader, count).unwrap() };
        let (counts, messages) = (read(shape.tables()), read(shape.messages()));
        let drawn = Drawn::follow(&shape, &self.case.commitment.digest(), &counts, &messages, self.early);
        (bytes, sent.into_inner().unwrap(), drawn)
    }

    fn judge(&self, bytes: &[u8]) -> Result<(), CheckFailed> {
        verify_as(self.case.key, &self.case.commitment, bytes, None, self.early)
    }
}

const SAME: Assign<'static> = &|_, _, value| value;
const SENT: Change<'static> = &|_, _| ();

/// Runs a forgery under its switch, where it passes, and in the real order, where it does not. What it does there is
/// all the same; it takes the challenges of its first run for those of the last.
fn passes_only_if_early(draw: Draw, forgery: &dyn Fn(&Forger) -> Vec<u8>) {
    let mut forger = Forger::new(draw);
    assert_eq!(forger.judge(&forgery(&forger)), Ok(()), "{draw:?}, early");
    forger.early = None;
    assert_eq!(forger.judge(&forgery(&forger)), REFUSED, "{draw:?}, in time");
}

/// Numerator and denominator of the root, and the ends of the first level, as they are.
fn top(forger: &Forger) -> ([Fp; 2], [Fp; 4]) {
    let (_, sent, _) = forger.run(SENT, SAME);
    assert_eq!((sent[0].0, sent[1].0), (Sent::Root { tree: 0 }, Sent::Ends { tree: 0, level: 0 }));
    let (root, ends): ([Fp; 2], [Fp; 4]) =
        (sent[0].1.as_slice().try_into().unwrap(), sent[1].1.as_slice().try_into().unwrap());
    assert_ne!(root[0], Fp::ZERO);
    (root, ends)
}

const ROOT: Sent = Sent::Root { tree: 0 };
const FIRST: Sent = Sent::Ends { tree: 0, level: 0 };

/// Counts that make up for the entry at X.
#[test]
fn x_known_before_the_counts_is_forgeable() {
    passes_only_if_early(Draw::Table, &|forger| {
        let (_, _, drawn) = forger.run(SENT, SAME);
        let missing = (drawn.point - Fp::from(1 << 15)).invert().unwrap() * (drawn.point - table_entry(0));
        let counted = |label, row, value| if (label, row) == (Label::Count(0), 0) { value + missing } else { value };
        forger.run(SENT, &counted).0
    });
}

/// A denominator that makes up for the numerator.
#[test]
fn lambda_known_before_the_root_is_forgeable() {
    passes_only_if_early(Draw::Lambda, &|forger| {
        let (_, sent, drawn) = forger.run(SENT, SAME);
        let (n, lambda) = (sent[0].1[0], drawn.trees[0].lambdas[0]);
        let send = |what: Sent, message: &mut [Fp]| {
            if what == ROOT {
                message[0] = Fp::ZERO;
                message[1] += n * lambda.invert().unwrap();
            }
        };
        forger.run(&send, SAME).0
    });
}

/// Halves that are wrong, and right where they meet.
#[test]
fn mu_known_before_the_ends_is_forgeable() {
    passes_only_if_early(Draw::Mu, &|forger| {
        let ([n, _], [_, _, d0, d1]) = top(forger);
        let lie = |what: Sent, message: &mut [Fp]| {
            if what == ROOT {
                message[0] = Fp::ZERO;
            }
        };
        let (_, _, drawn) = forger.run(&lie, SAME);
        let mu = drawn.trees[0].mus[0];
        let ratio = -mu * (Fp::ONE - mu).invert().unwrap();
        let by = -n * (d0 + ratio * d1).invert().unwrap();
        let send = |what: Sent, message: &mut [Fp]| {
            lie(what, message);
            if what == FIRST {
                message[0] += ratio * by;
                message[1] += by;
            }
        };
        forger.run(&send, SAME).0
    });
}

/// A polynomial that is wrong, and right at its challenge.
#[test]
fn r_known_before_its_message_is_forgeable() {
    passes_only_if_early(Draw::Round, &|forger| {
        let ([n, _], [_, _, d0, _]) = top(forger);
        let by = -n * d0.invert().unwrap();
        let lie = |what: Sent, message: &mut [Fp]| match what {
            ROOT => message[0] = Fp::ZERO,
            FIRST => message[1] += by,
            _ => (),
        };
        let (_, _, drawn) = forger.run(&lie, SAME);
        let (p, r) = (drawn.trees[0].mus[0], drawn.trees[0].rounds[1][0]);
        let wrong = p * by;
        let send = |what: Sent, message: &mut [Fp]| {
            lie(what, message);
            if what == (Sent::Round { tree: 0, level: 1, round: 0 }) {
                message[0] -= wrong * r * (p * (r - p)).invert().unwrap();
            }
        };
        forger.run(&send, SAME).0
    });
}

/// Scalars of M that satisfy everything and differ from the messages by nothing at xi: first scalars of six of them.
#[test]
fn xi_known_before_m_is_forgeable() {
    passes_only_if_early(Draw::Xi, &|forger| {
        let ([n, _], [.., d1]) = top(forger);
        let (_, _, drawn) = forger.run(SENT, SAME);
        let ([xi, ..], draws) = (drawn.known(), &drawn.trees[0]);
        let (mu, r) = (draws.mus[0], draws.rounds[1][0]);
        let n0 = -n * d1.invert().unwrap();
        let round = -(Fp::ONE - mu) * n0 * (r - mu).invert().unwrap();
        // Level 2: messages 4 and 5, after the root, the ends of level 0, a round and the ends of level 1.
        let (point, rounds) = (draws.point(2), &draws.rounds[2]);
        let slopes = [rounds[0] - point[1], rounds[1] - point[0]];
        let power = |message: u64| xi.pow([message]);
        let missing = -(-n + power(1) * n0 + power(2) * round);
        let [first, second] = solve([slopes[0], slopes[1], Fp::ZERO], [power(4), power(5), missing]);
        // Numbers of the first scalars: 2 of the root, 4 ends, 2 of the round, 4 ends.
        let changes = [(0, -n), (2, n0), (6, round), (12, first), (14, second)];
        let assign = |label, row, value| match label {
            Label::Scalar => changes.iter().find(|(at, _)| *at == row).map_or(value, |(_, by)| value + by),
            _ => value,
        };
        forger.run(SENT, &assign).0
    });
}

/// The same at eta: scalars of each message that cancel within it.
#[test]
fn eta_known_before_m_is_forgeable() {
    passes_only_if_early(Draw::Eta, &|forger| {
        let ([n, _], [_, _, d0, d1]) = top(forger);
        let (_, _, drawn) = forger.run(SENT, SAME);
        let ([_, eta, ..], draws) = (drawn.known(), &drawn.trees[0]);
        let (mu, r) = (draws.mus[0], draws.rounds[1][0]);
        let denominator = n * eta.invert().unwrap();
        let wrong = -n + draws.lambdas[0] * denominator;
        let [n0, n1] = solve([d1, d0, wrong], [Fp::ONE, eta, Fp::ZERO]);
        let wrong = n0 + mu * (n1 - n0);
        let [linear, square] = solve([r - mu, r.square() - mu, -wrong], [Fp::ONE, eta, Fp::ZERO]);
        let changes = [-n, denominator, n0, n1, Fp::ZERO, Fp::ZERO, linear, square];
        let assign = |label, row: usize, value| match label {
            Label::Scalar => value + changes.get(row).copied().unwrap_or_default(),
            _ => value,
        };
        forger.run(SENT, &assign).0
    });
}

/// Two equations that are wrong and cancel: the root's, and that of the last level with that of the leaves.
#[test]
fn kappa_known_before_the_messages_is_forgeable() {
    passes_only_if_early(Draw::Kappa, &|forger| {
        let ([n, _], _) = top(forger);
        let (_, _, drawn) = forger.run(SENT, SAME);
        let [_, _, kappa, _] = drawn.known();
        let last = Sent::Ends { tree: 0, level: shape_of(&forger.case, None).trees[0].depth - 1 };
        let send = |what: Sent, message: &mut [Fp]| {
            if what == last {
                let by = -kappa * n * (kappa.square() - message[2] - message[3]).invert().unwrap();
                message[0] += by;
                message[1] += by;
            }
        };
        forger.run(&send, SAME).0
    });
}

/// Factors that make a product right, and differ from what they should be by nothing at zeta.
#[test]
fn zeta_known_before_the_factors_is_forgeable() {
    passes_only_if_early(Draw::Zeta, &|forger| {
        let ([n, _], [n0, n1, d0, d1]) = top(forger);
        assert_eq!(n, n0 * d1 + n1 * d0);
        let lie = |what: Sent, message: &mut [Fp]| {
            if what == ROOT {
                message[0] = Fp::ZERO;
            }
        };
        let right: Mutex<Vec<Fp>> = Mutex::default();
        let record = |label, _, value| {
            if label == Label::Pair(1) {
                right.lock().unwrap().push(value);
            }
            value
        };
        let (_, _, drawn) = forger.run(&lie, &record);
        let [.., zeta] = drawn.known();
        let v = right.into_inner().unwrap();
        // u of product q is weighed with zeta^(2 q + 1); products 2 and 3 are those of level 1.
        let by = -n * v[0].invert().unwrap();
        let [first, second] = solve([v[2], v[3], Fp::ZERO], [zeta.pow([5]), zeta.pow([7]), -zeta * by]);
        let changes = [by, Fp::ZERO, first, second];
        let assign = |label, row: usize, value| match label {
            Label::Pair(0) => value + changes.get(row).copied().unwrap_or_default(),
            _ => value,
        };
        forger.run(&lie, &assign).0
    });
}

/// A cross term that makes up for what is missing.
#[test]
fn beta_known_before_the_cross_terms_is_forgeable() {
    passes_only_if_early(Draw::Crosses, &|forger| {
        let missing = |by: Fp| {
            let last = Mutex::new(Fp::ZERO);
            let assign = |label, row, value: Fp| match (label, row) {
                (Label::Cross(0), 0) => value + by,
                (Label::Accumulator, _) => {
                    *last.lock().unwrap() = value;
                    value
                }
                _ => value,
            };
            let bytes = forger.run(SENT, &assign).0;
            (bytes, last.into_inner().unwrap())
        };
        let (_, honest) = missing(Fp::ZERO);
        let beta = honest - missing(Fp::ONE).1;
        missing(honest * beta.invert().unwrap()).0
    });
}

/// Nothing that was committed to is sent: no entry, count or scalar of a message, and no two proofs share a point.
#[test]
fn no_scalar_of_the_witness_is_in_the_bytes_and_no_point_is_sent_twice() {
    use std::collections::HashSet;

    use ff::PrimeField;
    let case = case();
    let secrets = Mutex::new(HashSet::new());
    let keep = |value: Fp| {
        secrets.lock().unwrap().insert(value.to_repr());
    };
    let assign = |_, _, value| {
        keep(value);
        value
    };
    let send = |_: Sent, message: &mut [Fp]| message.iter().for_each(|value| keep(*value));
    let conduct = Conduct { assign: &assign, send: &send, ..HONEST };
    let runs: Vec<Vec<u8>> = (0..2).map(|_| case.register_as(&case.columns(), conduct)).collect();
    let other = Case::with(factors(9, &[shape("q", 2, 20, 5), shape("v", 1, 7, 33)])).register();
    assert_eq!([runs[0].len(), runs[1].len()], [other.len(); 2], "lengths depend on shapes alone");
    let words =
        |bytes: &[u8]| -> HashSet<[u8; 32]> { bytes.windows(32).map(|word| word.try_into().unwrap()).collect() };
    let secrets = secrets.into_inner().unwrap();
    assert!(secrets.len() > 600);
    for bytes in &runs {
        let found = words(bytes);
        assert!(secrets.iter().all(|secret| !found.contains(secret)));
    }
    let points = |bytes: &[u8]| -> Vec<[u8; 32]> {
        let (all, _) = bytes[LINK_BYTES..].as_chunks::<32>();
        all.iter().copied().filter(|bytes| bool::from(EqAffine::from_bytes(bytes).is_some())).collect()
    };
    let sent = 293 + 154 + 4 + 1 + 5;
    let all: Vec<[u8; 32]> =
        [&runs[0], &runs[1], &other].into_iter().flat_map(|bytes| points(bytes)[..sent].to_vec()).collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 3 * sent);
}
