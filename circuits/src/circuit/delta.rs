//! One panel of the delta proof: `S = sum_l (A_l . xbar) (B_l . tau)` for each of its sites.
//!
//! `STATEMENT.md`, section 4, has the argument; the names of the gates are the same.

use std::cell::Cell;
use std::ops::Range;

use ff::Field;
use halo2_proofs::circuit::{Layouter, SimpleFloorPlanner, Value};
use halo2_proofs::plonk::{Advice, Circuit, Column, ConstraintSystem, Error, Expression, Fixed, Instance};
use halo2_proofs::poly::Rotation;
use pasta_curves::Fp;

use crate::fold::FoldedSite;
use crate::key::UNUSABLE;
use crate::layout::{Layout, OFFSET, PRODUCTS, useful_rows};

thread_local! {
    /// Lanes of the circuit being configured: `Circuit::configure` takes no parameters in halo2_proofs 0.4.1.
    static LANES: Cell<usize> = const { Cell::new(1) };
}

/// Runs `f`, in which [`DeltaCircuit`]s have that many lanes on this thread.
pub(crate) fn with_lanes<T>(lanes: usize, f: impl FnOnce() -> T) -> T {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            LANES.set(self.0);
        }
    }
    let _restore = Restore(LANES.replace(lanes));
    f()
}

#[derive(Clone, Debug)]
pub(crate) struct DeltaConfig {
    /// `(lanes * PRODUCTS)`: w + 2^15. Constrained by the link alone.
    weights: Vec<Column<Advice>>,
    /// Per lane, constrained by (accumulate).
    accumulators: Vec<Column<Advice>>,
    /// Per lane, constrained by (hold).
    held: Vec<Column<Advice>>,
    /// One where a gate may read the next row.
    enabled: Column<Fixed>,
}

/// Instance values of one panel: everything the verifier knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    coefficients: Vec<Vec<Fp>>,
    offset: Vec<Fp>,
    carry: Vec<Fp>,
    load: Vec<Fp>,
    result: Vec<Fp>,
    masks: Vec<Vec<Fp>>,
}

impl Schedule {
    /// The schedule of a panel; `taus` are the powers of tau from 0.
    pub(crate) fn new(layout: &Layout, panel: usize, ranks: &[usize], sites: &[FoldedSite], taus: &[Fp]) -> Self {
        let rows = 1 + layout.sites_of(panel).map(|(_, place)| place.end()).max().unwrap_or(0);
        let column = || vec![Fp::ZERO; rows];
        let mut schedule = Self {
            coefficients: vec![column(); PRODUCTS],
            offset: column(),
            carry: column(),
            load: column(),
            result: column(),
            masks: vec![column(); layout.lanes],
        };
        for (site, place) in layout.sites_of(panel) {
            schedule.dot(place.start..place.middle(), &sites[site].inputs);
            schedule.load[place.middle()] = Fp::ONE;
            schedule.dot(place.middle()..place.end(), &taus[..sites[site].d_out]);
            schedule.result[place.end()] = sites[site].result;
            for mask in &mut schedule.masks[..ranks[site]] {
                mask[place.end()] = Fp::ONE;
            }
        }
        let offset = Fp::from(OFFSET);
        for row in 0..rows {
            schedule.offset[row] = offset * schedule.coefficients.iter().map(|x| x[row]).sum::<Fp>();
        }
        schedule
    }

    /// A dot product with `vector` over these rows.
    fn dot(&mut self, rows: Range<usize>, vector: &[Fp]) {
        for (i, value) in vector.iter().enumerate() {
            self.coefficients[i % PRODUCTS][rows.start + i / PRODUCTS] = *value;
        }
        self.carry[rows.start + 1..rows.end].fill(Fp::ONE);
    }

    /// The instance columns in the order of `configure`.
    pub(crate) fn columns(&self) -> Vec<&[Fp]> {
        let singles = [&self.offset, &self.carry, &self.load, &self.result];
        self.coefficients.iter().chain(singles).chain(&self.masks).map(Vec::as_slice).collect()
    }
}

/// What an advice cell of [`DeltaCircuit`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    Accumulator,
    Held,
}

/// The computed advice cells of one panel: `(lanes, useful rows)`.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    accumulators: Vec<Vec<Fp>>,
    held: Vec<Vec<Fp>>,
}

impl Trace {
    /// Computes every cell from those before it. `assign` sees each value on its way into its cell and returns it;
    /// tests return something else.
    pub(crate) fn new(
        k: u32,
        lanes: usize,
        weights: &[Vec<Fp>],
        schedule: &Schedule,
        assign: impl Fn(Label, usize, usize, Fp) -> Fp,
    ) -> Self {
        let rows = useful_rows(k);
        let mut trace = Self { accumulators: Vec::with_capacity(lanes), held: Vec::with_capacity(lanes) };
        for lane in 0..lanes {
            let mut accumulator = vec![Fp::ZERO; rows];
            let mut held = vec![Fp::ZERO; rows];
            let columns = &weights[lane * PRODUCTS..(lane + 1) * PRODUCTS];
            for row in 0..rows {
                let (mut next, mut keep) = (Fp::ZERO, Fp::ZERO);
                if row > 0 {
                    keep = held[row - 1];
                }
                if row > 0 && row <= schedule.carry.len() {
                    let from = row - 1;
                    next = schedule.carry[from] * accumulator[from] - schedule.offset[from];
                    for (weight, coefficient) in columns.iter().zip(&schedule.coefficients) {
                        next += weight[from] * coefficient[from];
                    }
                    keep += schedule.load[from] * (accumulator[from] - held[from]);
                }
                accumulator[row] = assign(Label::Accumulator, lane, row, next);
                held[row] = assign(Label::Held, lane, row, keep);
            }
            trace.accumulators.push(accumulator);
            trace.held.push(held);
        }
        trace
    }

