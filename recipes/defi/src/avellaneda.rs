//! The quoters of Avellaneda and Stoikov (2008) and of Guéant, Lehalle and Fernandez-Tapia (2013), and the market of the
//! first paper to try them in. Coefficients are computed in floats, once, and rounded to the integers that
//! [`super::quoter`] quotes with; the market of the paper is statistics and stays in floats but for its account.

use super::generated::Chance;
use super::market::{Bar, PRICE_ONE};
use super::quoter::{QuoteShape, QuoterAccount, WHOLE};
use super::window::RETURN_ONE;

/// The market of the paper: a price that moves by `sigma` over a unit of time, in steps of `dt`, and takers who come
/// at rate `a exp(-k distance)` on each side.
#[derive(Clone, Copy, Debug)]
pub struct Paper {
    /// First price.
    pub price: f64,
    /// Deviation over a unit of time.
    pub sigma: f64,
    /// Length of a step.
    pub dt: f64,
    /// Units of time.
    pub horizon: f64,
    /// Decay of the rate with distance.
    pub k: f64,
    /// Rate at no distance.
    pub a: f64,
}

/// The parameters of the paper's tables.
pub const PAPER: Paper = Paper { price: 100.0, sigma: 2.0, dt: 0.005, horizon: 1.0, k: 1.5, a: 140.0 };

/// Means over runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Spread.
    pub spread: f64,
    /// Profit.
    pub profit: f64,
    /// Its deviation.
    pub deviation: f64,
    /// Deviation of the final inventory.
    pub inventory: f64,
}

impl Paper {
    /// Spread around the reservation price: `gamma sigma^2 (T - t) + (2 / gamma) ln(1 + gamma / k)`.
    pub fn spread(&self, gamma: f64, left: f64) -> f64 {
        gamma * self.sigma * self.sigma * left + 2.0 / gamma * (1.0 + gamma / self.k).ln()
    }

    /// Runs the inventory strategy, or the symmetric one with the same spread at every moment around the price itself, so
    /// many times.
    pub fn simulate(&self, gamma: f64, symmetric: bool, runs: usize, seed: u64) -> Summary {
        let steps = (self.horizon / self.dt).round() as usize;
        let mean_spread =
            (0..steps).map(|at| self.spread(gamma, self.horizon - at as f64 * self.dt)).sum::<f64>() / steps as f64;
        let (mut profits, mut finals) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
        for run in 0..runs {
            let mut chance = Chance::new(seed.wrapping_mul(1_000_003).wrapping_add(run as u64));
            let mut price = self.price;
            let mut account = QuoterAccount::default();
            for at in 0..steps {
                let left = self.horizon - at as f64 * self.dt;
                let held = account.inventory as f64;
                let spread = self.spread(gamma, left);
                let lean = if symmetric { 0.0 } else { held * gamma * self.sigma * self.sigma * left };
                let middle = price - lean;
                let (bid, ask) = (middle - spread / 2.0, middle + spread / 2.0);
                // Whether a taker comes within the step, on each side.
                let mut comes = |distance: f64| {
                    let rate = self.a * (-self.k * distance).exp() * self.dt;
                    (chance.below(1 << 53) as f64) < rate * (1u64 << 53) as f64
                };
                let (buys, sells) = (comes(price - bid), comes(ask - price));
                let unit = |price: f64| (price * PRICE_ONE as f64).round() as i128;
                if buys {
                    account.cash -= unit(bid);
                    account.inventory += 1;
                }
                if sells {
                    account.cash += unit(ask);
                    account.inventory -= 1;
                }
                // The paper's price moves by the deviation of a step, up or down.
                let up = chance.below(2) == 0;
                price += if up { 1.0 } else { -1.0 } * self.sigma * self.dt.sqrt();
            }
            profits.push(account.equity((price * PRICE_ONE as f64) as u64) as f64 / PRICE_ONE as f64);
            finals.push(account.inventory as f64);
        }
        Summary {
            spread: mean_spread,
            profit: mean(&profits),
            deviation: deviation(&profits),
            inventory: deviation(&finals),
        }
    }
}

/// Mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    // The sum of nothing is -0.
    (values.iter().sum::<f64>() + 0.0) / values.len().max(1) as f64
}

/// Standard deviation of a sample.
pub fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    (values.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>() / (values.len().max(2) - 1) as f64).sqrt()
}

/// How often quotes are reached: `a exp(-k distance)` a bar, distance in parts of the price.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intensity {
    /// Share of bars that reach a quote at no distance.
    pub a: f64,
    /// Decay with distance.
    pub k: f64,
    /// Deviation of the returns of a bar, parts of the price.
    pub sigma: f64,
}

impl Intensity {
    /// Fits the logarithm of how often the next bar reaches a distance from the last close, by least squares.
    pub fn fit(bars: &[Bar]) -> Self {
        let returns: Vec<f64> = bars.windows(2).map(|pair| pair[1].close as f64 / pair[0].close as f64 - 1.0).collect();
        let sigma = deviation(&returns).max(1e-9);
        let mut points = Vec::new();
        for distance in (1..=12).map(|step| sigma * f64::from(step) / 4.0) {
            let reached = bars
                .windows(2)
                .map(|pair| {
                    let close = pair[0].close as f64;
                    let below = pair[1].low as f64 <= close * (1.0 - distance);
                    let above = pair[1].high as f64 >= close * (1.0 + distance);
                    f64::from(u8::from(below) + u8::from(above)) / 2.0
                })
                .sum::<f64>();
            if reached > 0.0 {
                points.push((distance, (reached / returns.len().max(1) as f64).ln()));
            }
        }
        let count = points.len().max(1) as f64;
        let (x, y) = points.iter().fold((0.0, 0.0), |sum, it| (sum.0 + it.0 / count, sum.1 + it.1 / count));
        let (up, down) = points
            .iter()
            .fold((0.0, 0.0), |sum, it| (sum.0 + (it.0 - x) * (it.1 - y), sum.1 + (it.0 - x) * (it.0 - x)));
        let k = if down > 0.0 { (-up / down).max(1.0) } else { 1.0 / sigma };
        Self { a: (y + k * x).exp().min(1.0), k, sigma }
    }
}

/// A quoter as coefficients: the half-spread is `base + linear s + square s^2` at a deviation s, the shift of both
/// quotes at full inventory `lean s + lean_square s^2`. Bases in 1e-9 of the price, linear ones in millionths, squares in
/// millionths a full price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coefficients {
    /// Constant part of the half-spread.
    pub base: i128,
    /// Part of it by deviation.
    pub linear: i128,
    /// Part of it by variance.
    pub square: i128,
    /// Part of the shift by deviation.
    pub lean: i128,
    /// Part of the shift by variance.
    pub lean_square: i128,
}

impl Coefficients {
    /// Half-spread and shift at a deviation in 1e-9, for quotes of the controller's whole size.
    pub fn at(&self, sigma: i128) -> QuoteShape {
        let linear = |by: i128| by * sigma / 1_000_000;
        let square = |by: i128| by * (sigma * sigma / RETURN_ONE) / 1_000_000;
        QuoteShape {
            half: self.base + linear(self.linear) + square(self.square),
            shift: linear(self.lean) + square(self.lean_square),
            size: WHOLE,
        }
    }

    /// Quotes at a fixed distance.
    pub fn symmetric(half: i128) -> Self {
        Self { base: half, linear: 0, square: 0, lean: 0, lean_square: 0 }
    }

    /// Avellaneda and Stoikov, with `left` bars always left and a full inventory of so many quotes; `risk` is gamma
    /// in units of a part of the price.
    pub fn avellaneda_stoikov(fit: &Intensity, risk: f64, left: f64, quotes: f64) -> Self {
        let base = (1.0 + risk / fit.k).ln() / risk;
        let square = risk * left;
        let (base, square, full) = (base * 1e9, square / 2.0 * 1e6, square * quotes * 1e6);
        Self { base: whole(base), linear: 0, square: whole(square), lean: 0, lean_square: whole(full) }
    }

