//! Tables that cells are looked up in.

use std::sync::OnceLock;

use crate::fixed::{attention, gate, log_prob};

/// A table; its number is its tag, which no entry of another table shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LookupTable {
    /// Integers of 16 bits with a sign.
    Signed,
    /// Integers of 16 bits without.
    Unsigned,
    /// Integers below 2^7.
    Bits7,
    /// Integers below 2^8.
    Bits8,
    /// Integers below 2^9.
    Bits9,
    /// From a high limb to the interval of silu it lies in, and how far it is beyond the last.
    SiluReach,
    /// The same for gelu.
    GeluReach,
    /// From an interval to value and slope of silu, less those of interval zero.
    Silu,
    /// The same for gelu.
    Gelu,
    /// From an interval to value and fall of the exponential, less those of interval zero.
    Exp,
    /// From how far a number of coarse steps is from the last one to its exponential, in two parts.
    Coarse,
    /// From a number of fine steps to its exponential, less that of none.
    Fine,
}

/// What is looked up: a key and what belongs to it; zero where a table has fewer columns.
pub(crate) type TableEntry = [i64; 3];

impl LookupTable {
    /// Each has its place for its entries.
    const ALL: [Self; 12] = [
        Self::Signed,
        Self::Unsigned,
        Self::Bits7,
        Self::Bits8,
        Self::Bits9,
        Self::SiluReach,
        Self::GeluReach,
        Self::Silu,
        Self::Gelu,
        Self::Exp,
        Self::Coarse,
        Self::Fine,
    ];

    pub(crate) fn tag(self) -> u64 {
        self as u64
    }

    /// All entries, by rising keys without a gap. The entry of key zero is zero in all tables, so that a column that is
    /// not used, or not to its end, need not hold anything.
    pub(crate) fn entries(self) -> &'static [TableEntry] {
        static ENTRIES: [OnceLock<Vec<TableEntry>>; LookupTable::ALL.len()] =
            [const { OnceLock::new() }; LookupTable::ALL.len()];
        ENTRIES[self as usize].get_or_init(|| self.list())
    }

    fn list(self) -> Vec<TableEntry> {
        let range = |least: i64, end: i64| (least..end).map(|key| [key, 0, 0]).collect();
        match self {
            LookupTable::Signed => range(-(1 << 15), 1 << 15),
            LookupTable::Unsigned => range(0, 1 << 16),
            LookupTable::Bits7 => range(0, 1 << 7),
            LookupTable::Bits8 => range(0, 1 << 8),
            LookupTable::Bits9 => range(0, 1 << 9),
            LookupTable::SiluReach => reach(gate::SILU_LIMBS),
            LookupTable::GeluReach => reach(gate::GELU_LIMBS),
            LookupTable::Silu => curve(gate::GateFunction::Silu),
            LookupTable::Gelu => curve(gate::GateFunction::Gelu),
            LookupTable::Exp => {
                let [value, fall] = exponential(0);
                let entry = |key: i64| {
                    let at = exponential(key as usize);
                    [key, at[0] - value, at[1] - fall]
                };
                (0..=attention::INTERVALS as i64).map(entry).collect()
            }
            LookupTable::Coarse => {
                let entry = |key: usize| {
                    let value = log_prob::coarse(log_prob::COARSE - key) as i64;
                    [key as i64, value >> COARSE_PART, value & ((1 << COARSE_PART) - 1)]
                };
                (0..=log_prob::COARSE).map(entry).collect()
            }
            LookupTable::Fine => {
                let entry = |key: usize| [key as i64, log_prob::fine(key) as i64 - log_prob::fine(0) as i64, 0];
                (0..1 << log_prob::FINE_BITS).map(entry).collect()
            }
        }
    }

    /// The place of the entry of a key.
    pub(crate) fn place(self, key: i64) -> Option<usize> {
        usize::try_from(key - self.least()).ok().filter(|at| *at < self.entries().len())
    }

    /// The key of the first entry.
    pub(crate) fn least(self) -> i64 {
        match self {
            LookupTable::Signed | LookupTable::SiluReach | LookupTable::GeluReach => -(1 << 15),
            LookupTable::Unsigned | LookupTable::Bits7 | LookupTable::Bits8 | LookupTable::Bits9 => 0,
            LookupTable::Exp | LookupTable::Coarse | LookupTable::Fine => 0,
            LookupTable::Silu => -((gate::SILU_LIMBS + 1) * interval_count(gate::GateFunction::Silu)),
            LookupTable::Gelu => -((gate::GELU_LIMBS + 1) * interval_count(gate::GateFunction::Gelu)),
        }
    }
}

