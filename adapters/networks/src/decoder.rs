//! What a family of decoders has to say of itself. Nothing here is about one family.

use serde_json::Value;

use crate::config::{ConfigError, ConfigObject, GgufMetadata};
use crate::ops::{Ops, Tokens};
use crate::record::DigestRecord;

/// Where a GGUF file names its architecture.
pub(crate) const IN_GGUF: &str = "general.architecture";

/// How files hold a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As the network takes it.
    Plain,
    /// A matrix as `(d_in, d_out)`.
    Transposed,
    /// Every entry less one, as the weights of norms whose factor is `1 + w`. The network takes `1 + w` in f32, which is
    /// what such a norm computes with, whatever the number format of the file.
    LessOne,
}

/// llama.cpp's names of the modules that most decoders have.
pub(crate) fn usual_in_gguf(module: &str) -> Option<&'static str> {
    Some(match module {
        "model.embed_tokens" => "token_embd",
        "model.norm" => "output_norm",
        "lm_head" => "output",
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    })
}

/// What a family says of its decoders: an embedding, blocks that follow each other, a head, and everything that
/// depends on which family it is. The parts of the forward pass are three, so that an interpretation may keep or forget
/// what lies between two blocks.
pub(crate) trait Decoder: Sized {
    /// What configurations call its members (`model_type`).
    const NAMES: &'static [&'static str];
    /// What GGUF files call its members (`general.architecture`); none if it is read from folders only.
    const IN_GGUF: &'static [&'static str] = &[];
    /// Whether files hold its linear weights as `(d_in, d_out)`, which PEFT calls `fan_in_fan_out`.
    const FAN_IN_FAN_OUT: bool = false;

    /// Reads `config.json`, whose `model_type` is one of [`Decoder::NAMES`].
    fn read(config: &ConfigObject<'_>, model_type: &str) -> Result<Self, ConfigError>;
    /// `config.json` in the dialect of transformers 4, without what every family has alike.
    fn write(&self) -> Value;
    /// Reads the metadata of a GGUF file, whose architecture is one of [`Decoder::IN_GGUF`].
    fn read_gguf(file: &GgufMetadata<'_>, architecture: &str) -> Result<Self, ConfigError> {
        let reason = format!("read from Hugging Face folders only, not from GGUF files: {architecture}");
        Err(file.metadata.error(IN_GGUF, reason))
    }
    /// llama.cpp's name of a module inside block `blk.N`, or of a module outside of blocks; without `.weight`.
    fn module_in_gguf(&self, module: &str) -> Option<&'static str> {
        let _ = module;
        None
    }
    /// Heads of whose rows llama.cpp's converter interleaves the halves in the weight of this module.
    fn interleaved(&self, module: &str) -> Option<usize> {
        let _ = module;
        None
    }
    /// Takes the numbers that rotary frequencies are divided by, one a pair; says why not if it cannot.
    fn divide_frequencies(&mut self, divisors: &[f32]) -> Result<(), String> {
        let _ = divisors;
        Err("this network has none".to_owned())
    }

    /// The member of the family, by its name in configurations.
    fn name(&self) -> &'static str;
    /// Rows of the embedding table.
    fn vocab(&self) -> usize;
    /// Positions the network was made for.
    fn context(&self) -> usize;
    /// Positions it cannot go beyond; `None` if it can.
    fn most_positions(&self) -> Option<usize> {
        None
    }
    /// Number of blocks.
    fn blocks(&self) -> usize;
    /// Whether the head uses the embedding table.
    fn tied(&mut self) -> &mut bool;
    /// What `D_base` holds of it: its name first, then its numbers (`D_base`, in the module `digest`).
    fn record(&self, record: &mut DigestRecord);
    /// How files hold the tensor of this name.
    fn stored(name: &str) -> Stored {
        let _ = name;
        Stored::Plain
    }
    /// The name in the whole network of a tensor that a file may hold by a shorter one.
    fn full_name(name: String) -> String {
        name
    }

    /// What the first block takes, `(tokens, hidden)`.
    fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error>;
    /// Block `index`, from 0.
    fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error>;
    /// Logits at the given rows of what the last block gave.
    fn head<O: Ops>(&self, ops: &mut O, x: &O::Value, rows: &[usize]) -> Result<O::Value, O::Error>;
}
