//! Memory of a training run by arithmetic: what is held all the time, and what a batch needs on its
//! way through the network and back.

use ftk_adapters::footprint::Footprint;
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::scored_at_once;
use ftk_bases::BaseModel;
use ftk_bases::Hold;
use ftk_networks::Network;
use ftk_networks::ops::Tokens;
use ftk_recipes::{Format, Recipe};

/// Bytes of a number.
const F32: usize = 4;
/// Numbers held for each trained one: itself twice (on the device and in the optimiser), gradient twice, two moments.
const COPIES: usize = 6;
/// Values of the widest kind that an operation's way back has at once: operands' gradients and what they come of.
const AT_ONCE: usize = 4;

/// Bytes by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The base's weights as they are held.
    pub weights: usize,
    /// The largest of them in the format of products, where that is not how they are held.
    pub widened: usize,
    /// What is trained, with gradients and moments.
    pub trained: usize,
    /// What a batch leaves behind for its way back.
    pub activations: usize,
    /// What operations need while they run, logits among it.
    pub working: usize,
}

impl Memory {
    /// Of a run that computes at most `tokens` tokens at once; `adapter` is what is trained, if not the base.
    pub fn of(source: &BaseModel, recipe: &Recipe, adapter: Option<&Adapter>, tokens: usize) -> Self {
        let shapes = source.network().shapes();
        let sizes = || shapes.values().map(|shape| shape.iter().product::<usize>());
        let trained = match adapter {
            Some(adapter) => adapter.sites.values().map(|factors| factors.a.len() + factors.b.len()).sum(),
            None => sizes().sum::<usize>(),
        };
        let (numbers, widest) = kept(source.network(), adapter, recipe.run.recompute);
        let vocab = source.network().vocab();
        let logits = vocab * tokens.min(scored_at_once(vocab, adapter.is_none()));
        Self {
            weights: match (recipe.base.hold, recipe.run.precision, adapter) {
                (Hold::F32, Format::Bf16, Some(_)) => {
                    let bytes =
                        |shape: &Vec<usize>| shape.iter().product::<usize>() * if shape.len() == 2 { 2 } else { 4 };
                    shapes.values().map(bytes).sum()
                }
                (hold, ..) => source.held_bytes(hold),
            },
            widened: match (recipe.base.hold, recipe.run.precision) {
                (Hold::F32, Format::F32) => 0,
                (Hold::F32, Format::Bf16) if adapter.is_some() => 0,
                (Hold::Stored, Format::F32) => F32 * sizes().max().unwrap_or(0),
                (_, Format::Bf16) => F32 / 2 * sizes().max().unwrap_or(0),
            },
            trained: F32 * COPIES * trained,
            activations: F32 * numbers * tokens,
            working: F32 * (AT_ONCE * widest * tokens + logits),
        }
    }

    /// All of it.
    pub fn total(&self) -> usize {
        let Self { weights, widened, trained, activations, working } = self;
        weights + widened + trained + activations + working
    }
}

/// Numbers a token that stay between the two ways, and features of the widest value.
fn kept(network: &Network, adapter: Option<&Adapter>, recompute: bool) -> (usize, usize) {
    let tokens = Tokens::sequence(vec![0]);
    let mut whole = Footprint::new(adapter);
    let Ok(_) = network.forward(&mut whole, &tokens, &[0]);
    if !recompute {
        return (whole.numbers(), whole.widest());
    }
    let mut hidden = Footprint::new(adapter);
    let Ok(_) = network.embed(&mut hidden, &tokens);
    let features = hidden.widest();
    let block = |index| {
        let mut one = Footprint::new(adapter);
        let x = one.value(features);
        let Ok(_) = network.block(&mut one, index, &x);
        one.numbers()
    };
    let largest = (0..network.blocks()).map(block).max().unwrap_or(0);
    (features * (network.blocks() + 1) + largest, whole.widest())
}
