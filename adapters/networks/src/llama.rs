//! The decoder of the Llama family, written once over [`Ops`]: pre-norm blocks of grouped-query attention with
//! rotary positions and a SwiGLU MLP (Touvron et al. 2023; Llama 3 scaling of the wavelengths). Its members differ in
//! how queries and keys are made ([`Family`]).

use crate::ops::{Bias, Heads, Ops, Rope, Tokens};
use crate::sites::{Role, Site};

/// What sets members of the family apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Llama, and Mistral without a sliding window: neither biases nor norms.
    Llama,
    /// Qwen 2 and 2.5: biases on queries, keys and values.
    Qwen2,
    /// Qwen 3: each head's queries and keys are normalised before they are rotated.
    Qwen3,
}

impl Family {
    /// The name transformers knows the family by (`model_type`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// The numbers of a network of the Llama family that its forward pass depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    /// Which member of the family.
    pub family: Family,
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
        let (q, k) = (self.rotated(ops, &at, "q", &h)?, self.rotated(ops, &at, "k", &h)?);
        let v = ops.linear(&format!("{at}.self_attn.v_proj"), self.bias(), &h)?;
        let h = ops.attention(&format!("{at}.self_attn"), &q, &k, &v, self.heads)?;
        let h = ops.linear(&format!("{at}.self_attn.o_proj"), Bias::Absent, &h)?;
        let x = ops.add(x, &h)?;

        let h = ops.rms_norm(&format!("{at}.post_attention_layernorm"), &x, self.eps)?;
        let gate = ops.linear(&format!("{at}.mlp.gate_proj"), Bias::Absent, &h)?;
        let up = ops.linear(&format!("{at}.mlp.up_proj"), Bias::Absent, &h)?;
        let h = ops.swiglu(&gate, &up)?;
        let h = ops.linear(&format!("{at}.mlp.down_proj"), Bias::Absent, &h)?;
        ops.add(&x, &h)
    }

    /// Queries (`q`) or keys (`k`) of a block, rotated.
    fn rotated<O: Ops>(&self, ops: &mut O, at: &str, which: &str, h: &O::Value) -> Result<O::Value, O::Error> {
        let site = format!("{at}.self_attn.{which}_proj");
        match self.family {
            Family::Llama | Family::Qwen2 => ops.linear_rope(&site, self.bias(), h, &self.rope),
            Family::Qwen3 => {
                let x = ops.linear(&site, self.bias(), h)?;
                ops.norm_rope(&format!("{at}.self_attn.{which}_norm"), &x, self.eps, &self.rope)
            }
        }
    }

    /// Whether queries, keys and values have biases.
    fn bias(&self) -> Bias {
        match self.family {
            Family::Llama | Family::Qwen3 => Bias::Absent,
            Family::Qwen2 => Bias::Present,
        }
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
            Role::Positions | Role::Neighbours => unreachable!("the Llama family has neither positions nor graphs"),
            Role::Linear | Role::Norm => match site.name.rsplit('.').next() {
                Some("q_norm" | "k_norm") => vec![self.heads.dim],
                Some("q_proj") => vec![queries, self.hidden],
                Some("k_proj" | "v_proj") => vec![keys, self.hidden],
                Some("o_proj") => vec![self.hidden, queries],
                Some("gate_proj" | "up_proj") => vec![self.intermediate, self.hidden],
                Some("down_proj") => vec![self.hidden, self.intermediate],
                _ => vec![self.hidden],
            },
        }
    }
}
