//! All relations of STATEMENT, section 11.2, on integers without bounds, cell by cell: without the field, without weights,
//! and without what operations say of themselves. Whether cells are in their tables is not asked here.

use std::any::Any;

use num_bigint::BigInt;

use crate::commitment::SiteFactors;
use crate::fixed::attention::inverse_root;
use crate::fixed::gate::GateFunction;
use crate::fixed::rope::Rotations;
use crate::layout::useful_rows;
use crate::sealed::arrangement::{CellSpan, Tensor};
use crate::sealed::cells::Cells;
use crate::sealed::operations::attention::Attend;
use crate::sealed::operations::choice::{KnownOutputs, Largest};
use crate::sealed::operations::gate::Gate;
use crate::sealed::operations::graph::{Aggregate, Rectify};
use crate::sealed::operations::linear::{LinearOperation, Project, Rounded};
use crate::sealed::operations::log_prob::{Bounded, LogProbs, LogSumExp, Ranked, TotalLogProbs};
use crate::sealed::operations::norm::{Normalise, Normalised};
use crate::sealed::operations::rope::{ProjectRotated, Rotate};
use crate::sealed::plan::SealedPlan;
use crate::sealed::tables::{LookupTable, exponential, interval};

/// Which relation does not hold, at what row and feature.
pub(super) type Failed = (&'static str, usize, usize);

/// All relations that some cells do not satisfy.
pub(super) fn failures(plan: &SealedPlan, cells: &Cells<'_>, factors: &[SiteFactors]) -> Vec<Failed> {
    let mut relations = Relations { cells, factors, failed: Vec::new() };
    for operation in &plan.operations {
        let any: &dyn Any = &**operation;
        let known = any.downcast_ref().map(|own| relations.project(own)).is_some()
            || any.downcast_ref().map(|own| relations.project_rotated(own)).is_some()
            || any.downcast_ref().map(|own| relations.rotate(own)).is_some()
            || any.downcast_ref().map(|own| relations.norm(own)).is_some()
            || any.downcast_ref().map(|own| relations.attention(own)).is_some()
            || any.downcast_ref().map(|own| relations.curve(own)).is_some()
            || any.downcast_ref().map(|own| relations.rectifier(own)).is_some()
            || any.downcast_ref().map(|own| relations.aggregate(own)).is_some()
            || any.downcast_ref().map(|own| relations.largest(own)).is_some()
            || any.downcast_ref().map(|own| relations.outputs(own)).is_some()
            || any.downcast_ref().map(|own| relations.softmax(own)).is_some()
            || any.downcast_ref().map(|own| relations.log_probs(own)).is_some()
            || any.downcast_ref().map(|own| relations.bounds(own)).is_some()
            || any.downcast_ref().map(|own| relations.rankings(own)).is_some();
        assert!(known, "an operation without its relations here");
    }
    relations.failed
}

struct Relations<'c> {
    cells: &'c Cells<'c>,
    factors: &'c [SiteFactors],
    failed: Vec<Failed>,
}

fn power(bits: u32) -> BigInt {
    BigInt::from(1) << bits
}

/// Heads of rows, rotated: features i and i + dim / 2 together.
fn rotated(rotations: &Rotations, row: usize, values: &[BigInt]) -> Vec<BigInt> {
    let half = rotations.dim / 2;
    let at = |feature: usize| {
        let (head, i) = (feature / rotations.dim * rotations.dim, feature % rotations.dim);
        let angle = row * half + i % half;
        let (cos, sin) = (rotations.cos[angle], rotations.sin[angle]);
        let (a, c) = (&values[head + i % half], &values[head + i % half + half]);
        if i < half { a * cos - c * sin } else { c * cos + a * sin }
    };
    (0..values.len()).map(at).collect()
}

