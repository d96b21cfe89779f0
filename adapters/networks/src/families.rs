//! The networks of tokens, one file a family: forward pass, `config.json` in and out, names in GGUF files, fields of
//! `D_base` and how files hold its tensors stand there side by side. This is the one registry of them: a family is a file
//! in `families/` and a line here.

mod gemma3;
mod gpt2;
mod llama;
mod phi3;
pub mod tiny;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

pub use self::gemma3::Gemma3;
pub use self::gpt2::Gpt2;
pub use self::llama::{Llama, LlamaVariant};
pub use self::phi3::Phi3;
use crate::config::{ConfigError, ConfigObject, GgufMetadata};
use crate::decoder::{Decoder, IN_GGUF, Stored};
use crate::ops::{Ops, Tokens};
use crate::record::DigestRecord;
use crate::sites::{self, Role, Site, Sites};

/// Makes [`Network`] of the families. `$` comes in as a token, for the macro that this one defines.
macro_rules! families {
    ($dollar:tt $($(#[$doc:meta])* $family:ident),+ $(,)?) => {
        /// A decoder of one of the families.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Network {
            $($(#[$doc])* $family($family)),+
        }

        $(impl From<$family> for Network {
            fn from(network: $family) -> Self {
                Self::$family(network)
            }
        })+

        /// One expression for the network of any family; `F` is its type.
        macro_rules! of_family {
            ($dollar network:expr, $dollar name:ident => $dollar value:expr) => {
                match $dollar network {
                    $(Network::$family($dollar name) => {
                        #[allow(dead_code, reason = "not every expression names the type")]
                        type F = $family;
                        $dollar value
                    }),+
                }
            };
        }

        /// Names of the architectures ftk has a network for, as `model_type` writes them.
        const NAMES: &[&[&str]] = &[$($family::NAMES),+];

        /// The network of a family that has this `model_type`.
        fn read(config: &ConfigObject<'_>, model_type: &str) -> Option<Result<Network, ConfigError>> {
            $(if $family::NAMES.contains(&model_type) {
                return Some($family::read(config, model_type).map(Network::$family));
            })+
            None
        }

        /// The network of a family that GGUF files call so.
        fn read_gguf(file: &GgufMetadata<'_>, architecture: &str) -> Option<Result<Network, ConfigError>> {
            $(if $family::IN_GGUF.contains(&architecture) {
                return Some($family::read_gguf(file, architecture).map(Network::$family));
            })+
            None
        }
    };
}

families! { $
    /// The Llama family.
    Llama,
    /// GPT-2.
    Gpt2,
    /// Gemma 3, without images.
    Gemma3,
    /// Phi-3.
    Phi3,
}

impl Network {
    /// Names of the architectures there is a network for, as `model_type` writes them.
    pub fn names() -> Vec<&'static str> {
        NAMES.concat()
    }

    /// The network of a parsed `config.json`; `path` is named in errors.
    ///
    /// # Errors
    /// Other architectures, options the network does not have, impossible numbers.
    pub fn read(path: &Path, json: &Value) -> Result<Self, ConfigError> {
        let config = ConfigObject::new(path, json)?;
        let model_type = config.text("model_type")?;
        let model_type = config.required("model_type", model_type)?;
        if let Some(quantization) = config.object("quantization_config", "quantization_config.")? {
            let method = quantization.text("quant_method")?.unwrap_or("unnamed");
            return Err(config.error("quantization_config", format!("quantised weights are not supported: {method}")));
        }
        let unknown = || Err(ConfigError::Architecture { path: path.to_owned(), found: model_type.to_owned() });
        read(&config, model_type).unwrap_or_else(unknown)
    }

    /// The network that a GGUF file describes.
    ///
    /// # Errors
    /// As [`Network::read`].
    pub fn read_gguf(file: &GgufMetadata<'_>) -> Result<Self, ConfigError> {
        let architecture = file.metadata.text(IN_GGUF)?;
        let architecture = file.metadata.required(IN_GGUF, architecture)?;
        file.refuse_odd(architecture)?;
        read_gguf(file, architecture).unwrap_or_else(|| {
            if Self::names().contains(&architecture) {
                let reason = format!("read from Hugging Face folders only, not from GGUF files: {architecture}");
                return Err(file.metadata.error(IN_GGUF, reason));
            }
            let path = file.metadata.path().to_owned();
            Err(ConfigError::Architecture { path, found: architecture.to_owned() })
        })
    }

    /// `config.json` in the dialect of transformers 4, which transformers 5 reads too, without special tokens and
    /// number format.
    pub fn write(&self) -> Value {
        of_family!(self, network => network.write())
    }

    /// The family, by the name that configurations call it (`model_type`).
    pub fn family(&self) -> &'static str {
        of_family!(self, network => network.name())
    }

    /// The same network with a head of its own, where the embedding table was its head.
    #[must_use]
    pub fn untied(mut self) -> Self {
        *of_family!(&mut self, network => network.tied()) = false;
        self
    }

    /// Rows of the embedding table.
    pub fn vocab(&self) -> usize {
        of_family!(self, network => network.vocab())
    }

    /// Positions the network was made for, and can see.
    pub fn context(&self) -> usize {
        let made_for = of_family!(self, network => network.context());
        self.most_positions().map_or(made_for, |most| most.min(made_for))
    }

    /// Positions the network cannot go beyond, because it has a row for each or because attention would no longer see
    /// all of them; `None` if it can.
    pub fn most_positions(&self) -> Option<usize> {
        of_family!(self, network => network.most_positions())
    }

    /// Whether files hold its linear weights as `(d_in, d_out)`, which PEFT calls `fan_in_fan_out`.
    pub fn fan_in_fan_out(&self) -> bool {
        of_family!(self, _network => F::FAN_IN_FAN_OUT)
    }

    /// How files hold the tensor of this name.
    pub fn stored(&self, name: &str) -> Stored {
        of_family!(self, _network => F::stored(name))
    }

    /// The name in the whole network of a tensor that a file holds by that name or by a shorter one.
    pub fn full_name(&self, name: String) -> String {
        of_family!(self, _network => F::full_name(name))
    }

    /// llama.cpp's name of a tensor; `None` of a tensor that the network does not have.
    pub fn name_in_gguf(&self, tensor: &str) -> Option<String> {
        let (module, kind) = tensor.rsplit_once('.')?;
        let (block, module) = match module.split_once(".layers.").and_then(|(_, rest)| rest.split_once('.')) {
            Some((layer, module)) => (format!("blk.{layer}."), module),
            None => (String::new(), module),
        };
        let module = of_family!(self, network => network.module_in_gguf(module))?;
        Some(format!("{block}{module}.{kind}"))
    }

    /// What llama.cpp's files call such a network (`general.architecture`); `None` if they hold none.
    pub fn name_of_gguf(&self) -> Option<&'static str> {
        of_family!(self, network => {
            F::IN_GGUF.iter().copied().find(|architecture| network.name().starts_with(architecture))
        })
    }

    /// Shapes `(d_out, d_in)` of what an adapter may stand beside, by the names of the sites: linear layers and the head.
    pub fn shapes_of_sites(&self) -> Vec<(String, [usize; 2])> {
        let shapes = self.shapes();
        let sites = self.sites().into_iter().filter(|site| matches!(site.role, Role::Linear | Role::Head));
        let shape = |site: Site| {
            let &[d_out, d_in] = shapes.get(&format!("{}.weight", site.weight))?.as_slice() else { return None };
            Some((site.name, [d_out, d_in]))
        };
        sites.filter_map(shape).collect()
    }

    /// Heads of whose rows llama.cpp's files interleave the halves in the tensor of this name.
    pub fn interleaved(&self, tensor: &str) -> Option<usize> {
        let module = tensor.rsplit('.').nth(1)?;
        of_family!(self, network => network.interleaved(module))
    }

    /// Takes the numbers that a GGUF file divides rotary frequencies by, one a pair of features.
    ///
    /// # Errors
    /// Why no network has them.
    pub fn divide_frequencies(&mut self, divisors: &[f32]) -> Result<(), String> {
        of_family!(self, network => network.divide_frequencies(divisors))
    }

    pub(crate) fn record(&self, record: &mut DigestRecord) {
        of_family!(self, network => network.record(record));
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        of_family!(self, network => network.blocks())
    }

    /// What the first block takes, `(tokens, hidden)`.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn embed<O: Ops>(&self, ops: &mut O, tokens: &Tokens) -> Result<O::Value, O::Error> {
        of_family!(self, network => network.embed(ops, tokens))
    }

    /// Block `index`, from 0: `(tokens, hidden)` to the same shape.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn block<O: Ops>(&self, ops: &mut O, index: usize, x: &O::Value) -> Result<O::Value, O::Error> {
        of_family!(self, network => network.block(ops, index, x))
    }

    /// Logits `(rows.len(), vocab)` at the given rows of what the last block gave.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn head<O: Ops>(&self, ops: &mut O, x: &O::Value, rows: &[usize]) -> Result<O::Value, O::Error> {
        of_family!(self, network => network.head(ops, x, rows))
    }

    /// The whole network: logits `(rows.len(), vocab)` at the given rows.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn forward<O: Ops>(&self, ops: &mut O, tokens: &Tokens, rows: &[usize]) -> Result<O::Value, O::Error> {
        let mut x = self.embed(ops, tokens)?;
        for index in 0..self.blocks() {
            x = self.block(ops, index, &x)?;
        }
        self.head(ops, &x, rows)
    }

    /// Every site in the order the network visits it.
    pub fn sites(&self) -> Vec<Site> {
        Sites::of(|ops| self.forward(ops, &Tokens::sequence(vec![0]), &[0]))
    }

    /// Every tensor the network uses by its Hugging Face name (`model.norm.weight`), with its shape:
    /// `(d_out, d_in)` for matrices, `(features)` for norms and biases.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        sites::shapes(&self.sites())
    }

    /// The first of these tensors that stands beside those of the network as if it belonged to it, and that the network does
    /// not compute with: a bias, a scale or a norm in one of its blocks, blocks behind its last. With it the model is another
    /// one. What stands elsewhere, such as a tower for images, is none of its business.
    pub fn unused_tensor<'a>(&self, mut names: impl Iterator<Item = &'a String>) -> Option<&'a String> {
        let needed = self.shapes();
        let module = |name: &str| name.rsplit_once('.').map(|(module, _)| module.to_owned());
        let modules: BTreeSet<String> = needed.keys().filter_map(|name| module(name)).collect();
        let blocks = needed.keys().find_map(|name| Some(format!("{}.", name.split_once(".0.")?.0)));
        let own = |name: &str| {
            blocks.as_ref().is_some_and(|blocks| name.starts_with(blocks.as_str()))
                || module(name).is_some_and(|module| modules.contains(&module))
        };
        let computed = |name: &str| COMPUTED.iter().any(|end| name.ends_with(end));
        names.find(|name| !needed.contains_key(*name) && own(name) && !computed(name))
    }

    /// Of a network whose head is the embedding table: what a head of its own would be called, and the table.
    pub fn tied_head(&self) -> Option<[String; 2]> {
        let site = self.sites().into_iter().find(|site| site.role == Role::Head && site.weight != site.name)?;
        Some([site.name, site.weight].map(|module| format!("{module}.weight")))
    }
}