    /// Guéant, Lehalle and Fernandez-Tapia, with quotes of one unit: `c1 + sigma c2 / 2`, and `sigma c2` a unit of
    /// inventory (their equations 4.6 and 4.7 with xi = gamma).
    pub fn glft(fit: &Intensity, risk: f64, quotes: f64) -> Self {
        let ratio = 1.0 + risk / fit.k;
        let c1 = ratio.ln() / risk;
        let c2 = (risk / (2.0 * fit.a * fit.k) * ratio.powf(fit.k / risk + 1.0)).sqrt();
        Self {
            base: whole(c1 * 1e9),
            linear: whole(c2 / 2.0 * 1e6),
            square: 0,
            lean: whole(c2 * quotes * 1e6),
            lean_square: 0,
        }
    }
}

/// The nearest whole number within what quotes are computed with.
fn whole(value: f64) -> i128 {
    value.round().clamp(0.0, 1e15) as i128
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated::{USUAL, bars};

    /// The table of the paper, simulated again by others with the same parameters over a thousand runs.
    #[test]
    fn the_papers_market_pays_what_is_known() {
        const RUNS: usize = 1000;
        for (gamma, symmetric, spread, profit, deviation, inventory) in [
            (0.1, false, 1.49, 65.0, 6.4, 3.0),
            (0.1, true, 1.49, 67.8, 13.1, 8.3),
            (0.01, false, 1.35, 68.7, 8.8, 5.3),
            (0.01, true, 1.35, 68.9, 13.6, 8.6),
            (0.5, false, 2.16, 48.5, 5.8, 1.9),
            (0.5, true, 2.16, 58.2, 11.6, 7.1),
        ] {
            let found = PAPER.simulate(gamma, symmetric, RUNS, 1);
            // Both means carry their own error; a deviation's is its value by the root of twice the runs.
            let error = 3.0 * (2.0f64 / RUNS as f64).sqrt() * found.deviation;
            assert!((found.profit - profit).abs() < error + 0.1, "{gamma} {symmetric}: {found:?}");
            let error = 3.0 / (RUNS as f64).sqrt();
            assert!((found.deviation / deviation - 1.0).abs() < error + 0.02, "{gamma} {symmetric}: {found:?}");
            assert!((found.inventory / inventory - 1.0).abs() < error + 0.05, "{gamma} {symmetric}: {found:?}");
            assert!((found.spread - spread).abs() < 0.01, "{gamma} {symmetric}: {found:?}");
        }
    }

    #[test]
    fn coefficients_follow_the_formulas() {
        let fit = Intensity::fit(&bars(1, 20_000, USUAL));
        assert!(fit.k > 100.0 && (0.1..=1.0).contains(&fit.a), "{fit:?}");
        // Aversion to risk widens quotes and leans harder on inventory, in both.
        for make in [
            |fit: &Intensity, risk| Coefficients::glft(fit, risk, 5.0),
            |fit: &Intensity, risk| Coefficients::avellaneda_stoikov(fit, risk, 30.0, 5.0),
        ] {
            let (calm, wary) = (make(&fit, fit.k / 10.0), make(&fit, fit.k));
            let sigma = (fit.sigma * 1e9) as i128;
            assert!(wary.at(sigma).shift > calm.at(sigma).shift, "{calm:?} {wary:?}");
            assert!(calm.at(2 * sigma).shift > calm.at(sigma).shift);
            assert!(calm.at(2 * sigma).half > calm.at(sigma).half);
        }
        let by_hand = Coefficients { base: 1000, linear: 500_000, square: 2_000_000, lean: 250_000, lean_square: 0 };
        // At a deviation of 0.001: 0.5 of it and twice its square.
        let shape = QuoteShape { half: 1000 + 500_000 + 2000, shift: 250_000, size: WHOLE };
        assert_eq!(by_hand.at(1_000_000), shape);
    }
}
