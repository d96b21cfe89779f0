use candle_core::Device;
use ftk_networks::ops::{Heads, Rope};
use ftk_networks::{Llama, LlamaVariant};

use super::*;
use crate::encode::ScoredSequence;
use crate::pass::{PassBatch, Scorer};
use crate::tiny;

const CONTEXT: usize = 24;

fn network() -> Network {
    Llama {
        family: LlamaVariant::Llama,
        vocab: 40,
        hidden: 24,
        intermediate: 20,
        layers: 2,
        heads: Heads { query: 6, key_value: 2, dim: 4 },
        rope: Rope { dim: 4, theta: 100.0, scaling: None },
        eps: 1e-3,
        tied: true,
        context: CONTEXT,
    }
    .into()
}

fn frozen(network: &Network) -> LoraTensors {
    LoraTensors::frozen(&tiny::adapter(network), &Device::Cpu).unwrap()
}

/// Of different lengths; the last but one leaves two positions, and the last none.
fn prompts() -> Vec<Vec<u32>> {
    let of = |length: u32, by: u32| (0..length).map(|at| (3 + by * at) % 40).collect();
    vec![of(5, 7), of(1, 1), of(11, 3), of(CONTEXT as u32 - 2, 11), of(CONTEXT as u32, 1)]
}

fn drawn() -> Option<Sampling> {
    Some(Sampling::new(1.3, 5).unwrap().top_k(30).top_p(0.98).unwrap())
}

fn all(generator: &Generator<'_>, batch: usize, options: &AnswerOptions<'_>) -> Vec<Answer> {
    let (mut answers, mut tokens) = (Vec::new(), Vec::new());
    generator
        .answers(&prompts(), 3, batch, options, &mut |news| {
            match news {
                AnswerNews::Token(token) => tokens.push(token),
                AnswerNews::Whole(answer) => {
                    // Its own tokens came before it, and no others.
                    assert_eq!(std::mem::take(&mut tokens), answer.ids);
                    answers.push(answer.clone());
                }
            }
            true
        })
        .unwrap();
    answers
}

#[test]
fn an_answer_is_the_same_bit_for_bit_whatever_is_computed_beside_it() {
    let network = network();
    let (weights, adapter, stop) = (tiny::weights(&network, 0.4), frozen(&network), BTreeSet::from([4, 9]));
    let narrowed = weights.clone().narrowed().unwrap();
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for (weights, format) in [(&weights, DType::F32), (&narrowed, DType::BF16)] {
        for sampling in [None, drawn()] {
            let generator = Generator { network: &network, weights, adapter: Some(&adapter), format };
            let options = AnswerOptions { limit: 9, stop: &stop, sampling };
            let alone = pool(1).install(|| all(&generator, 1, &options));
            assert_eq!(alone.iter().map(|it| (it.prompt, it.sample)).collect::<Vec<_>>(), numbers());
            for batch in [2, 4, 15] {
                assert_eq!(pool(3).install(|| all(&generator, batch, &options)), alone, "{format:?} {batch}");
            }
            // One by one, as a conversation does it.
            let mut passed = PassedSequence::default();
            for expected in &alone {
                let number = (expected.prompt, expected.sample);
                let prompt = &prompts()[expected.prompt];
                let answer = generator.answer(&mut passed, prompt, number, &options, |_| true).unwrap();
                assert_eq!(answer, *expected);
            }
        }
    }
}

fn numbers() -> Vec<(usize, usize)> {
    (0..prompts().len()).flat_map(|prompt| (0..3).map(move |sample| (prompt, sample))).collect()
}

