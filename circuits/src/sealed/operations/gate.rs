//! Curves by table: SwiGLU and GeGLU, where a second tensor is multiplied by them, and GELU alone.

use pasta_curves::Fp;

use super::linear::Rounded;
use crate::commitment::SiteFactors;
use crate::fixed::gate::{GateFunction, VALUE_BITS, gelu_exact, silu};
use crate::fixed::{ACTIVATION_BITS, FixedError, words};
use crate::sealed::arrangement::{CellSpan, Class, LIMB, LookupLeaf, PlanePattern, Tensor};
use crate::sealed::cells::Cells;
use crate::sealed::equations::{SealedOperation, Sink, entries, entrywise, power_of_two};
use crate::sealed::tables::{LookupTable, interval, interval_count};

/// Planes: the high limb, the limb as far as the curve reaches, how far it is beyond;
const HIGH: usize = 0;
const REACHED: usize = 1;
const BEYOND: usize = 2;
/// the interval within the limb, and the part of the interval;
const INTERVAL: usize = 3;
const PART: usize = 4;
/// value and slope in the interval, less those of interval zero.
const VALUE: usize = 5;
const SLOPE: usize = 6;

/// Cells of a place on a curve.
pub(crate) fn class(curve: GateFunction) -> Class {
    let single = |plane: usize| vec![(plane, 1)];
    let (reach, table, intervals, parts) = match curve {
        GateFunction::Silu => (LookupTable::SiluReach, LookupTable::Silu, LookupTable::Bits7, LookupTable::Bits9),
        GateFunction::Gelu => (LookupTable::GeluReach, LookupTable::Gelu, LookupTable::Bits8, LookupTable::Bits8),
    };
    let key = vec![(REACHED, interval_count(curve)), (INTERVAL, 1)];
    let leaves = vec![
        LookupLeaf { table: reach, entry: vec![single(HIGH), single(REACHED), single(BEYOND)] },
        LookupLeaf::of(intervals, INTERVAL),
        LookupLeaf::of(parts, PART),
        LookupLeaf { table, entry: vec![key, single(VALUE), single(SLOPE)] },
    ];
    Class { planes: 7, leaves }
}

/// `round(curve(gate) up)`
pub(crate) struct Gate {
    pub(crate) site: String,
    pub(crate) curve: GateFunction,
    pub(crate) gate: Tensor,
    pub(crate) up: Option<Tensor>,
    pub(crate) place: CellSpan,
    pub(crate) rounded: Rounded,
}

impl Gate {
    /// Bits that are rounded away.
    pub(crate) fn least_shift(curve: GateFunction, gated: bool) -> u32 {
        let bits = VALUE_BITS + curve.step_bits();
        if gated { bits } else { bits - ACTIVATION_BITS }
    }

    fn scale(&self) -> u32 {
        self.rounded.shift - Self::least_shift(self.curve, self.up.is_some())
    }

    fn exact(&self, x: i64) -> i128 {
        match self.curve {
            GateFunction::Silu => silu(x).into(),
            GateFunction::Gelu => gelu_exact(x).into(),
        }
    }

    /// Value and slope of interval zero.
    fn zero(&self) -> [i64; 2] {
        interval(self.curve, 0, 0)
    }
}

impl SealedOperation for Gate {
    fn fill(&self, cells: &mut Cells<'_>, _: &[SiteFactors]) -> Result<(), FixedError> {
        let (step, limbs, zero) = (self.curve.step_bits(), self.curve.limbs(), self.zero());
        let gate = cells.integers(&self.gate);
        for tensor in std::iter::once(&self.gate).chain(&self.up) {
            words(&self.site, &cells.integers(tensor))?;
        }
        let width = self.place.width;
        for (entry, x) in gate.iter().enumerate() {
            let high = x >> LIMB;
            let low = x & 0xffff;
            let reached = high.clamp(-limbs - 1, limbs);
            let [value, slope] = interval(self.curve, reached, low >> step);
            for (plane, number) in [
                (HIGH, high),
                (REACHED, reached),
                (BEYOND, (high - limbs).max(0)),
                (INTERVAL, low >> step),
                (PART, low & ((1 << step) - 1)),
                (VALUE, value - zero[0]),
                (SLOPE, slope - zero[1]),
            ] {
                cells.set(&self.place, plane, entry / width, entry % width, number);
            }
        }
        let up = self.up.as_ref().map(|up| cells.integers(up));
        let product = |(entry, x): (usize, &i64)| self.exact(*x) * up.as_ref().map_or(1, |up| i128::from(up[entry]));
        let sums: Vec<i128> = gate.iter().enumerate().map(product).collect();
        self.rounded.fill(&self.site, cells, self.scale(), sums)
    }

    fn state(&self, sink: &mut Sink<'_>) {
        let [split, out] = std::array::from_fn(|_| sink.weight());
        let (rows, features) = (sink.rows(self.gate.space), sink.features(self.gate.width));
        let step = self.curve.step_bits();
        let word: PlanePattern = [(HIGH, 1 << LIMB), (INTERVAL, 1 << step), (PART, 1)].into();
        sink.forms.tensor(split, &self.place.tensor(word), &rows, &features);
        sink.forms.tensor(-split, &self.gate, &rows, &features);
        let (result, rest) = (self.rounded.out(), self.rounded.rest());
        sink.rounded(out, &result, &rest, self.rounded.shift, [&rows, &features]);
        let [value, slope] = self.zero();
        // 2^step value + 2^(24 + step) beyond + slope part
        let line: PlanePattern = [(VALUE, 1 << step), (BEYOND, 1 << (VALUE_BITS + step))].into();
        let line = self.place.tensor_from(line, i128::from(value) << step);
        let slope = self.place.tensor_from([(SLOPE, 1)].into(), slope.into());
        let part = self.place.plane(PART);
        let weight = -out * power_of_two(self.scale());
        match &self.up {
            Some(up) => {
                let factors = [&line, &slope, &part, up].map(entries).to_vec();
                let products: [(Fp, &[usize]); 2] = [(weight, &[0, 3]), (weight, &[1, 2, 3])];
                sink.sums.push(entrywise([rows, features], factors, &products));
            }
            None => {
                sink.forms.tensor(weight, &line, &rows, &features);
                let factors = [&slope, &part].map(entries).to_vec();
                sink.sums.push(entrywise([rows, features], factors, &[(weight, &[0, 1])]));
            }
        }
    }
}
