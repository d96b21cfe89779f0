//! The Llama decoder, written once over [`Ops`]: pre-norm blocks of grouped-query attention with
//! rotary positions and a SwiGLU MLP (Touvron et al. 2023; Llama 3 scaling of the wavelengths).

use ftk_adapters::ops::{Heads, Ops, Rope, Tokens};
use ftk_adapters::sites::{Role, Site};

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
    pub(super) fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error> {
        ops.embed("model.embed_tokens", tokens)
    }

    pub(super) fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error> {
        let at = format!("model.layers.{index}");
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

    pub(super) fn head<O: Ops>(&self, ops: &mut O, x: &O::Value, rows: &[usize]) -> Result<O::Value, O::Error> {
        let x = ops.select(x, rows)?;
        let x = ops.rms_norm("model.norm", &x, self.eps)?;
        ops.head("lm_head", if self.tied { "model.embed_tokens" } else { "lm_head" }, &x)
    }

    /// Shape of the weight of one of this network's sites.
    pub(super) fn shape(&self, site: &Site) -> Vec<usize> {
        let queries = self.heads.query * self.heads.dim;
        let keys = self.heads.key_value * self.heads.dim;
        match site.role {
            Role::Embedding | Role::Head => vec![self.vocab, self.hidden],
            Role::Norm => vec![self.hidden],
            Role::Linear => match site.name.rsplit('.').next() {
                Some("q_proj") => vec![queries, self.hidden],
                Some("k_proj" | "v_proj") => vec![keys, self.hidden],
                Some("o_proj") => vec![self.hidden, queries],
                Some("gate_proj" | "up_proj") => vec![self.intermediate, self.hidden],
                Some("down_proj") => vec![self.hidden, self.intermediate],
                _ => unreachable!("the Llama network has no other linear site"),
            },
        }
    }
}