/// What older files keep in a block that is computed: wavelengths, and GPT-2's masks.
const COMPUTED: [&str; 3] = [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_architectures_are_refused_by_name() {
        let mut config = tiny::config();
        config["model_type"] = json!("mixtral");
        let error = Network::read(Path::new("config.json"), &config).unwrap_err();
        assert_eq!(error.to_string(), "config.json: architecture not supported: mixtral");
        config["model_type"] = json!("llama");
        config["quantization_config"] = json!({"quant_method": "gptq"});
        let error = Network::read(Path::new("config.json"), &config).unwrap_err();
        let expected = "config.json: quantization_config: quantised weights are not supported: gptq";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn every_supported_name_has_one_network() {
        for name in Network::names() {
            let error = Network::read(Path::new("config.json"), &json!({ "model_type": name })).unwrap_err();
            assert!(matches!(error, ConfigError::Key { .. }), "{name}: {error}");
            assert_eq!(Network::names().iter().filter(|other| **other == name).count(), 1, "{name}");
        }
    }

    #[test]
    fn untied_head_is_one_more_tensor() {
        let mut network = tiny::network();
        network.tied = true;
        let tied = Network::from(network.clone()).shapes();
        assert_eq!(tied.len(), 2 + 9 * network.layers);
        assert_eq!(tied["model.layers.1.self_attn.k_proj.weight"], [4, 8]);
        assert_eq!(tied["model.layers.0.mlp.down_proj.weight"], [8, 12]);
        assert_eq!(Network::from(network.clone()).untied().shapes()["lm_head.weight"], [network.vocab, network.hidden]);
    }

    #[test]
    fn what_is_written_reads_back() {
        for network in tiny::all() {
            assert_eq!(Network::read(Path::new("config.json"), &network.write()).unwrap(), network);
        }
    }

    #[test]
    fn files_name_every_tensor_differently() {
        for network in tiny::all() {
            let shapes = network.shapes();
            let names: std::collections::BTreeSet<_> =
                shapes.keys().filter_map(|name| network.name_in_gguf(name)).collect();
            assert!(names.is_empty() || names.len() == shapes.len(), "{}", network.family());
        }
    }
}
