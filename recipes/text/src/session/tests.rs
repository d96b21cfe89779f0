//! The loss of choices as a whole: from log-probabilities of the network to gradients of the adapter.

use candle_core::Device;
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::normal_values;
use ftk_networks::ops::{Heads, Rope};
use ftk_networks::{Llama, LlamaVariant};
use ftk_recipes::preference::PreferenceRow;
use ftk_recipes::{Dpo, DpoLoss};

use super::*;
use crate::encode::Unpaired;
use crate::tiny;

fn network() -> Network {
    Llama {
        family: LlamaVariant::Llama,
        vocab: 11,
        hidden: 8,
        intermediate: 12,
        layers: 2,
        heads: Heads { query: 4, key_value: 2, dim: 4 },
        rope: Rope { dim: 4, theta: 100.0, scaling: None },
        eps: 1e-3,
        tied: false,
        context: 32,
    }
    .into()
}

/// One chosen completion against three, and another against two, of different lengths.
fn choices() -> Vec<Vec<Pair>> {
    let choice = |prompt: &[u32], chosen: &[u32], rejected: &[&[u32]]| -> Vec<Pair> {
        let whole = |completion: &[u32]| ScoredSequence::new([prompt, completion].concat(), |at| at >= prompt.len());
        let pair = |other: &&[u32]| Pair { prompt: prompt.len(), chosen: whole(chosen), rejected: whole(other) };
        rejected.iter().map(pair).collect()
    };
    vec![
        choice(&[1, 5, 2], &[9, 5], &[&[3], &[8, 0, 10], &[7, 4, 4, 6]]),
        choice(&[2, 2, 7, 0], &[1, 3, 5], &[&[6, 6], &[10]]),
    ]
}

fn cost() -> LossConstants {
    LossConstants::from(&Dpo { beta: 2.0, loss: DpoLoss::Softmax, ..Dpo::default() })
}

fn session(network: &Network, adapter: &Adapter) -> TextSession {
    let trained = Trained::Adapter(LoraTensors::trained(adapter, &Device::Cpu).unwrap());
    let dpo = DpoSettings { loss: cost(), sft_weight: 0.2, reference: Reference::Base };
    TextSession::new(
        network.clone(),
        tiny::weights(network, 0.35),
        trained,
        None,
        dpo,
        (Examples::Dpo(choices()), None, 1),
    )
}

fn loss(session: &TextSession) -> BatchLoss {
    session.loss(&[0, 1], StepWindow { step: 0, rows: &[0, 1] }).unwrap()
}

#[test]
fn the_loss_of_one_among_several_has_the_gradient_of_finite_differences() {
    let network = network();
    let adapter = tiny::adapter(&network);
    let policy = session(&network, &adapter);
    // Every completion pulls by another strength, so none can stand in for another.
    let choices = choices();
    let sequences: Vec<&ScoredSequence> = completions(&choices[0]).collect();
    let batch = || PassBatch { sequences: &sequences, alike: &[4], known: None, dropout: None };
    let sums = [policy.policy(false), policy.reference()].map(|model| model.score(batch()).unwrap().sums().unwrap());
    let completed: Vec<ScoredCompletion> =
        (0..4).map(|at| ScoredCompletion { policy: sums[0][at], reference: sums[1][at], tokens: 1 }).collect();
    let slopes = cost().cost().judge(PreferenceRow::chosen(&completed)).slopes;
    let apart = |a: f64, b: f64| (a - b).abs() > 0.1 * a.abs().max(b.abs());
    assert!(apart(slopes[1], slopes[2]) && apart(slopes[2], slopes[3]) && apart(slopes[1], slopes[3]), "{slopes:?}");

    let gradients = loss(&policy).gradients;
    assert_eq!(gradients.len(), 2 * adapter.sites.len());
    for (site, factors) in &adapter.sites {
        for half in ["lora_A", "lora_B"] {
            let name = format!("{site}.{half}");
            let gradient = gradients[&name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let length = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            assert!(length > 0.01, "{name} has hardly any gradient: {length}");
            let count = if half == "lora_A" { factors.a.len() } else { factors.b.len() };
            // Along the gradient itself the slope is its length, and in a random direction something else.
            let random = normal_values(&name, count, 1.0, 9);
            for direction in [gradient.clone(), random] {
                let norm = direction.iter().map(|&d| f64::from(d).powi(2)).sum::<f64>().sqrt();
                let direction: Vec<f64> = direction.iter().map(|&d| f64::from(d) / norm).collect();
                let moved = |step: f64| {
                    let mut moved = adapter.clone();
                    let factors = moved.sites.get_mut(site).unwrap();
                    let there = if half == "lora_A" { &mut factors.a } else { &mut factors.b };
                    there.iter_mut().zip(&direction).for_each(|(x, d)| *x = (f64::from(*x) + step * d) as f32);
                    loss(&session(&network, &moved)).sum
                };
                let ours: f64 = gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d).sum();
                // The stencil's error falls with the step, that of f32 rises: one of two must agree.
                let error = |step: f64| {
                    let near = 8.0 * (moved(step) - moved(-step));
                    let far = moved(2.0 * step) - moved(-2.0 * step);
                    ((near - far) / (12.0 * step) - ours).abs() / length
                };
                let errors = [0.02, 0.005].map(error);
                assert!(errors.iter().any(|error| *error < 2e-3), "{name}: {ours} is off by {errors:?} of {length}");
            }
        }
    }
}

#[test]
fn completions_alone_are_given_those_of_other_rows_of_their_step() {
    let row = |at: u32| Unpaired {
        prompt: 2,
        own: ScoredSequence::new(
            vec![10 * at, 10 * at + 1, 10 * at + 2, 10 * at + 3][..3 + at as usize % 2].to_vec(),
            |p| p >= 2,
        ),
        wanted: at.is_multiple_of(3),
    };
    let others = |count: u32, step: usize, longest: usize| -> Vec<Vec<u32>> {
        let rows = Alone::mismatched((0..count).map(row).collect(), step, longest);
        assert!(rows.iter().enumerate().all(|(at, alone)| {
            let Unpaired { prompt, own, wanted } = row(at as u32);
            alone.wanted == wanted && alone.pair.chosen == own && alone.pair.prompt == prompt
        }));
        rows.into_iter().map(|alone| alone.pair.rejected.ids).collect()
    };
    // The first of a step takes the last one's; the only row of the last step that of the row before it.
    assert_eq!(
        others(5, 2, 9),
        [vec![0, 1, 12, 13], vec![10, 11, 2], vec![20, 21, 32, 33], vec![30, 31, 22], vec![40, 41, 32, 33]]
    );
    assert_eq!(others(3, 4, 3), [[0, 1, 22], [10, 11, 2], [20, 21, 12]]);
    // There is no other row.
    assert_eq!(others(1, 2, 9), [[0, 1, 2]]);
}