/// Bits of the lower part of a coarse exponential: a cell holds no more than 31.
pub(crate) const COARSE_PART: u32 = 26;

/// Value of the exponential at the left end of an interval, and by how much it falls to the right one; nothing from the
/// last one on.
pub(crate) fn exponential(interval: usize) -> [i64; 2] {
    match interval < attention::INTERVALS {
        true => attention::exp_interval(interval).map(i64::from),
        false => [0, 0],
    }
}

/// Intervals of a curve that have a high limb in common.
pub(crate) fn interval_count(curve: gate::GateFunction) -> i64 {
    1 << (16 - curve.step_bits())
}

fn reach(limbs: i64) -> Vec<TableEntry> {
    (-(1 << 15)..1 << 15).map(|limb: i64| [limb, limb.clamp(-limbs - 1, limbs), (limb - limbs).max(0)]).collect()
}

/// Value and slope in the interval `part` of the high limb `limb`: nothing below the curve's reach, the identity above.
pub(crate) fn interval(curve: gate::GateFunction, limb: i64, part: i64) -> [i64; 2] {
    let (limbs, count) = (curve.limbs(), interval_count(curve));
    let from_start = (limb + limbs) * count + part;
    if limb < -limbs {
        return [0, 0];
    }
    if limb >= limbs {
        let step = 1 << (gate::VALUE_BITS - (16 - curve.step_bits()));
        return [(limb * count + part) * step, step];
    }
    curve.interval(from_start as usize)
}

fn curve(curve: gate::GateFunction) -> Vec<TableEntry> {
    let (limbs, count) = (curve.limbs(), interval_count(curve));
    let zero = interval(curve, 0, 0);
    let keys = (-limbs - 1..=limbs).flat_map(|limb| (0..count).map(move |part| (limb, part)));
    keys.map(|(limb, part)| {
        let at = interval(curve, limb, part);
        [limb * count + part, at[0] - zero[0], at[1] - zero[1]]
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use ff::Field;
    use pasta_curves::Fp;

    use super::*;
    use crate::sealed::lookups::Fingerprint;

    #[test]
    fn keys_rise_without_a_gap_and_zero_is_nothing() {
        for table in LookupTable::ALL {
            let entries = table.entries();
            assert!(entries.iter().zip(table.least()..).all(|(entry, key)| entry[0] == key), "{table:?}");
            assert_eq!(entries[-table.least() as usize], [0, 0, 0], "{table:?}");
        }
    }

    /// Each by itself and one from another.
    #[test]
    fn denominators_are_those_of_entries() {
        let fingerprint = Fingerprint { point: Fp::from(77).invert().unwrap(), base: Fp::from(78).invert().unwrap() };
        for table in LookupTable::ALL {
            let of_entries = table.entries().iter().map(|entry| fingerprint.denominator(table, *entry));
            assert!(of_entries.eq(fingerprint.denominators(table)), "{table:?}");
        }
    }

    /// Every high limb near the reach of a curve, and far from it, with ends of intervals.
    #[test]
    fn curves_are_those_of_the_semantics() {
        for (curve, exact) in
            [(gate::GateFunction::Silu, gate::silu as fn(i64) -> i64), (gate::GateFunction::Gelu, gate::gelu_exact)]
        {
            let limbs = curve.limbs();
            let step = curve.step_bits();
            for limb in [-32_768, -limbs - 2, -limbs - 1, -limbs, -1, 0, 1, limbs - 1, limbs, limbs + 1, 32_767] {
                for low in (0..1i64 << 16).step_by(97).chain([511, 512, 65_535]) {
                    let reached = reach(limbs)[(limb + (1 << 15)) as usize];
                    let [value, slope] = interval(curve, reached[1], low >> step);
                    let beyond = reached[2] << (gate::VALUE_BITS + step);
                    let part = low & ((1 << step) - 1);
                    let got = (value << step) + slope * part + beyond;
                    assert_eq!(got, exact((limb << 16) + low), "{curve:?} {limb} {low}");
                }
            }
        }
    }
}
