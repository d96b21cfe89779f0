//! What files say of rotary positions: in the dialects of transformers 4 (`rope_theta`, `rope_scaling`) and transformers 5
//! (`rope_parameters`), and in GGUF files by divisors.

use std::f64::consts::TAU;

use serde_json::{Value, json};

use crate::config::{ConfigError, ConfigObject, MAX_SIZE};
use crate::ops::{Llama3Scaling, Rope};

/// The original Llama's, which transformers and llama.cpp assume when none is written.
pub(crate) const DEFAULT_THETA: f64 = 10_000.0;

/// The rotary embedding: `rope_parameters` (transformers 5) if present, otherwise `rope_theta` and `rope_scaling`.
pub(crate) fn read(config: &ConfigObject<'_>, dim: usize) -> Result<Rope, ConfigError> {
    let nested = config.object("rope_parameters", "rope_parameters.")?;
    let scaling = config.object("rope_scaling", "rope_scaling.")?;
    if let (Some(nested), Some(scaling)) = (&nested, &scaling)
        && scaling_of(nested)? != scaling_of(scaling)?
    {
        // transformers 5 goes by this one, earlier readers by the other.
        return Err(config.error("rope_scaling", "stands beside rope_parameters and says something else"));
    }
    let theta = match &nested {
        Some(nested) => nested.number("rope_theta")?.or(config.number("rope_theta")?),
        None => config.number("rope_theta")?,
    };
    let scaling = match nested.or(scaling) {
        Some(parameters) => scaling_of(&parameters)?,
        None => None,
    };
    Ok(Rope { dim, theta: theta.unwrap_or(DEFAULT_THETA), scaling })
}

/// The wavelength base of positions that are not scaled: that of `parameters` or, where they do not say, the default.
pub(crate) fn plain(parameters: &ConfigObject<'_>, default: f64) -> Result<f64, ConfigError> {
    let kind = parameters.text("rope_type")?.or(parameters.text("type")?);
    if let Some(other) = kind.filter(|&kind| kind != "default") {
        return Err(parameters.error("rope_type", format!("not supported, only default is: {other}")));
    }
    refuse_part(parameters)?;
    Ok(parameters.number("rope_theta")?.unwrap_or(default))
}

/// Refuses scaled positions in the metadata of a GGUF file, whose keys begin with its architecture.
pub(crate) fn refuse_scaling(metadata: &ConfigObject<'_>, architecture: &str) -> Result<(), ConfigError> {
    let key = |name: &str| format!("{architecture}.{name}");
    match metadata.text(&key("rope.scaling.type"))? {
        Some("none") => return Ok(()),
        Some(kind) => return Err(metadata.error(&key("rope.scaling.type"), format!("not supported: {kind}"))),
        None => {}
    }
    // Without a type llama.cpp takes a factor, also under its older name, for linear scaling.
    for key in [key("rope.scaling.factor"), key("rope.scale_linear")] {
        if let Some(factor) = metadata.number(&key)?.filter(|&factor| factor != 0.0 && factor != 1.0) {
            return Err(metadata.error(&key, format!("linear scaling is not supported: {factor}")));
        }
    }
    Ok(())
}

/// Refuses to rotate a part of each head.
pub(crate) fn refuse_part(parameters: &ConfigObject<'_>) -> Result<(), ConfigError> {
    const KEY: &str = "partial_rotary_factor";
    match parameters.number(KEY)?.filter(|&part| part != 1.0) {
        Some(part) => Err(parameters.error(KEY, format!("not supported, only 1 is: {part}"))),
        None => Ok(()),
    }
}

