//! What remains of a linear equation over committed columns after folding, and the products of a delta proof.
//!
//! `STATEMENT.md`, section 4, has the argument; the names of the gates are the same.

use std::cell::Cell;

use ff::Field;
use halo2_proofs::circuit::{Layouter, SimpleFloorPlanner, Value};
use halo2_proofs::plonk::{Advice, Circuit, Column, ConstraintSystem, Error, Fixed, Instance};
use halo2_proofs::poly::Rotation;
use pasta_curves::Fp;

use crate::conduct::Label;
use crate::layout::fold_rows;

thread_local! {
    /// Shape of the circuit being configured: `Circuit::configure` takes no parameters in halo2_proofs 0.4.1.
    static SHAPE: Cell<FoldShape> = const { Cell::new(FoldShape { k: 0, pairs: 0, crosses: 0 }) };
}

/// What the circuit's columns depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoldShape {
    pub(crate) k: u32,
    /// Columns of u, and of v.
    pub(crate) pairs: usize,
    /// Columns of cross terms.
    pub(crate) crosses: usize,
}

impl FoldShape {
    /// Runs `f`, in which [`FoldCircuit`]s have this shape on this thread.
    pub(crate) fn with<T>(self, f: impl FnOnce() -> T) -> T {
        struct Restore(FoldShape);
        impl Drop for Restore {
            fn drop(&mut self) {
                SHAPE.set(self.0);
            }
        }
        let _restore = Restore(SHAPE.replace(self));
        f()
    }

    /// w, u, v and the cross terms.
    pub(crate) fn linked(&self) -> usize {
        1 + 2 * self.pairs + self.crosses
    }

    /// The linked columns and the accumulator.
    pub(crate) fn advice(&self) -> usize {
        self.linked() + 1
    }
}

#[derive(Clone, Debug)]
pub(crate) struct FoldConfig {
    /// w, U, V and c: constrained by the link, and by (sum).
    linked: Vec<Column<Advice>>,
    /// Constrained by (sum), (first) and (last).
    accumulator: Column<Advice>,
    enabled: Column<Fixed>,
    first: Column<Fixed>,
    last: Column<Fixed>,
}

/// Instance values: everything the verifier knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoldInstance {
    /// f
    pub(crate) coefficients: Vec<Fp>,
    /// `beta^h` per column of cross terms.
    pub(crate) crosses: Vec<Vec<Fp>>,
    /// g per column of u.
    pub(crate) products: Vec<Vec<Fp>>,
    /// Where the accumulator begins.
    pub(crate) start: Fp,
}

impl FoldInstance {
    /// The instance columns in the order of `configure`.
    pub(crate) fn columns(&self) -> Vec<&[Fp]> {
        let start = std::slice::from_ref(&self.start);
        let columns = std::iter::once(&self.coefficients).chain(&self.crosses).chain(&self.products);
        columns.map(Vec::as_slice).chain([start]).collect()
    }

    /// The accumulator of these linked columns. `assign` sees each value on its way into its cell and returns it;
    /// tests return something else.
    pub(crate) fn accumulate(
        &self,
        shape: &FoldShape,
        linked: &[Vec<Fp>],
        assign: &dyn Fn(Label, usize, Fp) -> Fp,
    ) -> Vec<Fp> {
        let at = |column: &[Fp], row: usize| column.get(row).copied().unwrap_or(Fp::ZERO);
        let (pairs, crosses) = linked[1..].split_at(2 * shape.pairs);
        let (left, right) = pairs.split_at(shape.pairs);
        let mut accumulator = Vec::with_capacity(fold_rows(shape.k) + 1);
        let mut sum = assign(Label::Accumulator, 0, self.start);
        accumulator.push(sum);
        for row in 0..fold_rows(shape.k) {
            sum += at(&self.coefficients, row) * at(&linked[0], row);
            for (weights, terms) in self.crosses.iter().zip(crosses) {
                sum -= at(weights, row) * at(terms, row);
            }
            for ((weights, u), v) in self.products.iter().zip(left).zip(right) {
                sum += at(weights, row) * at(u, row) * at(v, row);
            }
            sum = assign(Label::Accumulator, row + 1, sum);
            accumulator.push(sum);
        }
        accumulator
    }
}

