//! Relations that no change of one cell breaks alone: several cells are changed so that each of them is the only one that
//! does not hold.

use std::any::Any;
use std::collections::BTreeSet;

use super::forger::Forger;
use super::network::{Head, Network, ROWS};
use super::plain::{first_of, holds_at};
use super::reference::failures;
use super::sweep::in_tables;
use crate::CheckFailed;
use crate::conduct::HONEST;
use crate::sealed::arrangement::limbs;
use crate::sealed::cells::Cells;
use crate::sealed::operations::attention::{Attend, MARK};
use crate::sealed::operations::choice::Largest;
use crate::sealed::operations::graph::Rectify;
use crate::sealed::operations::log_prob::LogSumExp;
use crate::sealed::plan::SealedPlan;
use crate::sealed::tables::exponential;

/// The first operation of a kind.
fn operation<T: 'static>(plan: &SealedPlan) -> &T {
    plan.operations.iter().find_map(|operation| (&**operation as &dyn Any).downcast_ref()).unwrap()
}

/// That everything is in its table, and that one relation alone does not hold.
fn breaks(what: &str, plan: &SealedPlan, cells: &Cells<'_>, network: &Network) {
    assert!(in_tables(cells), "{what}");
    let broken: BTreeSet<&str> = failures(plan, cells, &network.factors).into_iter().map(|(own, ..)| own).collect();
    assert_eq!(broken, BTreeSet::from([what]));
    assert!(!holds_at(plan, cells, &network.factors, &first_of(8)), "{what}");
}

#[test]
fn an_interval_short_of_the_last_has_nothing_beyond() {
    let network = Network::new(3);
    let plan = network.plan(Head::Largest(network.pass().greedy()));
    let mut cells = plan.fill(&network.factors).unwrap();
    // A pair that is not seen, with a distance of two intervals.
    let Attend { pairs, .. } = operation(&plan);
    let ([value, fall], zero) = (exponential(1), exponential(0));
    for (planes, number) in [((0, 5), 1 << 27), ((7, 3), 1), ((10, 3), 1 << 47), ((15, 2), value as u128)] {
        cells.set_unsigned(pairs, planes, 0, 1, number);
    }
    for (plane, number) in [(6, 1), (13, value - zero[0]), (14, fall - zero[1]), (17, 1 << 8)] {
        cells.set(pairs, plane, 0, 1, number);
    }
    breaks("beyond", &plan, &cells, &network);
    // Both in the interval: then all is as it should be.
    let [value, fall] = exponential(2);
    cells.set_unsigned(pairs, (7, 3), 0, 1, 0);
    cells.set_unsigned(pairs, (15, 2), 0, 1, value as u128);
    for (plane, number) in [(6, 2), (13, value - zero[0]), (14, fall - zero[1])] {
        cells.set(pairs, plane, 0, 1, number);
    }
    assert!(in_tables(&cells) && holds_at(&plan, &cells, &network.factors, &first_of(8)));
}

/// Each number has the table of its own width: what is in a wider one is no entry of it.
#[test]
fn an_entry_of_another_table_is_none() {
    let forger = Forger::new();
    let Forger { network, plan } = &forger;
    let mut cells = forger.cells();
    let Attend { pairs, .. } = operation(plan);
    // A pair that is not seen, whose exponential is one more, with a rest that is below zero by as much.
    let e = cells.integer(&pairs.tensor(limbs(15, 2)), 0, 1);
    let rest = cells.integer(&pairs.plane(17), 0, 1);
    cells.set_unsigned(pairs, (15, 2), 0, 1, e as u128 + 1);
    cells.set(pairs, 17, 0, 1, rest - (1 << 9));
    assert!(holds_at(plan, &cells, &network.factors, &first_of(8)) && !in_tables(&cells));
    assert_eq!(forger.verdict(&forger.seal(&cells, HONEST), None), Err(CheckFailed::SealedProof));
}

/// What belongs to a key is looked up with it: another value, or another fall, of the same interval is no entry.
#[test]
fn an_entry_with_something_else_beside_its_key_is_none() {
    let forger = Forger::new();
    let Forger { network, plan } = &forger;
    let Attend { pairs, .. } = operation(plan);
    // Of a pair that is not seen, at the left end of an interval, where the fall does not count.
    let more = |cells: &mut Cells<'_>, plane: usize| {
        let before = cells.integer(&pairs.plane(plane), 0, 1);
        cells.set(pairs, plane, 0, 1, before + 1);
    };
    for planes in [&[13, 15][..], &[14]] {
        let mut cells = forger.cells();
        assert_eq!(cells.integer(&pairs.plane(5), 0, 1), 0);
        planes.iter().for_each(|plane| more(&mut cells, *plane));
        assert!(holds_at(plan, &cells, &network.factors, &first_of(8)) && !in_tables(&cells), "{planes:?}");
        assert_eq!(failures(plan, &cells, &network.factors), [], "{planes:?}");
        assert_eq!(forger.verdict(&forger.seal(&cells, HONEST), None), Err(CheckFailed::SealedProof), "{planes:?}");
    }
}

