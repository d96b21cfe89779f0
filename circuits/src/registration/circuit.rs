//! Range proof of registration: the sum of `1 / (X - e)` over all entries e of some columns.
//!
//! `STATEMENT.md`, section 6, has the argument; the names of the gates are the same.

use std::cell::Cell;

use ff::{BatchInvert, Field};
use halo2_proofs::circuit::{Layouter, SimpleFloorPlanner, Value};
use halo2_proofs::plonk::{Advice, Circuit, Column, ConstraintSystem, Error, Fixed};
use halo2_proofs::poly::Rotation;
use pasta_curves::Fp;

use crate::conduct::Label;
use crate::key::UNUSABLE;
use crate::layout::useful_rows;

/// Entries that share a reciprocal; with more, the gate's degree passes five and all polynomials double.
pub(crate) const SHARED: usize = 3;

thread_local! {
    /// Entry columns of the circuit being configured.
    static WIDTH: Cell<usize> = const { Cell::new(SHARED) };
}

/// Runs `f`, in which [`RangeCircuit`]s take that many columns on this thread.
pub(crate) fn with_width<T>(width: usize, f: impl FnOnce() -> T) -> T {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            WIDTH.set(self.0);
        }
    }
    let _restore = Restore(WIDTH.replace(width));
    f()
}

#[derive(Clone, Debug)]
pub(crate) struct RangeConfig {
    /// e. Constrained by the link, and by (reciprocal) and (sum).
    entries: Vec<Column<Advice>>,
    /// Constrained by (sum) and (first).
    accumulator: Column<Advice>,
    /// Constrained by (reciprocal).
    reciprocals: Vec<Column<Advice>>,
    enabled: Column<Fixed>,
    first: Column<Fixed>,
}

/// The computed advice cells, which nothing may print.
#[derive(Clone)]
pub(crate) struct Trace {
    /// `(useful rows + 1)`
    pub(crate) accumulator: Vec<Fp>,
    /// `(width / SHARED, useful rows)`
    pub(crate) reciprocals: Vec<Vec<Fp>>,
}

/// What is left of a product without each of its factors, summed.
fn without_one([a, b, c]: [Fp; SHARED]) -> Fp {
    a * b + (a + b) * c
}

impl Trace {
    /// Computes every cell of a batch from those before it. `assign` sees each value on its way into its cell and
    /// returns it; tests return something else.
    pub(crate) fn new(
        k: u32,
        batch: usize,
        point: Fp,
        entries: &[Vec<Fp>],
        assign: &dyn Fn(Label, usize, Fp) -> Fp,
    ) -> Self {
        let before = batch * (entries.len() / SHARED);
        let rows = useful_rows(k);
        let mut accumulator = vec![Fp::ZERO; rows + 1];
        let reciprocals = entries.chunks_exact(SHARED).enumerate().map(|(number, shared)| {
            let factors = |row: usize| -> [Fp; SHARED] { std::array::from_fn(|i| point - shared[i][row]) };
            let mut column: Vec<Fp> = (0..rows).map(|row| factors(row).iter().product()).collect();
            column.iter_mut().batch_invert();
            for (row, value) in column.iter_mut().enumerate() {
                *value = assign(Label::Reciprocal(before + number), row, *value);
                accumulator[row + 1] += *value * without_one(factors(row));
            }
            column
        });
        let reciprocals = reciprocals.collect();
        accumulator[0] = assign(Label::Sum(batch), 0, Fp::ZERO);
        for row in 0..rows {
            accumulator[row + 1] = assign(Label::Sum(batch), row + 1, accumulator[row] + accumulator[row + 1]);
        }
        Self { accumulator, reciprocals }
    }
}

/// One batch.
#[derive(Clone)]
pub(crate) struct RangeCircuit<'a> {
    pub(crate) k: u32,
    /// e in every usable row, and the cells computed from them.
    pub(crate) witness: Option<(&'a [Vec<Fp>], &'a Trace)>,
}

impl Circuit<Fp> for RangeCircuit<'_> {
    type Config = RangeConfig;
    type FloorPlanner = SimpleFloorPlanner;

    fn without_witnesses(&self) -> Self {
        Self { k: self.k, witness: None }
    }

    fn configure(meta: &mut ConstraintSystem<Fp>) -> RangeConfig {
        let width = WIDTH.get();
        let config = RangeConfig {
            entries: (0..width).map(|_| meta.advice_column()).collect(),
            accumulator: meta.advice_column(),
            reciprocals: (0..width / SHARED).map(|_| meta.advice_column()).collect(),
            enabled: meta.fixed_column(),
            first: meta.fixed_column(),
        };
        let point = meta.instance_column();

        meta.create_gate("reciprocal: h (X - e) (X - e) (X - e) = 1; sum: a' = a + sum 1 / (X - e)", |meta| {
            let enabled = meta.query_fixed(config.enabled);
            let point = meta.query_instance(point, Rotation::cur());
            let current = meta.query_advice(config.accumulator, Rotation::cur());
            let mut step = meta.query_advice(config.accumulator, Rotation::next()) - current;
            let one = halo2_proofs::plonk::Expression::Constant(Fp::ONE);
            let mut constraints = Vec::with_capacity(width / SHARED + 1);
            for (columns, reciprocal) in config.entries.chunks_exact(SHARED).zip(&config.reciprocals) {
                let [a, b, c] = std::array::from_fn(|i| point.clone() - meta.query_advice(columns[i], Rotation::cur()));
                let reciprocal = meta.query_advice(*reciprocal, Rotation::cur());
                let product = a.clone() * b.clone();
                constraints.push(enabled.clone() * (reciprocal.clone() * product.clone() * c.clone() - one.clone()));
                step = step - reciprocal * (product + (a + b) * c);
            }
            constraints.push(enabled * step);
            constraints
        });
        meta.create_gate("first: a = 0", |meta| {
            [meta.query_fixed(config.first) * meta.query_advice(config.accumulator, Rotation::cur())]
        });
        config
    }

    fn synthesize(&self, config: RangeConfig, mut layouter: impl Layouter<Fp>) -> Result<(), Error> {
        let usable = (1 << self.k) - UNUSABLE;
        let one = || Value::known(Fp::ONE);
        layouter.assign_region(
            || "range",
            |mut region| {
                for row in 0..useful_rows(self.k) {
                    region.assign_fixed(|| "q", config.enabled, row, one)?;
                }
                region.assign_fixed(|| "first", config.first, 0, one)?;
                let Some((entries, trace)) = self.witness else { return Ok(()) };
                for (column, values) in config.entries.iter().zip(entries) {
                    for (row, value) in values.iter().enumerate().take(usable) {
                        region.assign_advice(|| "e", *column, row, || Value::known(*value))?;
                    }
                }
                for (column, values) in config.reciprocals.iter().zip(&trace.reciprocals) {
                    for (row, value) in values.iter().enumerate() {
                        region.assign_advice(|| "h", *column, row, || Value::known(*value))?;
                    }
                }
                for (row, value) in trace.accumulator.iter().enumerate() {
                    region.assign_advice(|| "a", config.accumulator, row, || Value::known(*value))?;
                }
                Ok(())
            },
        )
    }
}
