//! The GPT-2 decoder, written once over [`Ops`]: pre-norm blocks of multi-head attention with learned positions and an
//! MLP with GELU, LayerNorm and biases everywhere (Radford et al. 2019).
//!
//! Files hold its matrices as transformers' `Conv1D` does, `(d_in, d_out)`; they are turned when they are read and
//! turned back when they are written, so that inside ftk every matrix is `(d_out, d_in)`.

use crate::ops::{Bias, Heads, Ops, Tokens};
use crate::sites::{Role, Site};

/// The numbers of a GPT-2 network that its forward pass depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Gpt2 {
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width of the residual stream; a multiple of `heads`.
    pub hidden: usize,
    /// Width of the MLP.
    pub intermediate: usize,
    /// Decoder blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Added to the variance in every norm.
    pub eps: f64,
    /// Whether the head uses the embedding table.
    pub tied: bool,
    /// Rows of the table of positions.
    pub context: usize,
}

impl Gpt2 {
    pub(super) fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error> {
        let x = ops.embed("transformer.wte", tokens)?;
        ops.add_positions("transformer.wpe", &x)
    }

    pub(super) fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error> {
        let at = format!("transformer.h.{index}");
        let h = ops.layer_norm(&format!("{at}.ln_1"), x, self.eps)?;
        let fused = ops.linear(&format!("{at}.attn.c_attn"), Bias::Present, &h)?;
        let (q, k, v) = (ops.part(&fused, 0, 3)?, ops.part(&fused, 1, 3)?, ops.part(&fused, 2, 3)?);
        let heads = Heads { query: self.heads, key_value: self.heads, dim: self.hidden / self.heads };
        let h = ops.attention(&format!("{at}.attn"), &q, &k, &v, heads)?;
        let h = ops.linear(&format!("{at}.attn.c_proj"), Bias::Present, &h)?;
        let x = ops.add(x, &h)?;

        let h = ops.layer_norm(&format!("{at}.ln_2"), &x, self.eps)?;
        let h = ops.linear(&format!("{at}.mlp.c_fc"), Bias::Present, &h)?;
        let h = ops.gelu(&h)?;
        let h = ops.linear(&format!("{at}.mlp.c_proj"), Bias::Present, &h)?;
        ops.add(&x, &h)
    }

    pub(super) fn head<O: Ops>(&self, ops: &mut O, x: &O::Value, rows: &[usize]) -> Result<O::Value, O::Error> {
        let x = ops.select(x, rows)?;
        let x = ops.layer_norm("transformer.ln_f", &x, self.eps)?;
        ops.head("lm_head", if self.tied { "transformer.wte" } else { "lm_head" }, &x)
    }

    /// Shape of the weight of one of this network's sites.
    pub(super) fn shape(&self, site: &Site) -> Vec<usize> {
        match site.role {
            Role::Embedding | Role::Head => vec![self.vocab, self.hidden],
            Role::Positions => vec![self.context, self.hidden],
            Role::Norm => vec![self.hidden],
            Role::Neighbours => unreachable!("GPT-2 is no network of graphs"),
            Role::Linear if site.name.ends_with(".attn.c_attn") => vec![3 * self.hidden, self.hidden],
            Role::Linear if site.name.ends_with(".attn.c_proj") => vec![self.hidden, self.hidden],
            Role::Linear if site.name.ends_with(".mlp.c_fc") => vec![self.intermediate, self.hidden],
            Role::Linear => vec![self.hidden, self.intermediate],
        }
    }

    /// Whether files hold this tensor as `(d_in, d_out)`.
    pub(super) fn stored_transposed(name: &str) -> bool {
        [".c_attn.weight", ".c_proj.weight", ".c_fc.weight"].iter().any(|end| name.ends_with(end))
    }
}
