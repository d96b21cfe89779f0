//! Cells of the circuit that a prover chooses freely must not change what is accepted.

use ff::{Field, PrimeField};
use halo2_proofs::dev::MockProver;
use pasta_curves::Fp;

use super::support::*;
use crate::circuit::delta::{DeltaCircuit, Label, Schedule, Trace, with_lanes};
use crate::circuit::digits::DigitsCircuit;
use crate::commitment::arrange;
use crate::fold::{fold, powers};
use crate::layout::{Layout, useful_rows};
use crate::linked;

/// Every computed cell, one at a time, is replaced and what follows recomputed; the forger then states the result the
/// circuit gives. Weights are not overridden here: that they are the committed ones is the link's part.
#[test]
fn no_overridden_cell_yields_an_accepted_wrong_result() {
    let factors = factors(3, &[shape("q", 2, 20, 5), shape("v", 1, 7, 33)]);
    let shapes: Vec<_> = factors.iter().map(|site| site.shape.clone()).collect();
    let layout = Layout::new(&shapes);
    assert_eq!((layout.k, layout.panels), (6, 1));
    let weights = arrange(&layout, &factors);
    let (rho, tau) = (Fp::from(1234), Fp::from(5678));
    let folded = fold(&shapes, &rows(2, &factors, ROWS), [rho, tau]);
    let honest = Schedule::new(&layout, 0, &[2, 1], &folded, &powers(tau, 33));

    let run = |target: Option<(Label, usize, usize)>| {
        let trace = Trace::new(layout.k, layout.lanes, &weights, &honest, |label, lane, row, value| {
            if target == Some((label, lane, row)) { value + Fp::from(3) } else { value }
        });
        let mut stated = folded.clone();
        for (site, place) in layout.sites_of(0) {
            stated[site].result = trace.result(&honest, place.end());
        }
        let schedule = Schedule::new(&layout, 0, &[2, 1], &stated, &powers(tau, 33));
        let instances = schedule.columns().into_iter().map(<[Fp]>::to_vec).collect();
        let circuit = DeltaCircuit { k: layout.k, witness: Some((&weights, trace)) };
        let accepted =
            with_lanes(layout.lanes, || MockProver::run(layout.k, &circuit, instances).unwrap().verify().is_ok());
        (accepted, stated == folded)
    };

    assert_eq!(run(None), (true, true));
    let (mut refused, mut harmless) = (0, 0);
    for label in [Label::Accumulator, Label::Held] {
        for lane in 0..layout.lanes {
            for row in 0..useful_rows(layout.k) {
                match run(Some((label, lane, row))) {
                    (true, false) => panic!("{label:?} of lane {lane} in row {row} is free"),
                    (true, true) => harmless += 1,
                    (false, _) => refused += 1,
                }
            }
        }
    }
    // Row 0 is what the first step forgets (accumulator) or overwrites (held): free on purpose in both lanes.
    assert_eq!((refused, harmless), (4 * 31, 4), "cells in which a change is refused and harmless");
}

/// The digit gate is on in every row that carries meaning, and only 0, 1, 2, 3 pass.
#[test]
fn only_digits_are_digits() {
    let k = 6;
    let run = |row: usize, value: Fp| {
        let mut columns = vec![vec![Fp::ZERO; (1 << k) - 6]; 16];
        columns[5][row] = value;
        let circuit = DigitsCircuit { k, columns: Some(&columns) };
        MockProver::run(k, &circuit, Vec::new()).unwrap().verify().is_ok()
    };
    for row in 0..useful_rows(k) {
        assert!(run(row, Fp::from(0xffff)));
        assert!(!run(row, Fp::from(0x10000)), "{row}");
    }
    for value in [-Fp::ONE, Fp::TWO_INV, Fp::from(1 << 40)] {
        assert!(!run(3, value), "{value:?}");
    }
}

/// Changing a circuit changes every proof; then the protocol version must change too.
#[test]
fn verifying_keys_are_the_pinned_ones() {
    let digest = |text: String| blake3::hash(text.as_bytes()).to_hex().to_string();
    let delta = with_lanes(2, || linked::verifying_key(key(6), &DeltaCircuit { k: 6, witness: None })).unwrap();
    let digits = linked::verifying_key(key(6), &DigitsCircuit { k: 6, columns: None }).unwrap();
    let found = [digest(format!("{:?}", delta.pinned())), digest(format!("{:?}", digits.pinned()))];
    assert_eq!(found, include!("verifying_keys.in"));
}