    /// `sum_l mask_l h_l a_l` in a row.
    pub(crate) fn result(&self, schedule: &Schedule, row: usize) -> Fp {
        self.held
            .iter()
            .zip(&self.accumulators)
            .zip(&schedule.masks)
            .map(|((held, accumulator), mask)| mask[row] * held[row] * accumulator[row])
            .sum()
    }
}

/// One panel.
#[derive(Clone, Debug)]
pub(crate) struct DeltaCircuit<'a> {
    pub(crate) k: u32,
    /// Columns of the panel and the cells computed from them.
    pub(crate) witness: Option<(&'a [Vec<Fp>], Trace)>,
}

impl Circuit<Fp> for DeltaCircuit<'_> {
    type Config = DeltaConfig;
    type FloorPlanner = SimpleFloorPlanner;

    fn without_witnesses(&self) -> Self {
        Self { k: self.k, witness: None }
    }

    fn configure(meta: &mut ConstraintSystem<Fp>) -> DeltaConfig {
        let lanes = LANES.get();
        let config = DeltaConfig {
            weights: (0..lanes * PRODUCTS).map(|_| meta.advice_column()).collect(),
            accumulators: (0..lanes).map(|_| meta.advice_column()).collect(),
            held: (0..lanes).map(|_| meta.advice_column()).collect(),
            enabled: meta.fixed_column(),
        };
        let instances = |meta: &mut ConstraintSystem<Fp>, count: usize| -> Vec<Column<Instance>> {
            (0..count).map(|_| meta.instance_column()).collect()
        };
        let coefficients = instances(meta, PRODUCTS);
        let [offset, carry, load, result] = std::array::from_fn(|_| meta.instance_column());
        let masks = instances(meta, lanes);

        meta.create_gate("accumulate: a' = carry a + sum x w' - z", |meta| {
            let enabled = meta.query_fixed(config.enabled);
            let carry = meta.query_instance(carry, Rotation::cur());
            let offset = meta.query_instance(offset, Rotation::cur());
            let coefficients: Vec<_> = coefficients.iter().map(|x| meta.query_instance(*x, Rotation::cur())).collect();
            (0..lanes)
                .map(|lane| {
                    let current = meta.query_advice(config.accumulators[lane], Rotation::cur());
                    let next = meta.query_advice(config.accumulators[lane], Rotation::next());
                    let products = coefficients
                        .iter()
                        .zip(&config.weights[lane * PRODUCTS..])
                        .map(|(x, weight)| x.clone() * meta.query_advice(*weight, Rotation::cur()))
                        .reduce(|sum, product| sum + product)
                        .unwrap_or(Expression::Constant(Fp::ZERO));
                    enabled.clone() * (next - carry.clone() * current - products + offset.clone())
                })
                .collect::<Vec<_>>()
        });

        meta.create_gate("hold: h' = h + load (a - h)", |meta| {
            let enabled = meta.query_fixed(config.enabled);
            let load = meta.query_instance(load, Rotation::cur());
            (0..lanes)
                .map(|lane| {
                    let held = meta.query_advice(config.held[lane], Rotation::cur());
                    let next = meta.query_advice(config.held[lane], Rotation::next());
                    let accumulator = meta.query_advice(config.accumulators[lane], Rotation::cur());
                    enabled.clone() * (next - held.clone() - load.clone() * (accumulator - held))
                })
                .collect::<Vec<_>>()
        });

        // No selector: the instances are zero in every row that is not a result row, so the gate is 0 = 0 there.
        meta.create_gate("result: sum mask h a = S", |meta| {
            let result = meta.query_instance(result, Rotation::cur());
            let sum = (0..lanes).fold(Expression::Constant(Fp::ZERO), |sum, lane| {
                let mask = meta.query_instance(masks[lane], Rotation::cur());
                let held = meta.query_advice(config.held[lane], Rotation::cur());
                let accumulator = meta.query_advice(config.accumulators[lane], Rotation::cur());
                sum + mask * held * accumulator
            });
            [sum - result]
        });
        config
    }

    fn synthesize(&self, config: DeltaConfig, mut layouter: impl Layouter<Fp>) -> Result<(), Error> {
        let usable = (1 << self.k) - UNUSABLE;
        let useful = useful_rows(self.k);
        layouter.assign_region(
            || "panel",
            |mut region| {
                for row in 0..useful - 1 {
                    region.assign_fixed(|| "q", config.enabled, row, || Value::known(Fp::ONE))?;
                }
                let Some((weights, trace)) = &self.witness else { return Ok(()) };
                for (column, values) in config.weights.iter().zip(*weights) {
                    for (row, value) in values.iter().enumerate().take(usable) {
                        region.assign_advice(|| "w'", *column, row, || Value::known(*value))?;
                    }
                }
                for (columns, cells) in [(&config.accumulators, &trace.accumulators), (&config.held, &trace.held)] {
                    for (column, values) in columns.iter().zip(cells) {
                        for (row, value) in values.iter().enumerate() {
                            region.assign_advice(|| "a, h", *column, row, || Value::known(*value))?;
                        }
                    }
                }
                Ok(())
            },
        )
    }
}
