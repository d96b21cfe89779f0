//! `D_base`: what a proof calls the base model.
//!
//! BLAKE3 over the byte string below. It names what the network computes with and nothing else: sharding, header
//! order, stored precision and metadata of files do not enter, a GGUF counts as its dequantised tensors.
//! Integers are unsigned, 64 bits, little-endian; a *text* is its length in bytes, then its UTF-8; a *real* is the
//! little-endian IEEE 754 binary64.
//!
//! 1. The text `ftk base model 2`. A change of this layout MUST change it.
//! 2. The architecture, a text, then the numbers of the network, as its family records them: one of those in
//!    [`crate::Network`] or one of those of graphs. Where positions are rotary, that part is: the real theta; one byte 1 if
//!    wavelengths are scaled, else 0, and in the former case the reals factor, low_freq_factor, high_freq_factor and the
//!    integer original context.
//! 3. The number of tensors, then one record for each tensor the network uses, in ascending byte order of names. A
//!    tied head has no record. No other tensor enters. A record is: the name (text), the type (text, MUST be `F32`),
//!    the rank, the dimensions outermost first, the length in bytes, the entries row-major as little-endian binary32.
//!    A matrix is `(d_out, d_in)` here, also where files hold it turned, as those of GPT-2 do, and
//!    the weight of a norm is the factor it computes with, also where files hold it less one, as those of Gemma 3 do.
//! 4. One byte 0 if the model has no tokenizer, else 1 and the 32 bytes of BLAKE3 over `tokenizer.json`; where tokens stand
//!    beside it that it lacks (`added_tokens_decoder`, `added_tokens.json`, special tokens that are only named), over that
//!    JSON with these at the end of its `added_tokens`, and with what the decoder says of those it has, written without
//!    spaces in the order of its keys.
//! 5. One byte 0 if the model has no chat template, else 1, its text, the number of special tokens that it may name, and
//!    of each its name (`bos_token`) and its text, in ascending byte order of names. Where conversations with tools have a
//!    template of their own, the byte is 2, and that template's text follows.
//! 6. The number of ids at which generation stops, then these, ascending.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use blake3::Hasher;

use crate::families::Network;
use crate::graphs;
use crate::record::DigestRecord;

/// Text at the head of the hashed bytes.
const TAG: &str = "ftk base model 2";

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

/// `D_base` in the making: the tensors a network needs are given one after another, in ascending order of names.
pub struct Digesting {
    record: DigestRecord,
    texts: Texts,
}

/// What turns text into ids, and says where an answer ends.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// BLAKE3 over `tokenizer.json`.
    pub tokenizer: Option<[u8; 32]>,
    /// The chat template, with the texts of special tokens that it may use, by their names.
    pub template: Option<(String, BTreeMap<&'static str, String>)>,
    /// The chat template of conversations with tools, where that is another one.
    pub for_tools: Option<String>,
    /// Ids at which generation stops.
    pub stop: BTreeSet<u32>,
}

impl Digesting {
    /// Of a network of tokens, with what turns text into its ids.
    pub fn new(network: &Network, texts: Texts) -> Self {
        let mut record = DigestRecord(Hasher::new());
        record.text(TAG);
        network.record(&mut record);
        record.int(network.shapes().len());
        Self { record, texts }
    }

    /// Of a network of graphs.
    pub fn of_graphs(network: &graphs::GraphNetwork) -> Self {
        let mut record = DigestRecord(Hasher::new());
        record.text(TAG);
        network.record(&mut record);
        record.int(network.shapes().len());
        Self { record, texts: Texts::default() }
    }

    /// The next tensor: its dimensions, outermost first, and its entries, row-major.
    ///
    /// # Panics
    /// If there are more or fewer entries than the dimensions say.
    pub fn tensor(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        assert_eq!(values.len(), shape.iter().product::<usize>(), "the entries of {name}");
        self.entries(name, shape);
        self.record.reals32(values);
    }

    /// The next tensor, for whoever has its entries as bytes: all of them are to go into this, row-major, as little-endian
    /// binary32.
    pub fn entries(&mut self, name: &str, shape: &[usize]) -> &mut Hasher {
        self.record.text(name);
        self.record.text("F32");
        self.record.int(shape.len());
        self.record.ints(shape.iter().copied());
        self.record.int(4 * shape.iter().product::<usize>());
        &mut self.record.0
    }

