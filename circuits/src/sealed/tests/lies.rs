//! What is stated and not so, sealed under the plan that states it: cells are what a forger makes of the lie, all in their
//! tables, and one relation does not hold. The head, which it is said of, has an adapter.

use std::any::Any;

use super::forger::Forger;
use super::network::{Head, Network, Pass, VOCABULARY};
use super::reference::failures;
use super::sweep::in_tables;
use crate::CheckFailed;
use crate::commitment::SiteFactors;
use crate::conduct::HONEST;
use crate::sealed::Ranking;
use crate::sealed::cells::Cells;
use crate::sealed::operations::choice::Largest;
use crate::sealed::plan::SealedPlan;

/// Seals the lie with the cells of what is so, as they are and as a forger goes on to change them, each of which breaks
/// this relation alone; and what is so, which passes.
fn refused(of: &dyn Fn(&Pass<'_>) -> [Head; 2], relation: &str, goes_on: &dyn Fn(&Forger, &mut Cells<'_>)) {
    refused_in(Network::without_curves(4), of, relation, goes_on);
}

/// The same in this network.
fn refused_in(
    network: Network,
    of: &dyn Fn(&Pass<'_>) -> [Head; 2],
    relation: &str,
    goes_on: &dyn Fn(&Forger, &mut Cells<'_>),
) {
    let [so, lie] = of(&network.pass());
    let mut forger = Forger { plan: network.plan(lie), network };
    let honest = forger.network.plan(so.clone());
    let mut cells = honest.fill(&forger.network.factors).unwrap();
    let kept = cells.columns.clone();
    goes_on(&forger, &mut cells);
    let failed = failures(&forger.plan, &cells, &forger.network.factors);
    assert!(!failed.is_empty() && failed.iter().all(|(what, ..)| *what == relation), "{relation}: {failed:?}");
    assert!(in_tables(&cells), "{relation}");
    assert_eq!(forger.verdict(&forger.seal(&cells, HONEST), None), Err(CheckFailed::SealedProof), "{relation}");
    cells.columns = kept;
    forger.plan = forger.network.plan(so);
    assert_eq!(forger.verdict(&forger.seal(&cells, HONEST), None), Ok(()), "{relation}");
}

/// Leaves all as it is.
fn nothing(_: &Forger, _: &mut Cells<'_>) {}

#[test]
fn a_logit_that_is_another_is_refused() {
    for (at, by) in [(3, 1), (2 * VOCABULARY - 1, -1)] {
        let of = |pass: &Pass<'_>| {
            let mut lie = pass.logits.clone();
            lie[at] += by;
            [pass.logits.clone(), lie].map(Head::Outputs)
        };
        refused(&of, "stated output", &nothing);
    }
}

/// What is said of the largest by a plan: its numbers, and its cells with as large an output as one says.
fn say_largest(plan: &SealedPlan, factors: &[SiteFactors], cells: &mut Cells<'_>, of: impl Fn(&[i128], usize) -> i128) {
    let any: &dyn Any = &**plan.operations.last().unwrap();
    let Largest { linear, stated, word, below } = any.downcast_ref().unwrap();
    let (sums, half) = (linear.accumulators(cells, factors), 1 << (linear.shift - 1));
    for (row, (sums, stated)) in sums.chunks_exact(linear.width()).zip(stated).enumerate() {
        let z = (of(sums, *stated) + half) >> linear.shift;
        cells.set_word(word, row, 0, z as i64);
        for (output, sum) in sums.iter().enumerate() {
            let next = z + i128::from(output >= *stated);
            let difference = ((next << linear.shift) - 1 - half - sum).max(0);
            cells.set_unsigned(below, (0, Largest::limbs(linear.shift)), row, output, difference as u128);
        }
    }
}

/// The first of all, or of those that are listed, where it is another.
fn first_instead(so: Head) -> [Head; 2] {
    let mut lie = so.clone();
    let (Head::Largest(stated) | Head::Choice(_, stated)) = &mut lie else { unreachable!("it is of the largest") };
    *stated.iter_mut().find(|stated| **stated > 0).expect("the first is not the largest of every row") = 0;
    [so, lie]
}

/// Among all, and among the first and the largest.
fn choices() -> [fn(&Pass<'_>) -> [Head; 2]; 2] {
    [
        |pass| first_instead(Head::Largest(pass.greedy())),
        |pass| {
            let largest = pass.greedy().into_iter().max().expect("there are rows");
            first_instead(pass.choice(&[0, largest as u32]))
        },
    ]
}

/// The largest output is said to be that of another number, from which it is then far away.
#[test]
fn a_choice_that_is_far_below_the_largest_is_refused() {
    for of in choices() {
        refused(&of, "difference at the largest", &|forger, cells| {
            let largest = |sums: &[i128], _| *sums.iter().max().unwrap();
            say_largest(&forger.plan, &forger.network.factors, cells, largest);
        });
    }
}

/// The output that is stated is said to be the largest, and larger ones to be no larger.
#[test]
fn a_choice_that_others_are_above_is_refused() {
    for of in choices() {
        refused(&of, "difference", &|forger, cells| {
            say_largest(&forger.plan, &forger.network.factors, cells, |sums, stated| sums[stated]);
        });
    }
}

/// Of equal outputs the first is the largest: the one behind it is said to be.
#[test]
fn the_second_of_equal_outputs_is_refused() {
    let of = |pass: &Pass<'_>| {
        let so = pass.greedy();
        assert!(so.iter().all(|stated| stated % 2 == 0), "every second output is as large as the one before it");
        let mut lie = so.clone();
        *lie.iter_mut().find(|stated| **stated + 1 < VOCABULARY).expect("the last output has no twin") += 1;
        [so, lie].map(Head::Largest)
    };
    refused_in(Network::with_equal_outputs(4), &of, "difference", &|forger, cells| {
        say_largest(&forger.plan, &forger.network.factors, cells, |sums, stated| sums[stated]);
    });
}

#[test]
fn log_probabilities_that_are_others_are_refused() {
    type Change = fn(&Pass<'_>, &mut Head);
    let changes: [(&str, Change); 3] = [
        ("log-probability", |_, head| {
            let Head::LogProbs { sums, .. } = head else { unreachable!("they are") };
            sums[0].log_prob += 1;
        }),
        ("bound", |_, head| {
            let Head::LogProbs { bounds, .. } = head else { unreachable!("they are") };
            bounds[1].holds = true;
        }),
        // The second is left out.
        ("ranking", |pass, head| {
            let Head::LogProbs { likeliest, .. } = head else { unreachable!("they are") };
            let Ranking { row, likeliest: listed } = &mut likeliest[0];
            *listed = pass.ranking(*row).likeliest;
            listed.remove(1);
            listed.truncate(3);
        }),
    ];
    for (relation, change) in changes {
        let of = |pass: &Pass<'_>| {
            let mut lie = pass.log_probs();
            change(pass, &mut lie);
            [pass.log_probs(), lie]
        };
        refused(&of, relation, &nothing);
    }
}
