//! Generation: a prompt is passed through the model once, and any number of answers go on from it, several of them at a
//! time. A model's figures for a row depend on nothing but the row, and what is drawn for a token on nothing but its
//! place, so that an answer is the same whatever is computed beside it.
//!
//! Which token follows is `sampling`'s; text and templates are not here.

mod sampling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};
use ftk_adapters::Error;
use ftk_adapters::train::{Cache, LoraTensors, Train};
use ftk_adapters::weights::Weights;
use ftk_kernels::float::softmax;
use ftk_networks::Network;
use ftk_networks::ops::Tokens;
use rayon::prelude::*;

pub use self::sampling::{Sampling, SamplingError, TokenPlace};

/// A model to generate with.
#[derive(Clone, Copy, Debug)]
pub struct Generator<'a> {
    /// The network.
    pub network: &'a Network,
    /// Its weights.
    pub weights: &'a Weights,
    /// An adapter, if any.
    pub adapter: Option<&'a LoraTensors>,
    /// Number format of products with weights and in attention, as in training: f32 or bf16.
    pub format: DType,
}

/// Which answers are wanted.
#[derive(Clone, Debug)]
pub struct AnswerOptions<'a> {
    /// Most tokens of an answer. It also ends where the network's positions do.
    pub limit: usize,
    /// Ids that end an answer, of which they are part.
    pub stop: &'a BTreeSet<u32>,
    /// How tokens are drawn; the most likely ones if absent, of equally likely ones that of the lowest id.
    pub sampling: Option<Sampling>,
}

/// What a model said.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Number of the prompt, from 0.
    pub prompt: usize,
    /// Number of the answer to this prompt, from 0.
    pub sample: usize,
    /// Its tokens.
    pub ids: Vec<u32>,
    /// The natural logarithm of the probability of each, whatever the temperature: the figures of training.
    pub log_probs: Vec<f32>,
    /// Why there is no more.
    pub ending: AnswerEnding,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerEnding {
    /// With an id that ends answers.
    Stop,
    /// With as many tokens as were wanted.
    Length,
    /// With the last position that the network has.
    Context,
    /// Nobody wanted more.
    Halted,
}

impl AnswerEnding {
    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Context => "context",
            Self::Halted => "halted",
        }
    }
}

/// What is told while answers are made.
#[derive(Debug)]
pub enum AnswerNews<'a> {
    /// A token of the answer that is told of next.
    Token(u32),
    /// An answer that is complete.
    Whole(&'a Answer),
}

/// A sequence that was passed through one model, to go on from with the same.
#[derive(Clone, Debug, Default)]
pub struct PassedSequence {
    ids: Vec<u32>,
    cache: Cache,
}

/// An answer in the making.
struct AnswerInMaking {
    /// Its number among all that are wanted.
    number: usize,
    answer: Answer,
    passed: PassedSequence,
    limit: usize,
    /// How it ends if it reaches its limit.
    at_limit: AnswerEnding,
}

/// Tells of answers in their order, however they end.
#[derive(Default)]
struct AnswerOrder {
    /// Number of the answer that is told of next, and how many of its tokens were.
    next: usize,
    tokens: usize,
    /// Answers that ended before it was their turn.
    ended: BTreeMap<usize, Answer>,
}