#[test]
fn samples_differ_greedy_answers_do_not_and_each_says_why_it_ended() {
    let network = network();
    let (weights, stop) = (tiny::weights(&network, 0.4), BTreeSet::from([4, 9]));
    let generator = Generator { network: &network, weights: &weights, adapter: None, format: DType::F32 };
    let of = |sampling| all(&generator, 4, &AnswerOptions { limit: 9, stop: &stop, sampling });
    let greedy_answers = of(None);
    assert!(greedy_answers.chunks(3).all(|same| same[0].ids == same[1].ids && same[1].ids == same[2].ids));
    for answer in greedy_answers.iter().step_by(3).take(4) {
        let prompt = &prompts()[answer.prompt];
        let ids = greedy(&network, &weights, None, prompt, 9.min(CONTEXT - prompt.len()), &stop, |_| true).unwrap();
        assert_eq!(ids, answer.ids);
    }
    let answers = of(drawn());
    assert!(answers[..3].windows(2).all(|pair| pair[0].ids != pair[1].ids), "{answers:?}");
    let mut seen = BTreeSet::new();
    for answer in &answers {
        let stops = answer.ids.last().is_some_and(|last| stop.contains(last));
        let expected = match (stops, answer.ids.len()) {
            (true, _) => AnswerEnding::Stop,
            (false, 9) => AnswerEnding::Length,
            _ => AnswerEnding::Context,
        };
        assert_eq!(answer.ending, expected, "{answer:?}");
        assert!(answer.ids.iter().rev().skip(1).all(|id| !stop.contains(id)));
        seen.insert(answer.ending.name());
    }
    assert_eq!(seen, BTreeSet::from(["context", "length", "stop"]));
    assert!(answers[12..].iter().all(|answer| answer.ids.is_empty()), "there is no position left");
}

#[test]
fn log_probabilities_are_those_of_training_bit_for_bit() {
    let network = network();
    let (weights, adapter, stop) = (tiny::weights(&network, 0.4), frozen(&network), BTreeSet::new());
    let generator = Generator { network: &network, weights: &weights, adapter: Some(&adapter), format: DType::F32 };
    let options = AnswerOptions { limit: 9, stop: &stop, sampling: drawn() };
    let scorer = Scorer {
        network: &network,
        weights: &weights,
        adapter: Some(&adapter),
        learns: None,
        recompute: false,
        format: DType::F32,
    };
    for answer in all(&generator, 4, &options).iter().filter(|answer| !answer.ids.is_empty()) {
        let prompt = &prompts()[answer.prompt];
        let sequence = ScoredSequence::new([&prompt[..], &answer.ids].concat(), |at| at >= prompt.len());
        let pass = scorer.score(PassBatch { sequences: &[&sequence], alike: &[], known: None, dropout: None });
        assert_eq!(pass.unwrap().values[0], answer.log_probs);
    }
}

#[test]
fn nobody_is_told_more_than_they_want() {
    let network = network();
    let (weights, stop) = (tiny::weights(&network, 0.4), BTreeSet::new());
    let generator = Generator { network: &network, weights: &weights, adapter: None, format: DType::F32 };
    let options = AnswerOptions { limit: 9, stop: &stop, sampling: None };
    let mut told = 0;
    let mut three = |_: AnswerNews<'_>| {
        told += 1;
        told < 3
    };
    generator.answers(&prompts(), 2, 4, &options, &mut three).unwrap();
    assert_eq!(told, 3);
    let mut passed = PassedSequence::default();
    let answer = generator.answer(&mut passed, &prompts()[0], (0, 0), &options, |_| false).unwrap();
    assert_eq!((answer.ids.len(), answer.ending), (1, AnswerEnding::Halted));
}

#[test]
fn figures_that_are_not_finite_are_refused() {
    let network = network();
    let (mut weights, stop) = (tiny::weights(&network, 0.4), BTreeSet::new());
    let norm = Tensor::full(f32::NAN, 24, &Device::Cpu).unwrap();
    weights.insert("model.norm.weight".to_owned(), norm);
    for sampling in [None, drawn()] {
        let generator = Generator { network: &network, weights: &weights, adapter: None, format: DType::F32 };
        let options = AnswerOptions { limit: 2, stop: &stop, sampling };
        let mut passed = PassedSequence::default();
        let error = generator.answer(&mut passed, &[1, 2], (0, 0), &options, |_| true).unwrap_err().to_string();
        assert!(error.starts_with("the model gives a token a log-probability that is not finite"), "{error}");
    }
}
