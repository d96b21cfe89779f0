//! A network of graphs with what of it is trained: its own weights, or an adapter and perhaps its head.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use candle_core::{Device, Tensor};
use ftk_adapters::lora::{Adapter, Factors};
use ftk_adapters::peft::{self, Saved};
use ftk_adapters::train::{Gradients, Learns, LoraTensors, Train, initial_factors, pulled};
use ftk_adapters::weights::Weights;
use ftk_bases::graphs;
use ftk_networks::graphs::{End, GraphNetwork, Prepare, convolution};

use super::error::GraphError;
use super::initial;
use super::settings::{FRESH, Gnn};
use ftk_recipes::Recipe;

/// Folder inside the run folder for a base that was trained.
pub const BASE: &str = "base";

/// A network with weights and adapter.
#[derive(Debug)]
pub struct GraphModel {
    /// The network.
    pub network: GraphNetwork,
    /// Its weights; variables where they are trained.
    pub weights: Weights,
    /// The adapter, trained or frozen.
    pub adapter: Option<LoraTensors>,
    /// Names of weights that are trained beside the adapter.
    learnt: BTreeSet<String>,
    /// Dropped in training: share of entries, of neighbours.
    dropout: [f64; 2],
    /// Weight of half the squared norm, and the weights it is of.
    l2: (f64, Vec<String>),
    seed: u64,
}

impl GraphModel {
    /// Opens what a recipe trains, for features of this width and an end of this kind.
    ///
    /// # Errors
    /// A base that cannot be read or is for other features or outputs; a choice of sites that it does not have.
    pub fn open(recipe: &Recipe, gnn: &Gnn, inputs: usize, end: End) -> Result<Self, GraphError> {
        let (device, seed) = (Device::Cpu, recipe.run.seed);
        let (network, weights) = if recipe.base.model.as_os_str() == FRESH {
            let shape = [inputs, gnn.hidden, gnn.layers, gnn.heads];
            let fresh = GraphNetwork::new(gnn.network, shape, gnn.head, 0);
            let (prepare, messages) = (Self::prepare(recipe, gnn)?, gnn.messages);
            let network = GraphNetwork { head: end, prepare, messages, ..fresh };
            let weights = initial::fresh(&network, seed, &device)?;
            (network, weights)
        } else {
            let (mut network, mut weights) = graphs::load(&recipe.base.model, &device)?;
            if network.inputs != inputs {
                let message = format!("the base takes {} features, the graph has {inputs}", network.inputs);
                return Err(GraphError::unfit(message, "train the base with gnn.project, which fits all graphs"));
            }
            if network.head != end {
                let bare = matches!(network.head, End::Linear(_) | End::Encoder);
                let new_head = bare && matches!(end, End::Linear(_) | End::Comparer(_));
                if !new_head || !(gnn.train_head || recipe.lora.is_none()) {
                    let message = format!("the base ends in {:?}, this task in {end:?}", network.head);
                    let hint = "a base with gnn.head = \"linear\" gets another head with gnn.train_head = true";
                    return Err(GraphError::unfit(message, hint));
                }
                network.head = end;
                let fresh = initial::fresh(&network, seed, &device)?;
                for name in network.head_weights() {
                    weights.insert(name.clone(), fresh.get(&name)?);
                }
            }
            (network, weights)
        };
        let layers = gnn.l2_layers.unwrap_or(usize::MAX);
        let regular = |name: &String| convolution(name).map_or(layers == usize::MAX, |layer| layer <= layers);
        let l2 = (gnn.l2, network.shapes().into_keys().filter(regular).collect());
        let mut model = Self {
            network,
            weights,
            adapter: None,
            learnt: BTreeSet::new(),
            dropout: [gnn.dropout, gnn.attention_dropout],
            l2,
            seed,
        };
        match &recipe.lora {
            None => model.weights = initial::with_variables(&model.weights, |_| true)?,
            Some(lora) => {
                let begin = match &lora.start {
                    Some(folder) => model.attach(folder)?,
                    None => {
                        // What is trained in full needs no adapter.
                        let whole = |name: &str| gnn.train_head && name.starts_with("scorer.");
                        let sites: Vec<_> =
                            model.network.adaptable().into_iter().filter(|site| !whole(&site.name)).collect();
                        let sizes = lora.choose(&sites);
                        let sizes = sizes.map_err(|error| {
                            GraphError::unfit(error.message, "choose lora.targets = \"all-linear\"")
                        })?;
                        let shapes = model.network.shapes();
                        let factors = |(site, size): (String, ftk_recipes::Size)| -> (String, Factors) {
                            let shape = &shapes[&format!("{site}.weight")];
                            let shape = (shape[0], shape[1]);
                            let factors = initial_factors(&site, size.rank, shape, size.scale as f32, seed);
                            (site, factors)
                        };
                        Adapter { sites: sizes.into_iter().map(factors).collect() }
                    }
                };
                model.adapter = Some(LoraTensors::trained(&begin, &device)?);
                if gnn.train_head {
                    model.learnt = model.network.head_weights().into_iter().collect();
                    model.weights = initial::with_variables(&model.weights, |name| model.learnt.contains(name))?;
                }
            }
        }
        Ok(model)
    }