fn scaling_of(parameters: &ConfigObject<'_>) -> Result<Option<Llama3Scaling>, ConfigError> {
    refuse_part(parameters)?;
    // `type` is how transformers before 4.43 spelt `rope_type`.
    let kind = parameters.text("rope_type")?.or(parameters.text("type")?);
    match kind {
        None | Some("default") => Ok(None),
        Some("llama3") => {
            let need = |key| parameters.number(key).and_then(|value| parameters.required(key, value));
            let key = "original_max_position_embeddings";
            let original_context = parameters.size(key)?;
            Ok(Some(Llama3Scaling {
                factor: need("factor")?,
                low_freq_factor: need("low_freq_factor")?,
                high_freq_factor: need("high_freq_factor")?,
                original_context: parameters.required(key, original_context)?,
            }))
        }
        Some(other) => {
            Err(parameters.error("rope_type", format!("not supported, only default and llama3 are: {other}")))
        }
    }
}

/// Checks that the numbers are ones that angles can be computed from.
pub(crate) fn check(config: &ConfigObject<'_>, rope: &Rope) -> Result<(), ConfigError> {
    let fail = |key: &str, reason: String| Err(config.error(key, reason));
    if !(rope.theta.is_finite() && rope.theta > 1.0) {
        return fail("rope_theta", format!("not a number above 1: {}", rope.theta));
    }
    if let Some(Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_context }) = &rope.scaling {
        if !(factor.is_finite() && *factor >= 1.0) {
            return fail("rope_scaling.factor", format!("not a number from 1 up: {factor}"));
        }
        if !(low_freq_factor.is_finite() && *low_freq_factor > 0.0) {
            return fail("rope_scaling.low_freq_factor", format!("not a positive number: {low_freq_factor}"));
        }
        if !(high_freq_factor.is_finite() && high_freq_factor > low_freq_factor) {
            return fail("rope_scaling.high_freq_factor", format!("not above low_freq_factor: {high_freq_factor}"));
        }
        if *original_context == 0 || *original_context > MAX_SIZE {
            let key = "rope_scaling.original_max_position_embeddings";
            return fail(key, format!("not within 1 and {MAX_SIZE}: {original_context}"));
        }
    }
    Ok(())
}

/// `rope_scaling` as transformers 4 writes it.
pub(crate) fn written(rope: &Rope) -> Option<Value> {
    let Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_context } = rope.scaling.as_ref()?;
    Some(json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low_freq_factor,
        "high_freq_factor": high_freq_factor,
        "original_max_position_embeddings": original_context,
    }))
}

/// The parameters that all published models share; they differ in the factor only.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
const ORIGINAL_CONTEXT: usize = 8192;

/// Relative rounding of the stored divisors, which are f32 computed in f32.
const TOLERANCE: f64 = 1e-4;

/// The scaling with these divisors, one for each of the `dim / 2` pairs of `rope`; `None` if all are one. A GGUF file does
/// not hold the parameters of Llama 3's scaling but, for each pair of features, the number its frequency is divided by;
/// the parameters are recognised in these.
///
/// # Errors
/// Why no scaling of the known kind has them.
pub(crate) fn recognise(rope: &Rope, divisors: &[f32]) -> Result<Option<Llama3Scaling>, String> {
    let pairs = rope.dim / 2;
    if divisors.len() != pairs {
        return Err(format!("needs shape [{pairs}], has [{}]", divisors.len()));
    }
    if divisors.iter().all(|&divisor| divisor == 1.0) {
        return Ok(None);
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
    if !divisors.iter().enumerate().all(near) {
        let known = "no scaling of rotary positions that is supported; the known kind is Llama 3's";
        return Err(known.to_owned());
    }
    Ok(Some(Llama3Scaling {
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
        assert_eq!(recognise(&rope(), &[1.0; 64]), Ok(None));
    }

    #[test]
    fn other_divisors_are_not() {
        let mut changed = divisors(&rope(), 8.0);
        changed[40] *= 1.01;
        assert!(recognise(&rope(), &changed).unwrap_err().starts_with("no scaling"));
        assert_eq!(recognise(&rope(), &changed[..63]), Err("needs shape [64], has [63]".to_owned()));
        assert!(recognise(&rope(), &[f32::NAN; 64]).is_err());
    }
}