#[test]
fn a_mark_stands_where_there_is_no_distance() {
    let network = Network::new(3);
    let plan = network.plan(Head::Largest(network.pass().greedy()));
    let mut cells = plan.fill(&network.factors).unwrap();
    let Attend { pairs, .. } = operation(&plan);
    let row = ROWS - 1;
    let marked = (0..ROWS).find(|key| cells.integer(&pairs.plane(MARK), row, *key) == 1).unwrap();
    cells.set(pairs, MARK, row, marked, 0);
    cells.set(pairs, MARK, row, (marked + 1) % ROWS, 1);
    breaks("mark", &plan, &cells, &network);
}

#[test]
fn a_number_is_above_zero_or_below() {
    let network = Network::new(3);
    let plan = network.plan(Head::Largest(network.pass().greedy()));
    let mut cells = Cells::new(&plan.arrangement);
    let mut changed = 0;
    for operation in &plan.operations {
        operation.fill(&mut cells, &network.factors).unwrap();
        let any: &dyn Any = &**operation;
        let Some(Rectify { input, span }) = any.downcast_ref() else { continue };
        // All after it is computed from what it is now.
        let below = (0..input.width).find(|feature| cells.integer(input, 1, *feature) < 0).unwrap();
        let by = cells.integer(input, 1, below).unsigned_abs();
        cells.set_unsigned(span, (0, 2), 1, below, 1);
        cells.set_unsigned(span, (2, 2), 1, below, u128::from(by) + 1);
        changed += 1;
    }
    assert_eq!(changed, 1);
    breaks("above or below", &plan, &cells, &network);
}

#[test]
fn the_largest_is_no_more_than_it_is() {
    let network = Network::new(3);
    let plan = network.plan(Head::Largest(network.pass().greedy()));
    let mut cells = plan.fill(&network.factors).unwrap();
    let Largest { linear, word, below, .. } = operation(&plan);
    let largest = cells.integer(&word.tensor(limbs(0, 2)), 1, 0);
    cells.set_word(word, 1, 0, largest + 1);
    let limb = linear.shift as usize / 16;
    for output in 0..linear.width() {
        let before = cells.integer(&below.plane(limb), 1, output);
        cells.set(below, limb, 1, output, before + 1);
    }
    breaks("difference at the largest", &plan, &cells, &network);
}

#[test]
fn a_distance_of_an_output_has_one_share_beyond_the_tables() {
    let filled = (3..14).find_map(|shift| {
        let network = Network::with_head(4, shift);
        let plan = network.plan(network.pass().log_probs());
        let LogSumExp { outputs, .. } = operation(&plan);
        let cells = plan.fill(&network.factors).ok()?;
        let mut places = (0..2).flat_map(|row| (0..outputs.width).map(move |output| (row, output)));
        let far = places.find(|(row, output)| cells.integer(&outputs.plane(5), *row, *output) > 0)?;
        let columns = cells.columns;
        Some((network, plan, columns, far))
    });
    let (network, plan, columns, (row, far)) = filled.unwrap();
    let mut cells = Cells { arrangement: &plan.arrangement, columns };
    let LogSumExp { outputs, .. } = operation(&plan);
    // One step before the last, whose exponential is nothing either, and one more beyond.
    let beyond = cells.integer(&outputs.plane(5), row, far);
    cells.set(outputs, 2, row, far, 1);
    cells.set(outputs, 5, row, far, beyond + 1);
    breaks("beyond of an output", &plan, &cells, &network);
}

#[test]
fn the_mark_of_an_output_stands_at_the_largest() {
    let network = Network::new(3);
    let plan = network.plan(network.pass().log_probs());
    let mut cells = plan.fill(&network.factors).unwrap();
    let LogSumExp { outputs, .. } = operation(&plan);
    let marked = (0..outputs.width).find(|output| cells.integer(&outputs.plane(6), 1, *output) == 1).unwrap();
    cells.set(outputs, 6, 1, marked, 0);
    cells.set(outputs, 6, 1, (marked + 1) % outputs.width, 1);
    breaks("mark of an output", &plan, &cells, &network);
}

#[test]
fn what_is_stated_of_log_probabilities_is_a_relation_of_its_own() {
    let network = Network::new(3);
    let pass = network.pass();
    let Head::LogProbs { sums, bounds, likeliest } = pass.log_probs() else { unreachable!("log-probabilities are") };
    let honest = network.plan(pass.log_probs());
    let columns = honest.fill(&network.factors).unwrap().columns;
    let stated = |what: &str, change: &dyn Fn(&mut Head)| {
        let mut head = Head::LogProbs { sums: sums.clone(), bounds: bounds.clone(), likeliest: likeliest.clone() };
        change(&mut head);
        let plan = network.plan(head);
        breaks(what, &plan, &Cells { arrangement: &plan.arrangement, columns: columns.clone() }, &network);
    };
    stated("log-probability", &|head| {
        let Head::LogProbs { sums, .. } = head else { return };
        sums[0].log_prob += 1;
    });
    stated("bound", &|head| {
        let Head::LogProbs { bounds, .. } = head else { return };
        bounds[0].bound += 1;
    });
}
