//! Llama 3's rotary scaling. A GGUF file does not hold its parameters but, for each pair of features, the number
//! its frequency is divided by; the parameters are recognised in these.

use std::f64::consts::TAU;

use ftk_networks::ops::{Llama3Scaling, Rope};

/// The parameters that all published models share; they differ in the factor only.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
const ORIGINAL_CONTEXT: usize = 8192;

/// Relative rounding of the stored divisors, which are f32 computed in f32.
const TOLERANCE: f64 = 1e-4;

/// The scaling with these divisors, one for each of the `dim / 2` pairs of `rope`; `None` inside if all are one.
/// `None` if no scaling of the known kind has them.
pub(super) fn recognise(rope: &Rope, divisors: &[f32]) -> Option<Option<Llama3Scaling>> {
    if divisors.len() != rope.dim / 2 {
        return None;
    }
    if divisors.iter().all(|&divisor| divisor == 1.0) {
        return Some(None);
    }
    // The longest wavelengths are divided by the factor itself.
    let factor = f64::from(divisors.iter().copied().fold(1.0, f32::max));
    let divisor = |pair: usize| {
        let frequency = rope.theta.powf(-((2 * pair) as f64) / rope.dim as f64);
        let turns = ORIGINAL_CONTEXT as f64 * frequency / TAU;
        let kept = ((turns - LOW_FREQ_FACTOR) / (HIGH_FREQ_FACTOR - LOW_FREQ_FACTOR)).clamp(0.0, 1.0);
        1.0 / ((1.0 - kept) / factor + kept)
    };
    let near = |(pair, &found): (usize, &f32)| (f64::from(found) / divisor(pair) - 1.0).abs() <= TOLERANCE;
    divisors.iter().enumerate().all(near).then_some(Some(Llama3Scaling {
        factor,
        low_freq_factor: LOW_FREQ_FACTOR,
        high_freq_factor: HIGH_FREQ_FACTOR,
        original_context: ORIGINAL_CONTEXT,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope() -> Rope {
        Rope { dim: 128, theta: 500_000.0, scaling: None }
    }

    /// As llama.cpp's converter computes them: by wavelength, in f32.
    fn divisors(rope: &Rope, factor: f32) -> Vec<f32> {
        let divisor = |pair: usize| {
            let frequency = 1.0 / (rope.theta as f32).powf((2 * pair) as f32 / rope.dim as f32);
            let wavelength = TAU as f32 / frequency;
            if wavelength < 8192.0 / 4.0 {
                1.0
            } else if wavelength > 8192.0 {
                factor
            } else {
                let smooth = (8192.0 / wavelength - 1.0) / 3.0;
                1.0 / ((1.0 - smooth) / factor + smooth)
            }
        };
        (0..rope.dim / 2).map(divisor).collect()
    }

    #[test]
    fn the_factors_of_published_models_are_recognised() {
        for factor in [8.0, 32.0] {
            let scaling = recognise(&rope(), &divisors(&rope(), factor)).unwrap().unwrap();
            assert_eq!((scaling.factor, scaling.original_context), (f64::from(factor), 8192));
        }
        assert_eq!(recognise(&rope(), &[1.0; 64]), Some(None));
    }

    #[test]
    fn other_divisors_are_not() {
        let mut changed = divisors(&rope(), 8.0);
        changed[40] *= 1.01;
        assert_eq!(recognise(&rope(), &changed), None);
        assert_eq!(recognise(&rope(), &changed[..63]), None);
        assert_eq!(recognise(&rope(), &[f32::NAN; 64]), None);
    }
}
