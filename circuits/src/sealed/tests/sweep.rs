//! Every cell is what the cells before it make of it: one is changed, all after it are computed from what it is now, and
//! what is said no longer holds.

use std::sync::atomic::{AtomicUsize, Ordering};

use ff::Field;
use pasta_curves::Fp;

use super::network::{Head, Network, ROWS};
use super::plain::{first_of, holds_at};
use crate::commitment::arrange;
use crate::conduct::{Conduct, HONEST, Label};
use crate::sealed::cells::Cells;
use crate::sealed::cells::leaf_columns;
use crate::sealed::operations::attention::{MARK, pair_class};
use crate::sealed::plan::Plan;
use crate::sealed::prove::{Secret, seal_cells};
use crate::sealed::verify_sealed;
use crate::tests::support::key;
use crate::{CheckFailed, entropy};

/// Whether every leaf is an entry of its table.
fn in_tables(cells: &Cells<'_>) -> bool {
    let mut known = std::collections::BTreeMap::new();
    leaf_columns(cells.arrangement).iter().all(|(table, planes)| {
        let entries = known.entry(*table).or_insert_with(|| table.entries());
        let rows = planes.iter().flatten().map(|(column, _)| cells.columns[*column].len()).max().unwrap_or_default();
        (0..rows).all(|row| {
            let entry = cells.entry(planes, row);
            let at = usize::try_from(entry[0] - table.least()).ok();
            at.and_then(|at| entries.get(at)) == Some(&entry)
        })
    })
}

/// The cells that each operation fills: those that it changes, whatever was in them.
fn written(plan: &Plan, network: &Network) -> Vec<Vec<(usize, usize)>> {
    let mut honest = Cells::new(&plan.arrangement);
    let mut all = Vec::new();
    for operation in &plan.operations {
        let before = honest.columns.clone();
        operation.fill(&mut honest, &network.factors).unwrap();
        let cells = honest.columns.iter().zip(&before).enumerate().flat_map(|(column, (new, old))| {
            new.iter().zip(old).enumerate().filter(|(_, (new, old))| new != old).map(move |(row, _)| (column, row))
        });
        all.push(cells.collect());
    }
    all
}

/// Cells with one changed after the operation that fills it; `None` if what follows has no result, so that no prover can
/// go on from there.
fn changed<'p>(
    plan: &'p Plan,
    network: &Network,
    operation: usize,
    (column, row): (usize, usize),
    by: i32,
) -> Option<Cells<'p>> {
    let mut cells = Cells::new(&plan.arrangement);
    for (number, each) in plan.operations.iter().enumerate() {
        each.fill(&mut cells, &network.factors).ok()?;
        if number == operation {
            cells.columns[column][row] += by;
        }
    }
    Some(cells)
}

#[test]
fn no_cell_may_be_another() {
    let network = Network::new(3);
    let pass = network.pass();
    for head in [Head::Largest(pass.greedy()), Head::Outputs(pass.logits.clone())] {
        let plan = network.plan(head);
        let first = first_of(9);
        let (mut tried, mut gone_on) = (0, 0);
        for (operation, cells) in written(&plan, &network).into_iter().enumerate() {
            // Some of each column; every plane of every class is in several.
            for (at, cell) in cells.iter().enumerate().filter(|(at, _)| at % 3 == 0) {
                let by = [1, -1][at / 3 % 2];
                tried += 1;
                let Some(forged) = changed(&plan, &network, operation, *cell, by) else { continue };
                gone_on += 1;
                let holds = in_tables(&forged) && holds_at(&plan, &forged, &network.factors, &first);
                assert!(!holds, "operation {operation}, cell {cell:?}, by {by}");
            }
        }
        assert!(tried > 1000 && gone_on > tried / 2, "{gone_on} of {tried}");
    }
}

