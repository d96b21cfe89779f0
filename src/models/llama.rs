//! The Llama decoder, written once over [`Ops`]: pre-norm blocks of grouped-query attention with
//! rotary positions and a SwiGLU MLP (Touvron et al. 2023; Llama 3 scaling of the wavelengths).

use ftk_adapters::ops::{Heads, Ops, Rope, Tokens};

/// The numbers of a Llama network that its forward pass depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Rotary embedding.
    pub rope: Rope,
    /// Added to the mean square in every norm.
    pub eps: f64,
    /// Whether the head uses the embedding table.
    pub tied: bool,
    /// Positions the model was made for.
    pub context: usize,
}

impl Llama {
    /// Logits `(1, rows.len(), vocab)` at the given rows of `(batch * seq)`.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn forward<O: Ops>(&self, ops: &mut O, tokens: &Tokens, rows: &[usize]) -> Result<O::Value, O::Error> {
        let mut x = ops.embed("model.embed_tokens", tokens)?;
        for layer in 0..self.layers {
            x = self.block(ops, &format!("model.layers.{layer}"), &x)?;
        }
        let x = ops.select(&x, rows)?;
        let x = ops.rms_norm("model.norm", &x, self.eps)?;
        ops.head("lm_head", if self.tied { "model.embed_tokens" } else { "lm_head" }, &x)
    }

    fn block<O: Ops>(&self, ops: &mut O, at: &str, x: &O::Value) -> Result<O::Value, O::Error> {
        let h = ops.rms_norm(&format!("{at}.input_layernorm"), x, self.eps)?;
        let q = ops.linear_rope(&format!("{at}.self_attn.q_proj"), &h, &self.rope)?;
        let k = ops.linear_rope(&format!("{at}.self_attn.k_proj"), &h, &self.rope)?;
        let v = ops.linear(&format!("{at}.self_attn.v_proj"), &h)?;
        let h = ops.attention(&format!("{at}.self_attn"), &q, &k, &v, self.heads)?;
        let h = ops.linear(&format!("{at}.self_attn.o_proj"), &h)?;
        let x = ops.add(x, &h)?;

        let h = ops.rms_norm(&format!("{at}.post_attention_layernorm"), &x, self.eps)?;
        let gate = ops.linear(&format!("{at}.mlp.gate_proj"), &h)?;
        let up = ops.linear(&format!("{at}.mlp.up_proj"), &h)?;
        let h = ops.swiglu(&gate, &up)?;
        let h = ops.linear(&format!("{at}.mlp.down_proj"), &h)?;
        ops.add(&x, &h)
    }
}
