//! Numbers, texts and tensors as bytes of `D_base`, hashed as they are written; the module `digest` says which.

use blake3::Hasher;

use crate::ops::{Llama3Scaling, Rope};

/// The byte string, hashed as it is written.
pub(crate) struct DigestRecord(pub(crate) Hasher);

impl DigestRecord {
    pub(crate) fn int(&mut self, value: usize) {
        self.0.update(&(value as u64).to_le_bytes());
    }

    pub(crate) fn ints(&mut self, values: impl IntoIterator<Item = usize>) {
        values.into_iter().for_each(|value| self.int(value));
    }

    pub(crate) fn real(&mut self, value: f64) {
        self.0.update(&value.to_le_bytes());
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.0.update(&[u8::from(value)]);
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.int(value.len());
        self.0.update(value.as_bytes());
    }

    pub(crate) fn reals32(&mut self, values: &[f32]) {
        // Long enough for the hasher's widest vector units, short enough to stay in cache.
        const CHUNK: usize = 32 * 1024;
        let mut bytes = vec![0; 4 * CHUNK];
        for chunk in values.chunks(CHUNK) {
            let bytes = &mut bytes[..4 * chunk.len()];
            bytes.as_chunks_mut().0.iter_mut().zip(chunk).for_each(|(bytes, value)| *bytes = value.to_le_bytes());
            self.0.update(bytes);
        }
    }

    pub(crate) fn rope(&mut self, rope: &Rope) {
        // The head's width stands among the network's numbers.
        let Rope { dim: _, theta, scaling } = rope;
        self.real(*theta);
        self.flag(scaling.is_some());
        if let Some(Llama3Scaling { factor, low_freq_factor, high_freq_factor, original_context }) = scaling {
            self.real(*factor);
            self.real(*low_freq_factor);
            self.real(*high_freq_factor);
            self.int(*original_context);
        }
    }
}
