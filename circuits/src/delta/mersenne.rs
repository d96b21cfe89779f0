//! Arithmetic modulo the prime 2^89 - 1, in which the deltas of a site are compressed.
//!
//! No delta within its bound reaches 2^85 in absolute value, so each is its residue. Nothing rests on this field:
//! what is hashed and proved is what comes out.

/// 2^89 - 1
pub(crate) const MODULUS: u128 = (1 << BITS) - 1;
const BITS: u32 = 89;
/// Bytes of a residue.
pub(crate) const BYTES: usize = 12;

/// `value mod p` for values below 2^128.
fn reduce(value: u128) -> u128 {
    let value = (value & MODULUS) + (value >> BITS);
    if value >= MODULUS { value - MODULUS } else { value }
}

/// Residue of a signed integer below `2^88` in absolute value.
pub(crate) fn residue(value: i128) -> u128 {
    if value < 0 { sub(0, value.unsigned_abs()) } else { value as u128 }
}

/// The integer of least absolute value with this residue.
pub(crate) fn lift(value: u128) -> i128 {
    if value > MODULUS / 2 { value as i128 - MODULUS as i128 } else { value as i128 }
}

pub(crate) fn add(a: u128, b: u128) -> u128 {
    reduce(a + b)
}

pub(crate) fn sub(a: u128, b: u128) -> u128 {
    reduce(a + MODULUS - b)
}

pub(crate) fn mul(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    // a = a1 2^64 + a0 with a1 below 2^25; 2^128 = 2^39 and 2^(64 + 25) = 1 here.
    let (a0, a1, b0, b1) = (a & LOW, a >> 64, b & LOW, b >> 64);
    let (low, middle, high) = (a0 * b0, a0 * b1 + a1 * b0, a1 * b1);
    let parts = [low & MODULUS, low >> BITS, (middle & ((1 << 25) - 1)) << 64, middle >> 25, high << 39];
    reduce(parts.iter().sum())
}

/// `1 / a` for a other than zero: `a^(p - 2)`.
pub(crate) fn invert(a: u128) -> u128 {
    let (mut result, mut power, mut exponent) = (1, a, MODULUS - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = mul(result, power);
        }
        power = mul(power, power);
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Schoolbook: doubling and adding.
    fn slow(a: u128, b: u128) -> u128 {
        (0..BITS).rev().fold(0, |sum, bit| {
            let sum = (sum + sum) % MODULUS;
            if b >> bit & 1 == 1 { (sum + a) % MODULUS } else { sum }
        })
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_integers(a in 0..MODULUS, b in 0..MODULUS) {
            for (a, b) in [(a, b), (MODULUS - 1, b), (MODULUS - 1, MODULUS - 1), (a, 0)] {
                prop_assert_eq!(mul(a, b), slow(a, b));
                prop_assert_eq!(add(a, b), (a + b) % MODULUS);
                prop_assert_eq!(add(sub(a, b), b), a);
            }
            prop_assert_eq!(mul(a.max(1), invert(a.max(1))), 1);
        }

        #[test]
        fn integers_below_half_the_modulus_come_back(value in -(1i128 << 88) + 1..1 << 88) {
            prop_assert_eq!(lift(residue(value)), value);
        }
    }
}