    /// The digest, after the last tensor.
    pub fn finish(self) -> BaseDigest {
        let Self { mut record, texts: Texts { tokenizer, template, for_tools, stop } } = self;
        record.flag(tokenizer.is_some());
        if let Some(digest) = tokenizer {
            record.0.update(&digest);
        }
        record.0.update(&[match (&template, &for_tools) {
            (None, _) => 0,
            (Some(_), None) => 1,
            (Some(_), Some(_)) => 2,
        }]);
        if let Some((source, special)) = template {
            record.text(&source);
            record.int(special.len());
            for (name, text) in special {
                record.text(name);
                record.text(&text);
            }
            for_tools.iter().for_each(|source| record.text(source));
        }
        record.int(stop.len());
        stop.into_iter().for_each(|id| record.int(id as usize));
        BaseDigest(record.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::families::tiny;
    use crate::ops::Llama3Scaling;
    use crate::{Gemma3, Gpt2, Llama, LlamaVariant, Phi3};

    #[test]
    fn every_number_of_the_network_enters() {
        let plain = tiny::network();
        let scaling = Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8 };
        let scaled = |change: fn(&mut Llama3Scaling)| {
            let mut network = plain.clone();
            let mut scaling = scaling.clone();
            change(&mut scaling);
            network.rope.scaling = Some(scaling);
            network
        };
        let changed = |change: fn(&mut Llama)| {
            let mut network = plain.clone();
            change(&mut network);
            network
        };
        let networks = [
            plain.clone(),
            changed(|network| network.family = LlamaVariant::Qwen2),
            changed(|network| network.family = LlamaVariant::Qwen3),
            changed(|network| network.vocab += 1),
            changed(|network| network.hidden += 1),
            changed(|network| network.intermediate += 1),
            changed(|network| network.layers -= 1),
            changed(|network| network.heads.query += 1),
            changed(|network| network.heads.key_value += 1),
            changed(|network| network.heads.dim += 1),
            changed(|network| network.context += 1),
            changed(|network| network.eps *= 2.0),
            changed(|network| network.tied = true),
            changed(|network| network.rope.theta *= 2.0),
            scaled(|_| {}),
            scaled(|scaling| scaling.factor = 9.0),
            scaled(|scaling| scaling.low_freq_factor = 2.0),
            scaled(|scaling| scaling.high_freq_factor = 5.0),
            scaled(|scaling| scaling.original_context = 9),
        ];
        distinct(networks);

        let changed = |change: fn(&mut Gpt2)| {
            let mut network = tiny::gpt2();
            change(&mut network);
            network
        };
        let networks = [
            tiny::gpt2(),
            changed(|network| network.vocab += 1),
            changed(|network| network.hidden += 2),
            changed(|network| network.intermediate += 1),
            changed(|network| network.layers -= 1),
            changed(|network| network.heads *= 2),
            changed(|network| network.context += 1),
            changed(|network| network.eps *= 2.0),
            changed(|network| network.tied = false),
        ];
        distinct(networks);

        let changed = |change: fn(&mut Gemma3)| {
            let mut network = tiny::gemma3();
            change(&mut network);
            network
        };
        let networks = [
            tiny::gemma3(),
            changed(|network| network.vocab += 1),
            changed(|network| network.hidden += 1),
            changed(|network| network.intermediate += 1),
            changed(|network| network.sees_all.push(true)),
            changed(|network| network.sees_all.reverse()),
            changed(|network| network.heads.query += 1),
            changed(|network| network.heads.key_value += 1),
            changed(|network| network.heads.dim += 1),
            changed(|network| network.rope.theta *= 2.0),
            changed(|network| network.local_rope.theta *= 2.0),
            changed(|network| network.window += 1),
            changed(|network| network.eps *= 2.0),
            changed(|network| network.tied = false),
            changed(|network| network.context += 1),
        ];
        distinct(networks);

        let changed = |change: fn(&mut Phi3)| {
            let mut network = tiny::phi3();
            change(&mut network);
            network
        };
        let networks = [
            tiny::phi3(),
            changed(|network| network.vocab += 1),
            changed(|network| network.hidden += 1),
            changed(|network| network.intermediate += 1),
            changed(|network| network.layers += 1),
            changed(|network| network.heads.query += 1),
            changed(|network| network.heads.key_value += 1),
            changed(|network| network.heads.dim += 1),
            changed(|network| network.rope.theta *= 2.0),
            changed(|network| network.window = Some(17)),
            changed(|network| network.window = None),
            changed(|network| network.eps *= 2.0),
            changed(|network| network.tied = true),
            changed(|network| network.context += 1),
        ];
        distinct(networks);
    }

    fn distinct<const N: usize>(networks: [impl Into<Network>; N]) {
        let digests: BTreeSet<_> = networks.map(|network| numbers(&network.into())).into();
        assert_eq!(digests.len(), N);
    }

    /// The digest of what stands before the tensors.
    fn numbers(network: &Network) -> [u8; 32] {
        let mut record = DigestRecord(Hasher::new());
        network.record(&mut record);
        record.0.finalize().into()
    }
}
