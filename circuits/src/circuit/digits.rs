//! Range proof of registration: every advice cell is a base-4 digit.
//!
//! `STATEMENT.md`, section 6: the digits meet the committed entries outside the circuit, in the link.

use ff::{Field, PrimeField};
use halo2_proofs::circuit::{Layouter, SimpleFloorPlanner, Value};
use halo2_proofs::plonk::{Advice, Circuit, Column, ConstraintSystem, Error, Expression, Fixed};
use halo2_proofs::poly::Rotation;
use pasta_curves::Fp;

use crate::key::UNUSABLE;
use crate::layout::{PRODUCTS, useful_rows};

/// Digits of an entry: base 4, sixteen bits.
pub(crate) const DIGITS: usize = 8;
/// Columns of the commitment that one circuit takes.
pub(crate) const REGISTERED_COLUMNS: usize = PRODUCTS;

#[derive(Clone, Debug)]
pub(crate) struct DigitsConfig {
    /// `(REGISTERED_COLUMNS * DIGITS)`, constrained by the digit gate.
    digits: Vec<Column<Advice>>,
    enabled: Column<Fixed>,
}

/// Digits of [`REGISTERED_COLUMNS`] columns, least significant first.
#[derive(Clone, Debug)]
pub(crate) struct DigitsCircuit<'a> {
    pub(crate) k: u32,
    /// The columns as circuits hold them, `w + 2^15`.
    pub(crate) columns: Option<&'a [Vec<Fp>]>,
}

/// `4^0 .. 4^7`
pub(crate) fn digit_weights() -> [Fp; DIGITS] {
    std::array::from_fn(|i| Fp::from(1 << (2 * i)))
}

/// Base-4 digits of a value below 2^16; for any other value the last one takes the rest and is no digit.
fn digits_of(value: &Fp) -> [Fp; DIGITS] {
    let repr = value.to_repr();
    let low = u64::from(u16::from_le_bytes([repr[0], repr[1]]));
    if repr[2..].iter().all(|byte| *byte == 0) {
        return std::array::from_fn(|i| Fp::from(low >> (2 * i) & 3));
    }
    let mut digits = std::array::from_fn(|i| Fp::from(low >> (2 * i) & 3));
    let below: Fp = digits[..DIGITS - 1].iter().zip(digit_weights()).map(|(digit, weight)| *digit * weight).sum();
    digits[DIGITS - 1] = (*value - below) * Fp::TWO_INV.pow_vartime([2 * (DIGITS as u64 - 1)]);
    digits
}

impl Circuit<Fp> for DigitsCircuit<'_> {
    type Config = DigitsConfig;
    type FloorPlanner = SimpleFloorPlanner;

    fn without_witnesses(&self) -> Self {
        Self { k: self.k, columns: None }
    }

    fn configure(meta: &mut ConstraintSystem<Fp>) -> DigitsConfig {
        let config = DigitsConfig {
            digits: (0..REGISTERED_COLUMNS * DIGITS).map(|_| meta.advice_column()).collect(),
            enabled: meta.fixed_column(),
        };
        meta.create_gate("digit: d (d-1) (d-2) (d-3) = 0", |meta| {
            let enabled = meta.query_fixed(config.enabled);
            config
                .digits
                .iter()
                .map(|column| {
                    let digit = meta.query_advice(*column, Rotation::cur());
                    // d (d-3) = u and (d-1) (d-2) = u + 2
                    let outer = digit.clone() * (digit - Expression::Constant(Fp::from(3)));
                    enabled.clone() * outer.clone() * (outer + Expression::Constant(Fp::from(2)))
                })
                .collect::<Vec<_>>()
        });
        config
    }

    fn synthesize(&self, config: DigitsConfig, mut layouter: impl Layouter<Fp>) -> Result<(), Error> {
        let usable = (1 << self.k) - UNUSABLE;
        layouter.assign_region(
            || "digits",
            |mut region| {
                for row in 0..useful_rows(self.k) {
                    region.assign_fixed(|| "q", config.enabled, row, || Value::known(Fp::ONE))?;
                }
                let Some(columns) = self.columns else { return Ok(()) };
                for (column, targets) in columns.iter().zip(config.digits.chunks(DIGITS)) {
                    for (row, value) in column.iter().enumerate().take(usable) {
                        for (digit, target) in digits_of(value).iter().zip(targets) {
                            region.assign_advice(|| "d", *target, row, || Value::known(*digit))?;
                        }
                    }
                }
                Ok(())
            },
        )
    }
}
