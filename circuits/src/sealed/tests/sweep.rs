//! Every cell is what the cells before it make of it: one is changed, all after it are computed from what it is now, and
//! what is said no longer holds.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use ff::Field;
use pasta_curves::Fp;

use super::forger::Forger;
use super::network::{Head, Network, Pass, ROWS, VOCABULARY};
use super::plain::{Plain, first_of};
use super::reference::{Failed, failures};
use crate::CheckFailed;
use crate::conduct::{Conduct, HONEST, Label, Sent};
use crate::fixed::FixedError;
use crate::sealed::arrangement::Group;
use crate::sealed::cells::{Cells, leaf_columns};
use crate::sealed::operations::attention::{MARK, pair_class};
use crate::sealed::operations::linear::Project;
use crate::sealed::operations::log_prob::rank_class;
use crate::sealed::plan::SealedPlan;

/// Whether every leaf is an entry of its table.
pub(super) fn in_tables(cells: &Cells<'_>) -> bool {
    leaf_columns(cells.arrangement).iter().all(|(table, planes)| {
        let rows = planes.iter().flatten().map(|(column, _)| cells.columns[*column].len()).max().unwrap_or_default();
        (0..rows).all(|row| {
            let entry = cells.entry(planes, row);
            table.place(entry[0]).is_some_and(|at| table.entries()[at] == entry)
        })
    })
}

/// All cells as they are when an operation has filled its own, and where those are that it changes, whatever was in them.
struct Filled<'p> {
    cells: Cells<'p>,
    own: Vec<(usize, usize)>,
}

fn filled<'p>(plan: &'p SealedPlan, network: &Network) -> Vec<Filled<'p>> {
    let mut cells = Cells::new(&plan.arrangement);
    let mut all = Vec::new();
    for operation in &plan.operations {
        let before = cells.columns.clone();
        operation.fill(&mut cells, &network.factors).unwrap();
        let own = cells.columns.iter().zip(&before).enumerate().flat_map(|(column, (new, old))| {
            new.iter().zip(old).enumerate().filter(|(_, (new, old))| new != old).map(move |(row, _)| (column, row))
        });
        all.push(Filled { own: own.collect(), cells: cells.clone() });
    }
    all
}

/// Cells with one changed after the operation that fills it; `None` if what follows has no result, so that no prover can
/// go on from there.
fn changed<'p>(
    plan: &SealedPlan,
    network: &Network,
    (operation, filled): (usize, &Filled<'p>),
    (column, row): (usize, usize),
    by: i32,
) -> Option<Cells<'p>> {
    let mut cells = filled.cells.clone();
    cells.columns[column][row] += by;
    let mut rest = plan.operations[operation + 1..].iter();
    rest.try_for_each(|after| after.fill(&mut cells, &network.factors)).ok()?;
    Some(cells)
}

/// What plain integers say of cells, and what an equation at a random point does: it is the same.
fn judged(plan: &SealedPlan, cells: &Cells<'_>, network: &Network, point: &Plain<'_>) -> Vec<Failed> {
    let failed = failures(plan, cells, &network.factors);
    assert_eq!(failed.is_empty(), point.holds(cells, &network.factors), "{failed:?}");
    failed
}

#[test]
fn no_cell_may_be_another() {
    let network = Network::new(3);
    let pass = network.pass();
    let mut broken = BTreeSet::new();
    let mut body = None;
    for head in pass.heads() {
        let plan = network.plan(head);
        let point = Plain::new(&plan, &first_of(9));
        let (mut tried, mut gone_on) = (0, 0);
        // What stands before the head, all but the last operation of the first, is the same before the others.
        for (operation, filled) in filled(&plan, &network).iter().enumerate().skip(body.unwrap_or(0)) {
            // Some of each column; every plane of every class is in several.
            for (at, cell) in filled.own.iter().enumerate().filter(|(at, _)| at % 3 == 0) {
                let by = [1, -1][at / 3 % 2];
                tried += 1;
                let Some(forged) = changed(&plan, &network, (operation, filled), *cell, by) else { continue };
                gone_on += 1;
                let failed = judged(&plan, &forged, &network, &point);
                assert!(!(failed.is_empty() && in_tables(&forged)), "operation {operation}, cell {cell:?}, by {by}");
                broken.extend(failed.first().map(|(what, ..)| *what));
            }
        }
        let least = if body.is_none() { 1000 } else { 20 };
        assert!(tried > least && gone_on > tried / 2, "{gone_on} of {tried}");
        body.get_or_insert(plan.operations.len() - 1);
    }
    // The others are in `relations`.
    let all = [
        ["rounding", "radicand", "below", "above", "score"],
        ["exponent", "exponential", "marks", "sum", "reciprocal"],
        ["missing", "place on the curve", "rectified", "difference", "stated output"],
        ["distance", "place", "product", "gap", "ranking"],
    ];
    assert!(all.as_flattened().iter().all(|what| broken.contains(what)), "{broken:?}");
}