    /// How the features of a graph are prepared for what a recipe trains: a base knows it of itself.
    ///
    /// # Errors
    /// A base whose configuration cannot be read.
    pub fn prepare(recipe: &Recipe, gnn: &Gnn) -> Result<Prepare, GraphError> {
        let fresh = Prepare { normalise: gnn.normalise, project: gnn.project };
        Ok(Self::known(recipe)?.map_or(fresh, |network| network.prepare))
    }

    /// The network of a recipe's base, unless it is a fresh one.
    ///
    /// # Errors
    /// As [`GraphModel::prepare`].
    pub fn known(recipe: &Recipe) -> Result<Option<GraphNetwork>, GraphError> {
        let model = &recipe.base.model;
        if model.as_os_str() == FRESH { Ok(None) } else { Ok(Some(graphs::network(model)?)) }
    }

    /// A model that is applied and not trained, with the adapter in a folder if one is given.
    ///
    /// # Errors
    /// Files that cannot be read or do not fit each other.
    pub fn frozen(base: &Path, adapter: Option<&Path>) -> Result<Self, GraphError> {
        let (network, weights) = graphs::load(base, &Device::Cpu)?;
        let (learnt, l2) = (BTreeSet::new(), (0.0, Vec::new()));
        let mut model = Self { network, weights, adapter: None, learnt, dropout: [0.0; 2], l2, seed: 0 };
        if let Some(folder) = adapter {
            let adapter = model.attach(folder)?;
            model.adapter = Some(LoraTensors::frozen(&adapter, &Device::Cpu)?);
        }
        Ok(model)
    }

    /// Leaves nothing trained but its head.
    pub fn train_head_alone(&mut self) {
        self.adapter = Some(LoraTensors::default());
    }

