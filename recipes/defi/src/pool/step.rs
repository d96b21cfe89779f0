//! What moves when the price moves within a range of constant liquidity. Rounding is always against whoever takes out.

use ruint::aliases::{U256, U512};

use crate::DefiError;

/// Parts of an amount that a fee is counted in.
pub const FEE_ONE: u32 = 1_000_000;

/// One step of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapStep {
    /// Where the price is afterwards.
    pub sqrt_price: U256,
    /// Paid in without the fee.
    pub paid: u128,
    /// Given out.
    pub given: u128,
    /// The fee, in the token that was paid in.
    pub fee: u128,
}

const OVER: DefiError = DefiError::Overflow("amounts of a step");

fn narrow(value: U256) -> Result<u128, DefiError> {
    let [a, b, c, d] = *value.as_limbs();
    if c | d == 0 { Ok(u128::from(a) | (u128::from(b) << 64)) } else { Err(OVER) }
}

fn q96(liquidity: u128) -> U256 {
    U256::from(liquidity) << 96
}

fn up(quotient: U256, rest: bool) -> U256 {
    if rest { quotient + U256::ONE } else { quotient }
}

/// `a * b / d`, exact in between; `round` upwards or not. The result must fit.
fn mul_div(a: U256, b: U256, d: U256, round: bool) -> Result<U256, DefiError> {
    // Prices next to each other and liquidity of everyday pools: the product fits, and half the work does.
    if a.bit_len() + b.bit_len() <= 256 {
        let (quotient, rest) = (a * b).div_rem(d);
        return Ok(up(quotient, round && !rest.is_zero()));
    }
    let product: U512 = a.widening_mul(b);
    let (quotient, rest) = product.div_rem(U512::from(d));
    let quotient = U256::checked_from_limbs_slice(quotient.as_limbs()).ok_or(OVER)?;
    Ok(up(quotient, round && !rest.is_zero()))
}

/// Token 0 between two prices: `L (1/a - 1/b)`.
///
/// # Errors
/// An amount beyond 128 bits.
pub fn amount0(a: U256, b: U256, liquidity: u128, round_up: bool) -> Result<u128, DefiError> {
    let (low, high) = if a <= b { (a, b) } else { (b, a) };
    // Rounding once by the product is rounding twice by its factors, as the contracts do.
    let product: U512 = q96(liquidity).widening_mul(high - low);
    let divisor: U512 = low.widening_mul(high);
    let (quotient, rest) = product.div_rem(divisor);
    let quotient = U256::checked_from_limbs_slice(quotient.as_limbs()).ok_or(OVER)?;
    narrow(up(quotient, round_up && !rest.is_zero()))
}

/// Token 1 between two prices: `L (b - a)`.
///
/// # Errors
/// An amount beyond 128 bits.
pub fn amount1(a: U256, b: U256, liquidity: u128, round_up: bool) -> Result<u128, DefiError> {
    let distance = if a <= b { b - a } else { a - b };
    let product: U512 = distance.widening_mul(U256::from(liquidity));
    let rest = product.as_limbs()[0] != 0 || product.as_limbs()[1] & 0xffff_ffff != 0;
    let value = U256::checked_from_limbs_slice((product >> 96usize).as_limbs()).ok_or(OVER)?;
    narrow(up(value, round_up && rest))
}

/// What liquidity between two prices holds at a price.
///
/// # Errors
/// An amount beyond 128 bits.
pub fn held(sqrt_price: U256, (low, high): (U256, U256), liquidity: u128, up: bool) -> Result<[u128; 2], DefiError> {
    let inner = sqrt_price.clamp(low, high);
    Ok([amount0(inner, high, liquidity, up)?, amount1(low, inner, liquidity, up)?])
}

