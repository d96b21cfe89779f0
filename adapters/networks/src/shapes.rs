//! Which tensors a network needs, and of which shape: found by walking the network itself.

use std::collections::BTreeMap;

use crate::ops::Tokens;
use crate::sites::{Site, Sites};

use super::Network;

impl Network {
    /// Every site in the order the network visits it.
    pub fn sites(&self) -> Vec<Site> {
        Sites::of(|ops| self.forward(ops, &Tokens::sequence(vec![0]), &[0]))
    }

    /// Every tensor the network uses by its Hugging Face name (`model.norm.weight`), with its shape:
    /// `(d_out, d_in)` for matrices, `(features)` for norms and biases.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let tensors = |site: Site| {
            let weight = match self {
                Self::Llama(network) => network.shape(&site),
                Self::Gpt2(network) => network.shape(&site),
            };
            let bias = site.bias.then(|| (format!("{}.bias", site.name), vec![weight[0]]));
            std::iter::once((format!("{}.weight", site.weight), weight)).chain(bias)
        };
        self.sites().into_iter().flat_map(tensors).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::{Heads, Rope};
    use crate::{Family, Llama, Network};

    #[test]
    fn untied_head_is_one_more_tensor() {
        let mut network = Llama {
            family: Family::Llama,
            vocab: 16,
            hidden: 8,
            intermediate: 12,
            layers: 2,
            heads: Heads { query: 2, key_value: 1, dim: 4 },
            rope: Rope { dim: 4, theta: 10_000.0, scaling: None },
            eps: 1e-5,
            tied: true,
            context: 32,
        };
        let tied = Network::from(network.clone()).shapes();
        assert_eq!(tied.len(), 2 + 9 * network.layers);
        assert_eq!(tied["model.layers.1.self_attn.k_proj.weight"], [4, 8]);
        assert_eq!(tied["model.layers.0.mlp.down_proj.weight"], [8, 12]);
        network.tied = false;
        assert_eq!(Network::from(network.clone()).shapes()["lm_head.weight"], [network.vocab, network.hidden]);
    }
}
