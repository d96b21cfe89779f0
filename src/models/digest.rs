//! `D_base`: what a proof calls the base model.
//!
//! BLAKE3 over the byte string below. It names what the network computes with and nothing else: sharding, header
//! order, stored precision and metadata of files do not enter, a GGUF counts as its dequantised tensors.
//! Integers are unsigned, 64 bits, little-endian; a *text* is its length in bytes, then its UTF-8; a *real* is the
//! little-endian IEEE 754 binary64.
//!
//! 1. The text `ftk base model 1`. A change of this layout MUST change it.
//! 2. The text `llama`, the architecture.
//! 3. The integers vocab, hidden, intermediate, layers, query heads, key-value heads, head dimension, context; the real
//!    eps; one byte 1 if the head is tied, else 0; the real theta; one byte 1 if wavelengths are scaled, else 0, and
//!    in the former case the reals factor, low_freq_factor, high_freq_factor and the integer original context.
//! 4. The number of tensors, then one record for each tensor the network uses, in ascending byte order of names. A
//!    tied head has no record. No other tensor enters. A record is: the name (text), the type (text, MUST be `F32`),
//!    the rank, the dimensions outermost first, the length in bytes, the entries row-major as little-endian binary32.
//! 5. One byte 0 if the model has no tokenizer, else 1 and the 32 bytes of BLAKE3 over `tokenizer.json`.

use std::fmt;

use blake3::Hasher;
use ftk_adapters::ops::{Heads, Llama3Scaling, Rope};
use ftk_adapters::weights::Weights;

use super::{Llama, ModelError};

/// Text at the head of the hashed bytes.
const TAG: &str = "ftk base model 1";

/// `D_base`: BLAKE3 digest of a base model. Shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BaseDigest(pub [u8; 32]);

impl fmt::Display for BaseDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BaseDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BaseDigest({self})")
    }
}

/// The byte string of the module's page, hashed as it is written.
struct Record(Hasher);

impl Record {
    fn int(&mut self, value: usize) {
        self.0.update(&(value as u64).to_le_bytes());
    }

    fn real(&mut self, value: f64) {
        self.0.update(&value.to_le_bytes());
    }

    fn flag(&mut self, value: bool) {
        self.0.update(&[u8::from(value)]);
    }

    fn text(&mut self, value: &str) {
        self.int(value.len());
        self.0.update(value.as_bytes());
    }

    fn reals32(&mut self, values: &[f32]) {
        // Long enough for the hasher's widest vector units, short enough to stay in cache.
        const CHUNK: usize = 32 * 1024;
        let mut bytes = Vec::with_capacity(4 * CHUNK);
        for chunk in values.chunks(CHUNK) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
            self.0.update(&bytes);
        }
    }
}

/// `D_base` of a network, its weights (all others ignored) and the digest of its tokenizer.
///
/// # Errors
/// A weight the network uses is missing or not f32; [`ModelError::Candle`] if it cannot be read back from its device.
pub(super) fn base(network: &Llama, weights: &Weights, tokenizer: Option<&[u8; 32]>) -> Result<BaseDigest, ModelError> {
    let Llama { vocab, hidden, intermediate, layers, heads, rope, eps, tied, context } = network;
    let Heads { query, key_value, dim } = heads;
    let Rope { dim: _, theta, scaling } = rope;

    let mut record = Record(Hasher::new());
    record.text(TAG);
    record.text("llama");
    for size in [vocab, hidden, intermediate, layers, query, key_value, dim, context] {
        record.int(*size);
    }
    record.real(*eps);
    record.flag(*tied);
    record.real(*theta);
    record.flag(scaling.is_some());
    if let Some(Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_context }) = scaling {
        record.real(*factor);
        record.real(*low_freq_factor);
        record.real(*high_freq_factor);
        record.int(*original_context);
    }

    let needed = network.shapes();
    record.int(needed.len());
    for name in needed.keys() {
        let tensor = weights.get(name)?;
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        record.text(name);
        record.text("F32");
        record.int(tensor.rank());
        tensor.dims().iter().for_each(|dim| record.int(*dim));
        record.int(4 * values.len());
        record.reals32(&values);
    }

    record.flag(tokenizer.is_some());
    if let Some(digest) = tokenizer {
        record.0.update(digest);
    }
    Ok(BaseDigest(record.0.finalize().into()))
}