/// The most liquidity between two prices that these amounts pay for at a price.
///
/// # Errors
/// Liquidity beyond 128 bits.
pub fn liquidity_for(
    sqrt_price: U256,
    (low, high): (U256, U256),
    [first, second]: [u128; 2],
) -> Result<u128, DefiError> {
    let inner = sqrt_price.clamp(low, high);
    let of_first = |from: U256| -> Result<U256, DefiError> {
        let root = mul_div(from, high, U256::ONE << 96, false)?;
        mul_div(U256::from(first), root, high - from, false)
    };
    let of_second = |to: U256| mul_div(U256::from(second), U256::ONE << 96, to - low, false);
    narrow(match (inner < high, inner > low) {
        (true, true) => of_first(inner)?.min(of_second(inner)?),
        (true, false) => of_first(inner)?,
        _ => of_second(inner)?,
    })
}

/// Where an amount of token 0 takes the price down to: `L s / (L + x s)`, rounded up; and whether it was rounded once
/// only. Where the denominator leaves 256 bits the contracts round it, too.
pub(super) fn after_zero(sqrt_price: U256, liquidity: u128, amount: u128) -> Result<(U256, bool), DefiError> {
    let numerator = q96(liquidity);
    let product: U512 = U256::from(amount).widening_mul(sqrt_price);
    let denominator = U256::checked_from_limbs_slice(product.as_limbs()).and_then(|it| it.checked_add(numerator));
    match denominator {
        Some(denominator) => Ok((mul_div(numerator, sqrt_price, denominator, true)?, true)),
        None => {
            let (quotient, rest) = numerator.div_rem(numerator / sqrt_price + U256::from(amount));
            Ok((up(quotient, !rest.is_zero()), false))
        }
    }
}

/// Where an amount of token 1 takes the price up to: `s + y / L`, rounded down.
pub(super) fn after_one(sqrt_price: U256, liquidity: u128, amount: u128) -> Result<U256, DefiError> {
    sqrt_price.checked_add(q96(amount) / U256::from(liquidity)).ok_or(OVER)
}

/// Moves the price towards `target`, with at most `left` to pay in, the fee among it. The target's side of the price
/// says which token is paid in.
///
/// # Errors
/// Amounts beyond 128 bits.
pub fn step(sqrt_price: U256, target: U256, liquidity: u128, left: u128, fee: u32) -> Result<SwapStep, DefiError> {
    if liquidity == 0 {
        return Ok(SwapStep { sqrt_price: target, paid: 0, given: 0, fee: 0 });
    }
    let zero = target <= sqrt_price;
    let (one, cut) = (u128::from(FEE_ONE), u128::from(fee));
    // Reserves are below 2^120, so the product stays in 128 bits where the amount does in 108.
    let spendable = match left.checked_mul(one - cut) {
        Some(product) => product / one,
        None => narrow(mul_div(U256::from(left), U256::from(one - cut), U256::from(one), false)?)?,
    };
    let cost = |to: U256| {
        if zero { amount0(to, sqrt_price, liquidity, true) } else { amount1(sqrt_price, to, liquidity, true) }
    };
    // The target is reached if its cost can be spent: which is so if spending everything leads beyond it, as prices
    // round towards the beginning and costs up. That spares a division.
    let after = if zero {
        let (after, exactly) = after_zero(sqrt_price, liquidity, spendable)?;
        let reached = if exactly { after <= target } else { cost(target).is_ok_and(|whole| spendable >= whole) };
        if reached { target } else { after }
    } else {
        after_one(sqrt_price, liquidity, spendable)?.min(target)
    };
    let paid = cost(after)?;
    let given = if zero {
        amount1(after, sqrt_price, liquidity, false)?
    } else {
        amount0(sqrt_price, after, liquidity, false)?
    };
    // When the amount ends before the target, all of the rest is the fee.
    let fee = if after == target {
        let product = paid.checked_mul(cut).ok_or(OVER)?;
        product.div_ceil(one - cut)
    } else {
        left - paid
    };
    Ok(SwapStep { sqrt_price: after, paid, given, fee })
}