impl AnswerOrder {
    /// Takes out what has ended, tells what can be told, and says whether more is wanted.
    fn tell(&mut self, making: &mut Vec<AnswerInMaking>, tell: &mut dyn FnMut(AnswerNews<'_>) -> bool) -> bool {
        let (going, ended) = std::mem::take(making).into_iter().partition(AnswerInMaking::goes_on);
        *making = going;
        let ended: Vec<AnswerInMaking> = ended;
        self.ended.extend(ended.into_iter().map(|one| (one.number, one.answer)));
        loop {
            let ended = self.ended.get(&self.next);
            let current = ended.or_else(|| Some(&making.iter().find(|one| one.number == self.next)?.answer));
            let Some(answer) = current else { return true };
            for &token in &answer.ids[self.tokens..] {
                if !tell(AnswerNews::Token(token)) {
                    return false;
                }
            }
            self.tokens = answer.ids.len();
            if ended.is_none() {
                return true;
            }
            if !tell(AnswerNews::Whole(answer)) {
                return false;
            }
            self.ended.remove(&self.next);
            (self.next, self.tokens) = (self.next + 1, 0);
        }
    }
}

impl<'a> Generator<'a> {
    /// Answers to all prompts, `samples` to each, of which at most `batch` are in the making at a time: what is told
    /// is the same whatever the number. Answers are told in their order, those to the first prompt first, and the
    /// tokens of one at a time as they come. It ends where `tell` says that nobody wants more. A prompt that leaves
    /// no position free has answers without tokens.
    ///
    /// # Errors
    /// The device's; a model whose figures are not finite.
    ///
    /// # Panics
    /// If a prompt has no tokens.
    pub fn answers(
        &self,
        prompts: &[Vec<u32>],
        samples: usize,
        batch: usize,
        options: &AnswerOptions<'_>,
        tell: &mut dyn FnMut(AnswerNews<'_>) -> bool,
    ) -> Result<(), Error> {
        let mut waiting = 0..prompts.len() * samples;
        // The prompt that answers were last begun to, as it was passed.
        let mut begun: Option<(usize, PassedSequence, Vec<f32>)> = None;
        let mut making: Vec<AnswerInMaking> = Vec::new();
        let mut order = AnswerOrder::default();
        loop {
            while making.len() < batch.max(1)
                && let Some(number) = waiting.next()
            {
                let (prompt, sample) = (number / samples, number % samples);
                let ids = &prompts[prompt];
                let mut one = AnswerInMaking::new((prompt, sample), self.network.context(), ids.len(), options);
                one.number = number;
                if one.goes_on() {
                    let (_, passed, logits) = match begun.take().filter(|(of, ..)| *of == prompt) {
                        Some(passed) => begun.insert(passed),
                        None => {
                            let mut passed = PassedSequence::default();
                            let logits = self.pass(&mut passed, ids)?;
                            begun.insert((prompt, passed, logits))
                        }
                    };
                    one.passed = passed.clone();
                    one.choose(logits, options)?;
                }
                making.push(one);
            }
            if !order.tell(&mut making, tell) {
                return Ok(());
            }
            if making.is_empty() {
                // None are left, or all that were begun have ended at once.
                if waiting.is_empty() {
                    return Ok(());
                }
                continue;
            }
            let mut going: Vec<&mut AnswerInMaking> = making.iter_mut().collect();
            let logits = self.step(&mut going)?;
            let vocab = logits.len() / going.len();
            going.par_iter_mut().zip(logits.par_chunks(vocab)).try_for_each(|(one, row)| one.choose(row, options))?;
        }
    }

    /// The answer of this number to `prompt`, which goes on from `passed` as far as the two begin alike; afterwards
    /// `passed` holds prompt and answer. `on_token` sees each token as it comes, and says whether more are wanted.
    ///
    /// # Errors
    /// As [`Generator::answers`].
    ///
    /// # Panics
    /// If the prompt has no tokens.
    pub fn answer(
        &self,
        passed: &mut PassedSequence,
        prompt: &[u32],
        number: (usize, usize),
        options: &AnswerOptions<'_>,
        mut on_token: impl FnMut(u32) -> bool,
    ) -> Result<Answer, Error> {
        let mut one = AnswerInMaking::new(number, self.network.context(), prompt.len(), options);
        if !one.goes_on() {
            return Ok(one.answer);
        }
        let mut logits = self.pass(passed, prompt)?;
        one.passed = std::mem::take(passed);
        loop {
            one.choose(&logits, options)?;
            let wanted = one.answer.ids.last().is_none_or(|&token| on_token(token));
            if !wanted || !one.goes_on() {
                break;
            }
            logits = self.step(&mut [&mut one])?;
        }
        *passed = one.passed;
        Ok(one.answer)
    }

    /// Logits of what follows `ids`, of which `passed` holds the beginning, or another sequence that begins alike.
    fn pass(&self, passed: &mut PassedSequence, ids: &[u32]) -> Result<Vec<f32>, Error> {
        // What follows the last token is not kept.
        let alike = passed.ids.iter().zip(&ids[..ids.len() - 1]).take_while(|(a, b)| a == b).count();
        let alike = alike.min(passed.cache.positions());
        passed.cache.truncate(alike)?;
        passed.ids.clear();
        passed.ids.extend(ids);
        let new = &ids[alike..];
        let logits = self.forward([&mut passed.cache], &Tokens::sequence(new.to_vec()), &[new.len() - 1])?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }

    /// Logits of what follows the last token of each answer, one after another.
    fn step(&self, making: &mut [&mut AnswerInMaking]) -> Result<Vec<f32>, Error> {
        let last: Vec<[u32; 1]> = making.iter().map(|one| [*one.passed.ids.last().expect("it has a prompt")]).collect();
        let rows: Vec<usize> = (0..last.len()).collect();
        let caches = making.iter_mut().map(|one| &mut one.passed.cache);
        let logits = self.forward(caches, &Tokens::sequences(last), &rows)?;
        Ok(logits.flatten_all()?.to_vec1()?)
    }

    fn forward<'c>(
        &self,
        caches: impl IntoIterator<Item = &'c mut Cache>,
        tokens: &Tokens,
        rows: &[usize],
    ) -> Result<Tensor, Error>
    where
        'a: 'c,
    {
        let mut ops = Train::continuing(self.weights, self.adapter, caches);
        ops.multiply_in(self.format);
        self.network.forward(&mut ops, tokens, rows)
    }
}

impl AnswerInMaking {
    fn new(
        (prompt, sample): (usize, usize),
        context: usize,
        prompt_tokens: usize,
        options: &AnswerOptions<'_>,
    ) -> Self {
        let room = context.saturating_sub(prompt_tokens);
        let (limit, at_limit) =
            if room < options.limit { (room, AnswerEnding::Context) } else { (options.limit, AnswerEnding::Length) };
        let ending = if limit == 0 { at_limit } else { AnswerEnding::Halted };
        let answer = Answer { prompt, sample, ids: Vec::new(), log_probs: Vec::new(), ending };
        Self { number: 0, answer, passed: PassedSequence::default(), limit, at_limit }
    }