/// The circuit with its linked columns and its accumulator, rows past their ends being zero.
#[derive(Clone)]
pub(crate) struct FoldCircuit<'a> {
    pub(crate) shape: FoldShape,
    pub(crate) witness: Option<(&'a [Vec<Fp>], &'a [Fp])>,
}

impl Circuit<Fp> for FoldCircuit<'_> {
    type Config = FoldConfig;
    type FloorPlanner = SimpleFloorPlanner;

    fn without_witnesses(&self) -> Self {
        Self { shape: self.shape, witness: None }
    }

    fn configure(meta: &mut ConstraintSystem<Fp>) -> FoldConfig {
        let shape = SHAPE.get();
        let config = FoldConfig {
            linked: (0..shape.linked()).map(|_| meta.advice_column()).collect(),
            accumulator: meta.advice_column(),
            enabled: meta.fixed_column(),
            first: meta.fixed_column(),
            last: meta.fixed_column(),
        };
        let coefficients = meta.instance_column();
        let crosses: Vec<Column<Instance>> = (0..shape.crosses).map(|_| meta.instance_column()).collect();
        let products: Vec<Column<Instance>> = (0..shape.pairs).map(|_| meta.instance_column()).collect();
        let start = meta.instance_column();

        meta.create_gate("sum: a' = a + f w - sum b c + sum g u v", |meta| {
            let current = meta.query_advice(config.accumulator, Rotation::cur());
            let next = meta.query_advice(config.accumulator, Rotation::next());
            let mut advice = config.linked.iter().map(|column| meta.query_advice(*column, Rotation::cur()));
            let folded: Vec<_> = advice.by_ref().take(1).collect();
            let left: Vec<_> = advice.by_ref().take(shape.pairs).collect();
            let right: Vec<_> = advice.by_ref().take(shape.pairs).collect();
            let terms: Vec<_> = advice.collect();
            let mut step = next - current;
            for column in folded {
                step = step - meta.query_instance(coefficients, Rotation::cur()) * column;
            }
            for (weights, column) in crosses.iter().zip(terms) {
                step = step + meta.query_instance(*weights, Rotation::cur()) * column;
            }
            for ((weights, u), v) in products.iter().zip(left).zip(right) {
                step = step - meta.query_instance(*weights, Rotation::cur()) * u * v;
            }
            [meta.query_fixed(config.enabled) * step]
        });
        meta.create_gate("first: a = z", |meta| {
            let accumulator = meta.query_advice(config.accumulator, Rotation::cur());
            [meta.query_fixed(config.first) * (accumulator - meta.query_instance(start, Rotation::cur()))]
        });
        meta.create_gate("last: a = 0", |meta| {
            [meta.query_fixed(config.last) * meta.query_advice(config.accumulator, Rotation::cur())]
        });
        config
    }

    fn synthesize(&self, config: FoldConfig, mut layouter: impl Layouter<Fp>) -> Result<(), Error> {
        let one = || Value::known(Fp::ONE);
        let rows = fold_rows(self.shape.k);
        layouter.assign_region(
            || "fold",
            |mut region| {
                for row in 0..rows {
                    region.assign_fixed(|| "q", config.enabled, row, one)?;
                }
                region.assign_fixed(|| "first", config.first, 0, one)?;
                region.assign_fixed(|| "last", config.last, rows, one)?;
                let Some((linked, accumulator)) = self.witness else { return Ok(()) };
                for (column, values) in config.linked.iter().zip(linked) {
                    for (row, value) in values.iter().enumerate() {
                        region.assign_advice(|| "w, u, v, c", *column, row, || Value::known(*value))?;
                    }
                }
                for (row, value) in accumulator.iter().enumerate() {
                    region.assign_advice(|| "a", config.accumulator, row, || Value::known(*value))?;
                }
                Ok(())
            },
        )
    }
}