    /// Reads an adapter that fits, and takes over the head that was trained with it.
    fn attach(&mut self, folder: &Path) -> Result<Adapter, GraphError> {
        let (adapter, saved) = peft::load_with_saved(folder)?;
        let wrong = |name: &str| {
            let message = format!("{}: does not fit the base: {name}", folder.display());
            GraphError::unfit(message, "give the base this adapter was trained on")
        };
        if let Some((shape, _)) = saved.get("head.weight") {
            // Another head than the base's has as many outputs as it was trained with.
            if let (End::Linear(_) | End::Encoder, Some(&outputs)) = (self.network.head, shape.first()) {
                self.network.head = End::Linear(outputs);
            }
        }
        let shapes = self.network.shapes();
        for (name, (shape, values)) in saved {
            if shapes.get(&name) != Some(&shape) {
                return Err(wrong(&name));
            }
            self.weights.insert(name, Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        for (name, shape) in &shapes {
            if self.weights.get(name)?.dims() != shape.as_slice() {
                return Err(wrong(name));
            }
        }
        for (site, factors) in &adapter.sites {
            if shapes.get(&format!("{site}.weight")) != Some(&vec![factors.d_out, factors.d_in]) {
                return Err(wrong(site));
            }
        }
        Ok(adapter)
    }

    /// Everything that is trained, in name order.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let mut all: BTreeMap<String, Tensor> = BTreeMap::new();
        if let Some(adapter) = &self.adapter {
            all.extend(adapter.tensors().map(|(name, tensor)| (name, tensor.clone())));
        }
        let trained = |name: &str| self.adapter.is_none() || self.learnt.contains(name);
        for name in self.network.shapes().into_keys().filter(|name| trained(name)) {
            if let Ok(ftk_adapters::weights::Weight::Dense(tensor)) = self.weights.held(&name) {
                all.insert(name, tensor.clone());
            }
        }
        all.into_iter().collect()
    }

    /// Parameters that are trained.
    pub fn trained(&self) -> usize {
        self.parameters().iter().map(|(_, tensor)| tensor.elem_count()).sum()
    }

    /// A pass to learn from in a step; what is dropped depends on seed, step and `part` of the step.
    pub fn learning(&self, step: usize, part: usize) -> Train<'_> {
        let learns = if self.adapter.is_some() { Learns::Adapter } else { Learns::Base };
        let mut pass = Train::recording(&self.weights, self.adapter.as_ref(), learns);
        pass.learn_also(self.learnt.clone());
        let mut hash = blake3::Hasher::new_derive_key("ftk dropout of a graph");
        for number in [self.seed, step as u64, part as u64] {
            hash.update(&number.to_le_bytes());
        }
        let key = u64::from_le_bytes(hash.finalize().as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
        pass.drop_values(self.dropout[0], self.dropout[1], key);
        pass
    }

    /// A pass with the adapter, if there is one.
    pub fn applied(&self) -> Train<'_> {
        Train::new(&self.weights, self.adapter.as_ref())
    }

    /// A pass without it.
    pub fn bare(&self) -> Train<'_> {
        Train::new(&self.weights, None)
    }

    /// Adds the squared norm to a loss that is a sum over so many items, and to its gradients.
    ///
    /// # Errors
    /// The device's.
    pub fn regularise(&self, gradients: Gradients, items: f64) -> Result<(f64, BTreeMap<String, Tensor>), GraphError> {
        let mut gradients = gradients.into_trained();
        let (weight, names) = &self.l2;
        let mut sum = 0.0;
        if *weight > 0.0 {
            for name in names {
                let value = self.weights.get(name)?.detach();
                let entries = value.flatten_all()?.to_vec1::<f32>()?;
                let squares: f64 = entries.into_iter().map(|value| f64::from(value) * f64::from(value)).sum();
                sum += 0.5 * weight * items * squares;
                let gradient = pulled(&value, weight * items, gradients.remove(name).as_ref())?;
                gradients.insert(name.clone(), gradient);
            }
        }
        Ok((sum, gradients))
    }

    /// Writes what was trained: `base/`, or an adapter folder. Names the files with weights.
    ///
    /// # Errors
    /// The file system's; an adapter that does not fit the grid.
    pub fn export(&self, out: &Path, base_name: &str) -> Result<Vec<&'static str>, GraphError> {
        let Some(adapter) = &self.adapter else {
            graphs::save(&out.join(BASE), &self.network.clone().bare(), &self.weights)?;
            return Ok(vec!["base/model.safetensors"]);
        };
        let mut saved = Saved::new();
        for name in &self.learnt {
            let tensor = self.weights.get(name)?;
            saved.insert(name.clone(), (tensor.dims().to_vec(), tensor.flatten_all()?.to_vec1()?));
        }
        let linear: Vec<String> = self.network.adaptable().into_iter().map(|site| site.name).collect();
        peft::save_with_saved(out, &adapter.to_adapter()?, &saved, base_name, &linear)?;
        Ok(vec![peft::FACTORS])
    }
}
