//! How far AdamW can move an entry, whatever the gradients: the bound of `TRANSCRIPT.md`, with rounding.

use ftk_recipes::Optim;

/// Half the distance between f32 numbers next to 1: the largest relative error of an operation.
const ROUND: f64 = 1.0 / (1 << 24) as f64;
/// What a product of two f32 numbers may lose below the smallest of them.
const LOST: f64 = f64::from_bits((1023 - 148) << 52);
/// Second decays below this forget the gradients that the first moment still holds.
const REMEMBERS: f64 = 0.5;

/// The largest share of the learning rate by which an entry can move at a step counted from 1, decay aside; infinite
/// where betas set no bound.
fn factor(optim: &Optim, step: u64) -> f64 {
    let [beta1, beta2] = optim.betas;
    if beta2 < REMEMBERS {
        return f64::INFINITY;
    }
    // As the optimiser has them, in f32.
    let [b1, b2] = [beta1 as f32, beta2 as f32];
    let [new1, new2] = [1.0 - b1, 1.0 - b2].map(f64::from);
    let steps = step as f64;
    let ratio = (f64::from(b1) + 5.0 * ROUND).powi(2) / (f64::from(b2) * (1.0 - 4.0 * ROUND));
    let sum = if (1.0 - ratio).abs() < 1e-9 { steps } else { (1.0 - libm::pow(ratio, steps)) / (1.0 - ratio) };
    let moments = new1 * (1.0 + 6.0 * ROUND) * (sum / (new2 * (1.0 - 4.0 * ROUND))).sqrt();
    let corrected = |beta: f64| 1.0 - libm::pow(beta, steps);
    let eps = f64::from(optim.eps as f32);
    let below = (steps * LOST).sqrt() / eps;
    (moments * (corrected(beta2).sqrt() + below) / corrected(beta1) + LOST / eps) * (1.0 + 16.0 * ROUND)
}

/// The largest move of an entry over some steps: `fixed + share |w|` for an entry that was `w` before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Reach {
    pub(super) fixed: f64,
    pub(super) share: f64,
}

impl Reach {
    /// With one step more, counted from 1, at this learning rate.
    pub(super) fn after(self, optim: &Optim, step: u64, rate: f64) -> Self {
        let own = if rate == 0.0 { 0.0 } else { rate * factor(optim, step) };
        let share = rate * optim.weight_decay * (1.0 + 2.0 * ROUND) + 4.0 * ROUND;
        Self { fixed: self.fixed * (1.0 + share) + own, share: self.share * (1.0 + share) + share }
    }

    /// How far an entry of this value can have come.
    pub(super) fn of(self, value: f32) -> f64 {
        self.fixed + self.share * f64::from(value.abs())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::super::optimiser::AdamW;
    use super::*;

    #[test]
    fn the_factor_is_one_at_first_and_that_of_the_paper_in_the_end() {
        let optim = Optim::default();
        assert!((factor(&optim, 1) - 1.0).abs() < 1e-5, "{}", factor(&optim, 1));
        let limit = 0.1 / (0.001f64 * (1.0 - 0.81 / 0.999)).sqrt();
        assert!((factor(&optim, 20_000) / limit - 1.0).abs() < 1e-4, "{} {limit}", factor(&optim, 20_000));
        assert!((limit - 7.27).abs() < 0.001, "{limit}");
        // It rises to the limit, so that the limit bounds every step.
        let factors: Vec<f64> = (1..200).map(|step| factor(&optim, step)).collect();
        assert!(factors.is_sorted() && factors[198] < limit, "{factors:?}");
        assert_eq!(factor(&Optim { betas: [0.9, 0.4], ..optim }, 3), f64::INFINITY);
    }

    /// Runs on gradients that one entry gets by a rule, and gives the largest share of the bound that a step reached.
    fn reached(optim: &Optim, steps: u64, mut gradient: impl FnMut(u64) -> f32) -> f64 {
        let weight = Tensor::from_slice(&[0.75f32, -2.0], (1, 2), &Device::Cpu).unwrap();
        let optim = Optim { max_grad_norm: 0.0, ..optim.clone() };
        let mut adam = AdamW::new(&[("w".to_owned(), weight)], &optim).unwrap();
        let (begun, mut whole, mut most) = (adam.values(), Reach::default(), 0f64);
        for step in 1..=steps {
            let before = adam.values();
            let gradient = gradient(step);
            adam.step(&[vec![gradient, -gradient]], optim.lr).unwrap();
            let now = adam.values();
            whole = whole.after(&optim, step, optim.lr);
            for (from, reach) in [(&before, Reach::default().after(&optim, step, optim.lr)), (&begun, whole)] {
                for (w, v) in from[0].iter().zip(&now[0]) {
                    most = most.max((f64::from(*v) - f64::from(*w)).abs() / reach.of(*w));
                }
            }
        }
        most
    }

    #[test]
    fn no_gradients_reach_beyond_it_and_the_worst_come_close() {
        for (betas, eps, weight_decay) in
            [([0.9, 0.999], 1e-8, 0.0), ([0.9, 0.95], 1e-8, 0.1), ([0.0, 0.999], 1e-6, 0.0), ([0.99, 0.9], 1e-8, 0.01)]
        {
            let optim = Optim { lr: 1e-2, betas, eps, weight_decay, ..Optim::default() };
            let mut rng = ChaCha8Rng::seed_from_u64(5);
            let mut any = || f32::from_bits(rng.next_u32() & 0x3fff_ffff | rng.next_u32() & 0x8000_0000);
            let spikes = |step: u64| if step.is_multiple_of(40) { 1e4 } else { 1e-9 };
            let tiny = |step: u64| if step < 20 { 1e-22 } else { 3e-38 };
            for most in [
                reached(&optim, 400, |_| any()),
                reached(&optim, 400, spikes),
                reached(&optim, 400, tiny),
                reached(&optim, 400, |_| 1.0),
                reached(&optim, 400, |_| 0.0),
            ] {
                assert!(most <= 1.0, "{betas:?}: {most}");
            }
        }
        // Gradients that grow by b2 / b1 a step are those with equality: c(t) to within rounding.
        let optim = Optim { lr: 1e-2, eps: 1e-12, ..Optim::default() };
        let most = reached(&optim, 60, |step| (0.999f32 / 0.9).powi(step as i32));
        assert!((0.99..=1.0).contains(&most), "{most}");
    }
}
