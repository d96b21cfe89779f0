//! Sums of points of the curve: many points times small integers, and one point times many scalars.

use ff::{Field, PrimeField};
use group::{Curve, CurveAffine, Group};
use pasta_curves::arithmetic::CurveAffine as _;
use pasta_curves::{Eq, EqAffine, Fp, Fq};

/// x and y of a point that is not the identity.
pub(crate) type Affine = (Fq, Fq);

/// Bits of a digit of [`Buckets::sum`]: with less there are more digits to add, with more there are more buckets.
const DIGIT_BITS: u32 = 8;
/// Digits are at most this in absolute value, and there is a bucket for each.
const BUCKETS: usize = 1 << (DIGIT_BITS - 1);

/// x and y of points; `None` if one is the identity.
pub(crate) fn coordinates(points: &[EqAffine]) -> Option<Vec<Affine>> {
    points
        .iter()
        .map(|point| {
            Option::from(point.coordinates())
                .map(|point: pasta_curves::arithmetic::Coordinates<_>| (*point.x(), *point.y()))
        })
        .collect()
}

fn point((x, y): Affine) -> EqAffine {
    Option::from(EqAffine::from_xy(x, y)).expect("sums of points of the curve are on it")
}

/// Sums up points times small integers, and keeps its memory from one sum to the next.
///
/// Points of the same digit are added first, in affine coordinates: the slopes of a round take one inversion together,
/// so that an addition costs six multiplications of the field and half of what it costs in projective coordinates.
#[derive(Default)]
pub(crate) struct Buckets {
    points: Vec<Affine>,
    next: Vec<Affine>,
    /// `x2 - x1` of each pair, then its reciprocal.
    runs: Vec<Fq>,
    products: Vec<Fq>,
    /// Pairs that have no slope, which only occur where points repeat: added as they are.
    steep: Vec<(usize, Affine)>,
    digits: Vec<i32>,
    rest: Vec<i64>,
}

impl Buckets {
    /// `sum_i values_i bases_i`, for at most as many values as bases.
    pub(crate) fn sum(&mut self, bases: &[Affine], values: &[i64]) -> Eq {
        self.rest.clear();
        self.rest.extend_from_slice(values);
        let mut sums = Vec::new();
        while self.rest.iter().any(|value| *value != 0) {
            self.digits.clear();
            let half = BUCKETS as i64;
            for value in &mut self.rest {
                // What fits into a bucket is the last digit.
                let small = (-half..=half).contains(value);
                let digit = if small { *value } else { ((*value & (2 * half - 1)) ^ half) - half };
                // The quotient is exact and rounds towards zero by at most one: no overflow at either end.
                *value = (*value >> DIGIT_BITS) + i64::from(!small && digit < 0);
                if small {
                    *value = 0;
                }
                self.digits.push(digit as i32);
            }
            sums.push(self.digit(bases));
        }
        sums.into_iter()
            .rev()
            .fold(Eq::identity(), |sum, digit| (0..DIGIT_BITS).fold(sum, |sum, _| sum.double()) + digit)
    }

    /// The same for one digit of all values.
    fn digit(&mut self, bases: &[Affine]) -> Eq {
        // Where the points of each bucket begin; bucket 0 is left out.
        let mut begins = [0; BUCKETS + 2];
        for digit in self.digits.iter().filter(|digit| **digit != 0) {
            begins[digit.unsigned_abs() as usize + 1] += 1;
        }
        for bucket in 1..begins.len() {
            begins[bucket] += begins[bucket - 1];
        }
        let mut ends = begins;
        self.points.clear();
        self.points.resize(begins[BUCKETS + 1], (Fq::ZERO, Fq::ZERO));
        for (digit, (x, y)) in self.digits.iter().zip(bases) {
            if *digit != 0 {
                let end = &mut ends[digit.unsigned_abs() as usize];
                self.points[*end] = (*x, if *digit < 0 { -*y } else { *y });
                *end += 1;
            }
        }
        self.steep.clear();
        while self.round(&mut begins) {}
        let (mut running, mut sum) = (Eq::identity(), Eq::identity());
        for bucket in (1..=BUCKETS).rev() {
            for rest in &self.points[begins[bucket]..begins[bucket + 1]] {
                running += point(*rest);
            }
            for (_, rest) in self.steep.iter().filter(|(of, _)| *of == bucket) {
                running += point(*rest);
            }
            sum += running;
        }
        sum
    }

    /// Adds the points of each bucket in pairs; whether there were any.
    fn round(&mut self, begins: &mut [usize; BUCKETS + 2]) -> bool {
        self.runs.clear();
        for bucket in 1..=BUCKETS {
            let (pairs, _) = self.points[begins[bucket]..begins[bucket + 1]].as_chunks();
            self.runs.extend(pairs.iter().map(|[(left, _), (right, _)]| *right - left));
        }
        if self.runs.is_empty() {
            return false;
        }
        invert_all(&mut self.runs, &mut self.products);
        self.next.clear();
        let mut runs = self.runs.iter();
        let mut begin = 0;
        for bucket in 1..=BUCKETS {
            let (pairs, last) = self.points[begin..begins[bucket + 1]].as_chunks();
            begin = begins[bucket + 1];
            begins[bucket] = self.next.len();
            for ([left, right], run) in pairs.iter().zip(&mut runs) {
                if bool::from(run.is_zero()) {
                    self.steep.extend([(bucket, *left), (bucket, *right)]);
                    continue;
                }
                let slope = (right.1 - left.1) * run;
                let x = slope.square() - left.0 - right.0;
                self.next.push((x, slope * (left.0 - x) - left.1));
            }
            self.next.extend(last);
        }
        begins[BUCKETS + 1] = self.next.len();
        std::mem::swap(&mut self.points, &mut self.next);
        true
    }
}