/// Cells that stay zero, whoever they belong to: another value is refused, but for marks of pairs that are not seen, and
/// what is past the end of a vector, which nothing is claimed of.
#[test]
fn no_cell_that_is_zero_may_be_another() {
    let network = Network::new(3);
    let plan = network.plan(Head::Largest(network.pass().greedy()));
    let first = first_of(10);
    let mut cells = plan.fill(&network.factors).unwrap();
    let (mut tried, mut free) = (0, 0);
    for column in 0..cells.columns.len() {
        let zeros: Vec<usize> =
            (0..cells.columns[column].len()).filter(|row| cells.columns[column][*row] == 0).collect();
        for row in zeros.into_iter().step_by(2) {
            cells.columns[column][row] = 1;
            tried += 1;
            if in_tables(&cells) && holds_at(&plan, &cells, &network.factors, &first) {
                free += 1;
                assert!(is_unseen_mark(&plan, column, row), "column {column}, row {row}");
            }
            cells.columns[column][row] = 0;
        }
    }
    assert!(tried > 300 && free > 5, "{free} of {tried}");
}

/// Whether a cell is the mark of a pair whose query does not see the key.
fn is_unseen_mark(plan: &Plan, column: usize, row: usize) -> bool {
    let group = plan.arrangement.groups.iter().find(|group| group.class == pair_class()).unwrap();
    // One vector for all rows of 2 heads of as many keys as rows.
    let inside = (group.first..group.first + group.columns()).contains(&column);
    let (query, key) = (row / (2 * ROWS), row % ROWS);
    inside && (column - group.first) % group.class.planes == MARK && key > query
}

/// The same by the whole proof, of a few.
#[test]
fn a_proof_of_another_cell_is_refused() {
    let network = Network::new(4);
    let plan = network.plan(Head::Largest(network.pass().greedy()));
    let key = key(plan.k());
    let (statement, commitment) = (network.statement(), &network.commitment);
    let columns = arrange(&commitment.layout, &network.factors);
    let secret = Secret { opening: &network.opening, factors: &network.factors, columns: &columns };
    let written = written(&plan, &network);
    let forger = Conduct { check: false, ..HONEST };
    for (operation, cells) in written.iter().enumerate().filter(|(number, _)| number % 4 == 0) {
        let Some(forged) = changed(&plan, &network, operation, cells[cells.len() / 2], 1) else { continue };
        let random = entropy::fresh_generator().unwrap();
        let proof =
            seal_cells(key, &statement, commitment, secret, (&plan, &forged), &mut |_, _| {}, forger, random).unwrap();
        let refused = verify_sealed(key, &statement, commitment, &plan, &proof);
        assert_eq!(refused, Err(CheckFailed::SealedProof), "operation {operation}");
    }
}

/// Every scalar that sums end in, or that the adapter adds, is defined by one equation and used by another: none may be
/// another, alone.
#[test]
fn no_end_may_be_another() {
    let network = Network::new(4);
    let plan = network.plan(Head::Largest(network.pass().greedy()));
    let key = key(plan.k());
    let (statement, commitment) = (network.statement(), &network.commitment);
    let columns = arrange(&commitment.layout, &network.factors);
    let secret = Secret { opening: &network.opening, factors: &network.factors, columns: &columns };
    let cells = plan.fill(&network.factors).unwrap();
    let counted = [0, 1, 2].map(|_| AtomicUsize::new(0));
    let honest = |label: Label, row: usize, value: Fp| {
        if let Label::End(part) = label {
            counted[part].fetch_max(row + 1, Ordering::Relaxed);
        }
        value
    };
    let seal = |assign: &(dyn Fn(Label, usize, Fp) -> Fp + Sync)| {
        let forger = Conduct { check: false, assign, ..HONEST };
        let random = entropy::fresh_generator().unwrap();
        seal_cells(key, &statement, commitment, secret, (&plan, &cells), &mut |_, _| {}, forger, random).unwrap()
    };
    assert_eq!(verify_sealed(key, &statement, commitment, &plan, &seal(&honest)), Ok(()));
    let counted = counted.map(|count| count.load(Ordering::Relaxed));
    assert!(counted.iter().all(|count| *count > 5), "{counted:?}");
    for (part, count) in counted.into_iter().enumerate() {
        for end in (0..count).step_by(count.div_ceil(6)) {
            let forged = |label: Label, row: usize, value: Fp| {
                if (label, row) == (Label::End(part), end) { value + Fp::ONE } else { value }
            };
            let refused = verify_sealed(key, &statement, commitment, &plan, &seal(&forged));
            assert_eq!(refused, Err(CheckFailed::SealedProof), "end {end} of part {part}");
        }
    }
}