/// Cells that stay zero, whoever they belong to: another value is refused, but for marks of pairs that are not seen, how
/// far listed outputs are behind the last that is, and what is past the end of a vector, which nothing is claimed of.
#[test]
fn no_cell_that_is_zero_may_be_another() {
    let network = Network::new(3);
    let pass = network.pass();
    for head in [Head::Largest(pass.greedy()), pass.log_probs()] {
        let plan = network.plan(head);
        let point = Plain::new(&plan, &first_of(10));
        let mut cells = plan.fill(&network.factors).unwrap();
        let (mut tried, mut free) = (0, 0);
        for column in 0..cells.columns.len() {
            let zeros: Vec<usize> =
                (0..cells.columns[column].len()).filter(|row| cells.columns[column][*row] == 0).collect();
            for row in zeros.into_iter().step_by(2) {
                cells.columns[column][row] = 1;
                tried += 1;
                if judged(&plan, &cells, &network, &point).is_empty() && in_tables(&cells) {
                    free += 1;
                    let known = is_unseen_mark(&plan, column, row) || is_listed(&plan, &pass, column, row);
                    assert!(known, "column {column}, row {row}");
                }
                cells.columns[column][row] = 0;
            }
        }
        assert!(tried > 300 && free > 5, "{free} of {tried}");
    }
}

/// Whether a cell is how far an output that is listed is behind the last that is.
fn is_listed(plan: &SealedPlan, pass: &Pass<'_>, column: usize, row: usize) -> bool {
    let Head::LogProbs { likeliest, .. } = pass.log_probs() else { unreachable!("log-probabilities are") };
    let of_ranks = |group: &&Group| group.class == rank_class() && group.length == VOCABULARY;
    let Some(group) = plan.arrangement.groups.iter().find(of_ranks) else { return false };
    let inside = (group.first..group.first + group.columns()).contains(&column);
    inside && likeliest[row / VOCABULARY].likeliest.iter().any(|(output, _)| *output == row % VOCABULARY)
}

/// Whether a cell is the mark of a pair whose query does not see the key.
fn is_unseen_mark(plan: &SealedPlan, column: usize, row: usize) -> bool {
    let group = plan.arrangement.groups.iter().find(|group| group.class == pair_class()).unwrap();
    // One vector for all rows of 2 heads of as many keys as rows.
    let inside = (group.first..group.first + group.columns()).contains(&column);
    let (query, key) = (row / (2 * ROWS), row % ROWS);
    inside && (column - group.first) % group.class.planes == MARK && key > query
}

/// A word that is one more, with a rest that is less by what that comes to: all that is linear is as it was, and the next
/// word follows. The rest has no such limb.
#[test]
fn a_word_and_its_rest_are_one_number() {
    let forger = Forger::new();
    let Forger { network, plan } = &forger;
    let point = Plain::new(plan, &first_of(11));
    let mut tried = 0;
    for number in 0..plan.operations.len() {
        let any: &dyn Any = &*plan.operations[number];
        let Some(Project { rounded, .. }) = any.downcast_ref() else { continue };
        let mut cells = Cells::new(&plan.arrangement);
        let filled = plan.operations.iter().enumerate().try_for_each(|(own, operation)| {
            operation.fill(&mut cells, &network.factors)?;
            if own == number {
                let limbs = rounded.shift as usize / 16;
                for (plane, by) in [(0, 1), (1 + limbs, -(1 << 16))] {
                    let before = cells.integer(&rounded.span.plane(plane), 0, 1);
                    cells.set(&rounded.span, plane, 0, 1, before + by);
                }
            }
            Ok::<_, FixedError>(())
        });
        if filled.is_err() {
            continue;
        }
        assert!(!in_tables(&cells) && judged(plan, &cells, network, &point).is_empty(), "operation {number}");
        assert_eq!(forger.verdict(&forger.seal(&cells, HONEST), None), Err(CheckFailed::SealedProof), "{number}");
        tried += 1;
    }
    assert!(tried > 3, "{tried}");
}