/// Inverts all values but zeros, which stay.
fn invert_all(values: &mut [Fq], products: &mut Vec<Fq>) {
    products.clear();
    let mut product = Fq::ONE;
    for value in values.iter() {
        products.push(product);
        if !bool::from(value.is_zero()) {
            product *= value;
        }
    }
    let mut inverse = product.invert().expect("a product of values that are not zero");
    for (value, before) in values.iter_mut().zip(&*products).rev() {
        if !bool::from(value.is_zero()) {
            let of_this = inverse * before;
            inverse *= &*value;
            *value = of_this;
        }
    }
}

/// Bits of a digit of [`Multiples`].
const STEP_BITS: usize = 4;
/// Multiples of a step: all digits but zero.
const MULTIPLES: usize = (1 << STEP_BITS) - 1;

/// One point times `1 ..= 15`, times each power of 16.
pub(crate) struct Multiples(Vec<EqAffine>);

impl Multiples {
    pub(crate) fn new(of: Eq) -> Self {
        let steps = (Fp::NUM_BITS as usize).div_ceil(STEP_BITS);
        let mut power = of;
        let mut multiples = Vec::with_capacity(steps * MULTIPLES);
        for _ in 0..steps {
            let first = multiples.len();
            multiples.push(power);
            for _ in 1..MULTIPLES {
                multiples.push(multiples[multiples.len() - 1] + power);
            }
            power += multiples[first + MULTIPLES - 1];
        }
        Self(affine(&multiples))
    }

    /// The point times a scalar.
    pub(crate) fn times(&self, scalar: &Fp) -> Eq {
        let digits = scalar.to_repr().into_iter().flat_map(|byte| [byte & 15, byte >> 4]);
        let terms = self.0.chunks_exact(MULTIPLES).zip(digits).filter(|(_, digit)| *digit != 0);
        terms.map(|(step, digit)| step[usize::from(digit) - 1]).fold(Eq::identity(), |sum, term| sum + term)
    }
}

/// Points in the form they are sent in.
pub(crate) fn affine(projective: &[Eq]) -> Vec<EqAffine> {
    let mut points = vec![EqAffine::identity(); projective.len()];
    Eq::batch_normalize(projective, &mut points);
    points
}

#[cfg(test)]
mod tests {
    use halo2_proofs::arithmetic::best_multiexp;
    use rand_chacha::ChaCha20Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::field::signed;

    /// Compares with halo2's sum, twice with one scratch: nothing of a sum is left for the next.
    fn compare(bases: &[EqAffine], values: &[i64]) {
        let scalars: Vec<Fp> = values.iter().map(|value| signed((*value).into())).collect();
        let expected = best_multiexp(&scalars, bases);
        let mut buckets = Buckets::default();
        let places = coordinates(bases).unwrap();
        assert_eq!(buckets.sum(&places, values), expected, "{values:?}");
        let reversed: Vec<i64> = values.iter().rev().copied().collect();
        let scalars: Vec<Fp> = scalars.into_iter().rev().collect();
        assert_eq!(buckets.sum(&places, &reversed), best_multiexp(&scalars, bases), "{reversed:?}");
    }

    fn bases(count: usize) -> Vec<EqAffine> {
        let mut generator = ChaCha20Rng::seed_from_u64(6);
        let points: Vec<Eq> = (0..count).map(|_| Eq::generator() * Fp::random(&mut generator)).collect();
        affine(&points)
    }

    #[test]
    fn sums_by_buckets_are_halo2s() {
        let mut generator = ChaCha20Rng::seed_from_u64(7);
        let bases = bases(700);
        for count in [1, 2, 3, 31, 127, 128, 129, 257, 699] {
            for bits in [1, 8, 9, 16, 17, 28, 40, 64] {
                let values: Vec<i64> = (0..count).map(|_| generator.next_u64() as i64 >> (64 - bits)).collect();
                compare(&bases[..count], &values);
            }
            for value in [0, 1, -1, 127, 128, 129, -128, -129, i64::from(i16::MIN), i64::from(i16::MAX), 32_640, 32_639]
            {
                compare(&bases[..count], &vec![value; count]);
            }
        }
        compare(&bases[..4], &[i64::MIN, i64::MAX, i64::MIN + 1, i64::MAX - 128]);
        assert_eq!(Buckets::default().sum(&[], &[]), Eq::identity());
    }

    /// Points that repeat, or are each other's negatives, have no slope between them.
    #[test]
    fn points_without_a_slope_between_them_are_added_too() {
        let [a, b]: [EqAffine; 2] = bases(2).try_into().unwrap();
        for points in [vec![a, a], vec![a, -a], vec![a, a, a, a, a], vec![a, b, a, b], vec![a, -a, b, b, -a, a, -b]] {
            for values in [[3, 3, 3, 3, 3, 3, 3], [3, -3, 3, -3, 3, -3, 3], [300, -300, 44, 0, 1, 300, -44]] {
                compare(&points, &values[..points.len()]);
            }
        }
        // Sums that meet after a round: (a + b) twice.
        let c: EqAffine = (a + b).into();
        compare(&[a, b, c, b, a, c, c], &[7; 7]);
    }

    #[test]
    fn multiples_are_products() {
        let mut generator = ChaCha20Rng::seed_from_u64(8);
        let of = Eq::generator() * Fp::from(5);
        let multiples = Multiples::new(of);
        let random = (0..20).map(|_| Fp::random(&mut generator));
        for scalar in [Fp::ZERO, Fp::ONE, -Fp::ONE, Fp::from(16)].into_iter().chain(random) {
            assert_eq!(multiples.times(&scalar), of * scalar);
        }
    }
}