    /// Whether there is to be another token.
    fn goes_on(&self) -> bool {
        self.answer.ending == AnswerEnding::Halted
    }

    /// Adds the token that follows, given the logits of all.
    fn choose(&mut self, logits: &[f32], options: &AnswerOptions<'_>) -> Result<(), Error> {
        let answer = &mut self.answer;
        let place = TokenPlace { prompt: answer.prompt, sample: answer.sample, token: answer.ids.len() };
        let token = options.sampling.as_ref().map_or_else(|| largest(logits), |it| it.token(logits, place));
        let log_prob = softmax::log_prob(logits, &[token], &softmax::log_sums(logits, &[token]))[0];
        if !log_prob.is_finite() {
            let message = format!("the model gives a token a log-probability that is not finite: {token}");
            return Err(candle_core::Error::Msg(message).into());
        }
        answer.ids.push(token);
        answer.log_probs.push(log_prob);
        self.passed.ids.push(token);
        if options.stop.contains(&token) {
            answer.ending = AnswerEnding::Stop;
        } else if answer.ids.len() == self.limit {
            answer.ending = self.at_limit;
        }
        Ok(())
    }
}

/// Continues `prompt` with the most likely token, ties going to the lowest id, until an id of
/// `stop` (which is part of the result), `limit` tokens, or until `on_token`, which sees each as it comes, wants no more.
///
/// # Errors
/// As [`Generator::answers`].
///
/// # Panics
/// If the prompt has no tokens.
pub fn greedy(
    network: &Network,
    weights: &Weights,
    adapter: Option<&LoraTensors>,
    prompt: &[u32],
    limit: usize,
    stop: &BTreeSet<u32>,
    on_token: impl FnMut(u32) -> bool,
) -> Result<Vec<u32>, Error> {
    let generator = Generator { network, weights, adapter, format: DType::F32 };
    let options = AnswerOptions { limit, stop, sampling: None };
    Ok(generator.answer(&mut PassedSequence::default(), prompt, (0, 0), &options, on_token)?.ids)
}

/// Index of the largest logit, the first among equals.
fn largest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map_or(0, |(index, _)| index as u32)
}