/// The same by the whole proof, of a few.
#[test]
fn a_proof_of_another_cell_is_refused() {
    let forger = Forger::of(Network::new(4));
    let Forger { network, plan } = &forger;
    for (operation, filled) in filled(plan, network).iter().enumerate().filter(|(number, _)| number % 4 == 0) {
        let cell = filled.own[filled.own.len() / 2];
        let Some(forged) = changed(plan, network, (operation, filled), cell, 1) else { continue };
        let refused = forger.verdict(&forger.seal(&forged, HONEST), None);
        assert_eq!(refused, Err(CheckFailed::SealedProof), "operation {operation}");
    }
}

/// Counts, scalars that are committed to once more, factors of products, ends of sums, and what the adapter adds: each
/// is defined by one equation and used by another, and none may be another, alone.
#[test]
fn no_scalar_may_be_another() {
    let forger = Forger::new();
    let cells = forger.plan.fill(&forger.network.factors).unwrap();
    let labels =
        [Label::Count(0), Label::Scalar, Label::Pair(0), Label::Pair(1), Label::End(0), Label::End(1), Label::End(2)];
    let counted = labels.map(|_| AtomicUsize::new(0));
    let honest = |label: Label, row: usize, value: Fp| {
        if let Some(place) = labels.iter().position(|own| *own == label) {
            counted[place].fetch_max(row + 1, Ordering::Relaxed);
        }
        value
    };
    let proof = forger.seal(&cells, Conduct { assign: &honest, ..HONEST });
    assert_eq!(forger.verdict(&proof, None), Ok(()));
    for (of, count) in labels.into_iter().zip(counted.map(|count| count.load(Ordering::Relaxed))) {
        assert!(count > 5, "{of:?}");
        for at in (0..count).step_by(count.div_ceil(4)) {
            let forged = |label: Label, row: usize, value: Fp| {
                if (label, row) == (of, at) { value + Fp::ONE } else { value }
            };
            let proof = forger.seal(&cells, Conduct { assign: &forged, ..HONEST });
            assert_eq!(forger.verdict(&proof, None), Err(CheckFailed::SealedProof), "{of:?}, row {at}");
        }
    }
}

/// The head's adapter occurs in five operations: what it adds in each is defined by equations of its own.
#[test]
fn nothing_that_an_adapter_adds_in_several_places_may_be_another() {
    let forger = Forger::of_several();
    let cells = forger.cells();
    let count = AtomicUsize::new(0);
    let honest = |label: Label, row: usize, value: Fp| {
        if label == Label::End(1) {
            count.fetch_max(row + 1, Ordering::Relaxed);
        }
        value
    };
    assert_eq!(forger.verdict(&forger.seal(&cells, Conduct { assign: &honest, ..HONEST }), None), Ok(()));
    // v and h of 2 + 3 + 2 lanes, then of one lane in five places.
    let (before, all) = (14, count.into_inner());
    assert_eq!(all, before + 10);
    for at in before..all {
        let forged = |label: Label, row: usize, value: Fp| {
            if (label, row) == (Label::End(1), at) { value + Fp::ONE } else { value }
        };
        let proof = forger.seal(&cells, Conduct { assign: &forged, ..HONEST });
        assert_eq!(forger.verdict(&proof, None), Err(CheckFailed::SealedProof), "row {at}");
    }
}

/// A message of each kind is changed, and all after it follow from what it is now.
#[test]
fn no_message_may_be_another() {
    let forger = Forger::new();
    let cells = forger.plan.fill(&forger.network.factors).unwrap();
    let last = forger.plan.k() as usize;
    for forged in [
        Sent::Root { tree: 0 },
        Sent::Round { tree: 0, level: last, round: 0 },
        Sent::Round { tree: 0, level: last, round: last - 1 },
        Sent::Ends { tree: 0, level: 0 },
        Sent::Ends { tree: 0, level: last },
        Sent::Sum { stage: 1, round: 0 },
        Sent::Sum { stage: 1, round: 5 },
        Sent::Sum { stage: 2, round: 0 },
        Sent::Sum { stage: 2, round: 3 },
    ] {
        let met = AtomicUsize::new(0);
        let send = |sent: Sent, message: &mut [Fp]| {
            if sent == forged {
                met.fetch_add(1, Ordering::Relaxed);
                message[1] += Fp::ONE;
            }
        };
        let proof = forger.seal(&cells, Conduct { send: &send, ..HONEST });
        assert_eq!(met.into_inner(), 1, "{forged:?} is sent");
        assert_eq!(forger.verdict(&proof, None), Err(CheckFailed::SealedProof), "{forged:?}");
    }
}
