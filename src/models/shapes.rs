//! Which tensors a network needs, and of which shape: found by walking the network itself.

use std::collections::BTreeMap;

use ftk_adapters::ops::Tokens;
use ftk_adapters::sites::{Role, Site, Sites};

use super::Llama;

impl Llama {
    /// Every site in the order the network visits it.
    pub fn sites(&self) -> Vec<Site> {
        Sites::of(|ops| self.forward(ops, &Tokens::sequence(vec![0]), &[0]))
    }

    /// Every tensor the network uses by its Hugging Face name (`model.norm.weight`), with its shape:
    /// `(d_out, d_in)` for matrices, `(hidden)` for norms.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let tensor = |site: Site| (format!("{}.weight", site.weight), self.shape(&site));
        self.sites().into_iter().map(tensor).collect()
    }

    fn shape(&self, site: &Site) -> Vec<usize> {
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

#[cfg(test)]
mod tests {
    use super::super::tiny;

    #[test]
    fn untied_head_is_one_more_tensor() {
        let mut network = tiny::network();
        network.tied = true;
        let tied = network.shapes();
        assert_eq!(tied.len(), 2 + 9 * network.layers);
        assert_eq!(tied["model.layers.1.self_attn.k_proj.weight"], [4, 8]);
        assert_eq!(tied["model.layers.0.mlp.down_proj.weight"], [8, 12]);
        network.tied = false;
        assert_eq!(network.shapes()["lm_head.weight"], [network.vocab, network.hidden]);
    }
}