impl Relations<'_> {
    fn equal(&mut self, what: &'static str, [row, feature]: [usize; 2], left: BigInt, right: BigInt) {
        if left != right {
            self.failed.push((what, row, feature));
        }
    }

    fn rows(&self, x: &Tensor) -> usize {
        self.cells.arrangement.rows(x.space)
    }

    fn at(&self, group: usize, plane: usize, row: usize, position: usize) -> BigInt {
        let group = &self.cells.arrangement.groups[group];
        let ((lane, at), rows) = (group.place(row, position), useful_rows(self.cells.arrangement.k));
        self.cells.columns[group.column(at / rows, lane, plane)][at % rows].into()
    }

    /// A cell of an operation.
    fn cell(&self, span: &CellSpan, plane: usize, row: usize, position: usize) -> BigInt {
        self.at(span.group, plane, row, span.offset + position)
    }

    /// A number in parts of so many bits, the lowest first.
    fn parts(&self, span: &CellSpan, (first, count): (usize, usize), bits: u32, [row, position]: [usize; 2]) -> BigInt {
        (0..count).map(|part| self.cell(span, first + part, row, position) << (bits * part as u32)).sum()
    }

    fn limbs(&self, span: &CellSpan, planes: (usize, usize), at: [usize; 2]) -> BigInt {
        self.parts(span, planes, 16, at)
    }

    fn entry(&self, x: &Tensor, row: usize, feature: usize) -> BigInt {
        let public = x.public.as_ref().map_or(0, |public| public[row * x.width + feature]);
        let mut sum = BigInt::from(x.constant) + public;
        for term in &x.terms {
            let own = term.rows.as_ref().map_or(row, |rows| rows[row]);
            for (plane, factor) in term.pattern.iter() {
                sum += self.at(term.group, *plane, own, term.offset + feature) * *factor;
            }
        }
        sum
    }

    fn row(&self, x: &Tensor, row: usize) -> Vec<BigInt> {
        (0..x.width).map(|feature| self.entry(x, row, feature)).collect()
    }

    /// `word 2^shift + rest = a + 2^(shift - 1)`, of sums that are `2^scale` times less.
    fn rounding(&mut self, rounded: &Rounded, row: usize, scale: u32, sums: &[BigInt]) {
        let shift = rounded.shift;
        for (feature, sum) in sums.iter().enumerate() {
            let at = [row, feature];
            let word = self.limbs(&rounded.span, (0, 2), at);
            let rest = self.limbs(&rounded.span, (2, shift as usize / 16), at);
            self.equal("rounding", at, (word << shift) + rest, (sum << scale) + power(shift - 1));
        }
    }

    /// `W x + c + B A x`, each at `2^shift`.
    fn linear(&self, linear: &LinearOperation, row: usize) -> Vec<BigInt> {
        let (x, matrix) = (self.row(&linear.input, row), &linear.matrix);
        let dot = |weights: &[i16]| -> BigInt { weights.iter().zip(&x).map(|(weight, x)| x * *weight).sum() };
        let hidden = linear.adapter.as_ref().map(|(site, shape)| {
            let SiteFactors { a, b, .. } = &self.factors[*site];
            let hidden: Vec<BigInt> = a.chunks_exact(shape.d_in as usize).map(dot).collect();
            (hidden, b, linear.shift - u32::from(shape.shift_a) - u32::from(shape.shift_b))
        });
        let output = |o: usize| {
            let weights = &matrix.weights()[o * matrix.d_in()..][..matrix.d_in()];
            let mut sum = dot(weights) << (linear.shift - u32::from(matrix.shifts()[o]));
            if let Some(bias) = matrix.bias() {
                sum += BigInt::from(bias[o]) << (linear.shift - 16);
            }
            if let Some((hidden, b, shift)) = &hidden {
                let output = linear.listed.as_ref().map_or(o, |listed| listed[o]);
                let own = b[output * hidden.len()..].iter().zip(hidden);
                sum += own.map(|(b, hidden)| hidden * *b).sum::<BigInt>() << *shift;
            }
            sum
        };
        (0..matrix.d_out()).map(output).collect()
    }

    fn project(&mut self, Project { linear, rounded }: &Project) {
        for row in 0..self.rows(&linear.input) {
            self.rounding(rounded, row, 0, &self.linear(linear, row));
        }
    }

    fn project_rotated(&mut self, ProjectRotated { linear, rotations, rounded }: &ProjectRotated) {
        for row in 0..self.rows(&linear.input) {
            self.rounding(rounded, row, 0, &rotated(rotations, row, &self.linear(linear, row)));
        }
    }

    fn rotate(&mut self, Rotate { input, rotations, rounded, .. }: &Rotate) {
        for row in 0..self.rows(input) {
            self.rounding(rounded, row, rounded.shift - 30, &rotated(rotations, row, &self.row(input, row)));
        }
    }

    fn norm(&mut self, own: &Normalise) {
        let Normalise { kind, norm, eps, input, root, rounded, .. } = own;
        let n = norm.features();
        for row in 0..self.rows(input) {
            let mut sums = Vec::new();
            for (head, x) in self.row(input, row).chunks_exact(n).enumerate() {
                let at = [row, head];
                let [r, d, below, above] =
                    [(0, 4), (4, 7), (11, 8), (19, 8)].map(|planes| self.limbs(root, planes, at));
                let squares: BigInt = x.iter().map(|x| x * x).sum();
                let sum: BigInt = x.iter().sum();
                let layer = matches!(kind, Normalised::Layer);
                let radicand = match layer {
                    true => squares * n - &sum * &sum + BigInt::from(n * n) * *eps,
                    false => squares + BigInt::from(n) * *eps,
                };
                let numerator = if layer { power(126) } else { BigInt::from(n) << 112 };
                self.equal("radicand", at, d.clone(), radicand);
                self.equal("below", at, below, &numerator - &r * &r * &d);
                self.equal("above", at, above, (&r + 1) * (&r + 1) * &d - numerator - 1);
                sums.extend(x.iter().enumerate().map(|(feature, x)| {
                    let x = if layer { x * n - &sum } else { x.clone() };
                    let bias = norm.bias().filter(|_| layer).map_or(0, |bias| bias[feature]);
                    x * &r * norm.weights()[feature] + (BigInt::from(bias) << (31 + norm.shift()))
                }));
            }
            let (sums, bits) = match kind {
                Normalised::Rows => (sums, 40),
                Normalised::Layer => (sums, 47),
                Normalised::Heads(rotations) => (rotated(rotations, row, &sums), 70),
            };
            self.rounding(rounded, row, rounded.shift - bits - norm.shift(), &sums);
        }
    }

    fn attention(&mut self, own: &Attend) {
        let Attend { heads, sees, query, key, value, pairs, of_heads, rounded, .. } = own;
        let rows = self.rows(query);
        let zero = exponential(0);
        for row in 0..rows {
            let mut means = Vec::new();
            for head in 0..heads.query {
                let at = [row, head];
                let largest = self.parts(of_heads, (0, 3), 30, at);
                let [sum, reciprocal, left, missing] = [3, 6, 9, 12].map(|plane| self.limbs(of_heads, (plane, 3), at));
                let shared = head / (heads.query / heads.key_value) * heads.dim;
                let (mut marks, mut all) = (BigInt::ZERO, BigInt::ZERO);
                let mut mean = vec![BigInt::ZERO; heads.dim];
                for other in 0..rows {
                    let at = [row, head * rows + other];
                    let cell = |plane: usize| self.cell(pairs, plane, row, at[1]);
                    let distance = self.limbs(pairs, (0, 5), at);
                    let (part, interval, beyond) = (cell(5), cell(6), self.limbs(pairs, (7, 3), at));
                    let rest = self.limbs(pairs, (10, 3), at);
                    let (value_at, fall) = (cell(13) + zero[0], cell(14) + zero[1]);
                    let (e, rest_of_e, mark) = (self.limbs(pairs, (15, 2), at), cell(17), cell(18));
                    let t = &part + ((&interval + &beyond) << 9u32);
                    let exponent = ((&distance * inverse_root(heads.dim)) << 2u32) + power(47);
                    self.equal("exponent", at, (t << 48u32) + rest, exponent);
                    self.equal("beyond", at, beyond * (4096 - interval), BigInt::ZERO);
                    let line: BigInt = (value_at << 9u32) - fall * part + power(8);
                    self.equal("exponential", at, (&e << 9u32) + rest_of_e, line);
                    if !sees[row * rows + other] {
                        continue;
                    }
                    let score = (0..heads.dim)
                        .map(|i| self.entry(query, row, head * heads.dim + i) * self.entry(key, other, shared + i));
                    let score: BigInt = score.sum();
                    self.equal("score", at, &largest - &distance, score);
                    self.equal("mark", at, &mark * distance, BigInt::ZERO);
                    marks += mark;
                    for (i, mean) in mean.iter_mut().enumerate() {
                        *mean += &e * self.entry(value, other, shared + i);
                    }
                    all += e;
                }
                self.equal("marks", at, marks, 1.into());
                self.equal("sum", at, sum.clone(), all);
                self.equal("reciprocal", at, &reciprocal * &sum + &left, power(62));
                self.equal("missing", at, left + missing, sum - 1);
                means.extend(mean.into_iter().map(|mean| mean * &reciprocal));
            }
            self.rounding(rounded, row, rounded.shift - 62, &means);
        }
    }

    fn curve(&mut self, Gate { curve, gate, up, place, rounded, .. }: &Gate) {
        let (step, zero) = (if let GateFunction::Silu = curve { 9 } else { 8 }, interval(*curve, 0, 0));
        for row in 0..self.rows(gate) {
            let mut sums = Vec::new();
            for feature in 0..gate.width {
                let cell = |plane: usize| self.cell(place, plane, row, feature);
                let (beyond, part) = (cell(2), cell(4));
                let word = (cell(0) << 16u32) + (cell(3) << step) + &part;
                let line = ((cell(5) + zero[0]) << step) + (cell(6) + zero[1]) * part + (beyond << (24 + step));
                self.equal("place on the curve", [row, feature], word, self.entry(gate, row, feature));
                sums.push(line * up.as_ref().map_or(1.into(), |up| self.entry(up, row, feature)));
            }
            let bits = if up.is_some() { 24 + step } else { 8 + step };
            self.rounding(rounded, row, rounded.shift - bits, &sums);
        }
    }

    fn rectifier(&mut self, Rectify { input, span }: &Rectify) {
        for row in 0..self.rows(input) {
            for feature in 0..input.width {
                let at = [row, feature];
                let (above, below) = (self.limbs(span, (0, 2), at), self.limbs(span, (2, 2), at));
                self.equal("rectified", at, &above - &below, self.entry(input, row, feature));
                self.equal("above or below", at, above * below, BigInt::ZERO);
            }
        }
    }

    fn aggregate(&mut self, Aggregate { input, messages, rounded, .. }: &Aggregate) {
        for (row, ends) in messages.starts.windows(2).enumerate() {
            let sum = |feature: usize| -> BigInt {
                let of = (ends[0]..ends[1]).map(|at| (messages.senders[at] as usize, messages.coefficients[at]));
                of.map(|(sender, coefficient)| self.entry(input, sender, feature) * coefficient).sum()
            };
            let sums: Vec<BigInt> = (0..input.width).map(sum).collect();
            self.rounding(rounded, row, rounded.shift - 30, &sums);
        }
    }

    fn largest(&mut self, Largest { linear, stated, word, below }: &Largest) {
        let shift = linear.shift;
        for (row, stated) in stated.iter().enumerate() {
            let z = self.limbs(word, (0, 2), [row, 0]);
            for (j, sum) in self.linear(linear, row).into_iter().enumerate() {
                let difference = self.limbs(below, (0, 2 + shift as usize / 16), [row, j]);
                let next = &z + i32::from(j >= *stated);
                let expected = (next << shift) - 1 - power(shift - 1) - sum;
                self.equal("difference", [row, j], difference, expected);
            }
            let high = self.limbs(below, (shift as usize / 16, 2), [row, *stated]);
            self.equal("difference at the largest", [row, *stated], high, BigInt::ZERO);
        }
    }

    fn outputs(&mut self, KnownOutputs { linear, outputs, rest }: &KnownOutputs) {
        let shift = linear.shift;
        for (row, outputs) in outputs.chunks_exact(linear.width()).enumerate() {
            for ((j, sum), stated) in self.linear(linear, row).into_iter().enumerate().zip(outputs) {
                let rest = self.limbs(rest, (0, shift as usize / 16), [row, j]);
                self.equal("stated output", [row, j], (BigInt::from(*stated) << shift) + rest, sum + power(shift - 1));
            }
        }
    }

    /// What both tables say: fine steps and coarse, and their exponentials.
    fn by_tables(&self, span: &CellSpan, [row, position]: [usize; 2]) -> [BigInt; 4] {
        let cell = |plane: usize| self.cell(span, plane, row, position);
        [cell(0), cell(2), (cell(3) << 26u32) + cell(4), cell(1) + power(30)]
    }

    fn softmax(&mut self, LogSumExp { linear, outputs, rows, brackets }: &LogSumExp) {
        let (shift, bound) = (linear.shift, coarse_one() << 137u32);
        for row in 0..self.rows(&linear.input) {
            let [largest, logarithm] = [0, 2].map(|plane| self.limbs(rows, (plane, 2), [row, 0]));
            let sum = self.parts(rows, (4, 4), 30, [row, 0]);
            let (mut marks, mut all) = (BigInt::ZERO, BigInt::ZERO);
            for (j, exact) in self.linear(linear, row).into_iter().enumerate() {
                let at = [row, j];
                let [fine, left, coarse, value] = self.by_tables(outputs, at);
                let (beyond, mark) = (self.cell(outputs, 5, row, j), self.cell(outputs, 6, row, j));
                let rest = self.limbs(outputs, (7, shift as usize / 16), at);
                let distance: BigInt = fine + ((4096 - &left + &beyond) << 10u32);
                self.equal("distance", at, ((&largest - &distance) << shift) + rest, exact + power(shift - 1));
                self.equal("beyond of an output", at, beyond * left, BigInt::ZERO);
                self.equal("mark of an output", at, &mark * distance, BigInt::ZERO);
                marks += mark;
                all += coarse * value;
            }
            self.equal("marks of outputs", [row, 0], marks, 1.into());
            self.equal("sum of exponentials", [row, 0], sum.clone(), all);
            for side in 0..2 {
                let at = [row, side];
                let [fine, left, coarse, value] = self.by_tables(brackets, at);
                let (part, product) = (self.cell(brackets, 5, row, side), self.parts(brackets, (6, 3), 30, at));
                let gap = self.limbs(brackets, (9, 11), at);
                let place: BigInt = ((4096 - left) << 19u32) + (fine << 9u32) + &part;
                self.equal("place", at, place, power(19) + &logarithm * 2 - 1 + 2 * side);
                self.equal("product", at, product.clone(), coarse * value);
                let reached = &sum * product * (power(25) - part);
                let expected = if side == 0 { reached - &bound } else { &bound - 1 - reached };
                self.equal("gap", at, gap, expected);
            }
        }
    }

    /// What a log-probability is.
    fn log_prob(&self, of: &LogProbs, row: usize, output: usize) -> BigInt {
        -((self.entry(&of.distance, row, output) << 8u32) + self.entry(&of.logarithm, row, 0))
    }

    fn log_probs(&mut self, TotalLogProbs { log_probs, sums, .. }: &TotalLogProbs) {
        for (number, sum) in sums.iter().enumerate() {
            let all = sum.of.iter().map(|(row, output)| self.log_prob(log_probs, *row, *output)).sum();
            self.equal("log-probability", [number, 0], all, sum.log_prob.into());
        }
    }

    fn bounds(&mut self, Bounded { log_probs, bounds, rest, .. }: &Bounded) {
        for (number, bound) in bounds.iter().enumerate() {
            let above = self.log_prob(log_probs, bound.row, bound.output) - bound.bound;
            let expected = if bound.holds { above } else { -above - 1 };
            self.equal("bound", [number, 0], self.limbs(rest, (0, 3), [number, 0]), expected);
        }
    }

    fn rankings(&mut self, Ranked { rankings, distance, rest, .. }: &Ranked) {
        for (row, ranking) in rankings.iter().enumerate() {
            let (first, last) = (ranking.likeliest[0], ranking.likeliest[ranking.likeliest.len() - 1]);
            self.equal("first of a ranking", [row, first.0], self.entry(distance, row, first.0), BigInt::ZERO);
            for output in 0..distance.width {
                if ranking.likeliest.iter().all(|listed| listed.0 != output) {
                    let behind = BigInt::from((first.1 - last.1) >> 8) + i32::from(output < last.0);
                    let expected = self.entry(distance, row, output) - behind;
                    self.equal("ranking", [row, output], self.limbs(rest, (0, 2), [row, output]), expected);
                }
            }
        }
    }
}

/// `c_1`
fn coarse_one() -> BigInt {
    let [_, high, low] = LookupTable::Coarse.entries()[4095];
    (BigInt::from(high) << 26u32) + low
}
