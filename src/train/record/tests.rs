//! Records of honest steps and of steps with one operation that gave something else, and a referee between them.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::trace::{self, TracedOperation};
use ftk_adapters::train::{Learns, LoraTensors, Train, initial_factors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_networks::ops::{Bias, Heads, Ops, Rope, TableShape, Tokens};
use ftk_recipes::preference::ScoredCompletion;
use ftk_recipes::preference::rule::{self, LossConstants, Rule};
use ftk_recipes::{BatchLoss, Dpo, Metrics, Run, Session, StepWindow, TaskError};

use super::super::audit::{self, AuditedRun};
use super::super::referee::{self, Finding, Ruling};
use super::super::tests::{identity, observed, optim, settings};
use super::super::transcript::{Scribe, StepRecord, TRANSCRIPT, Transcript, read, row_digests};
use super::super::{Start, run};
use super::*;

const WIDTH: usize = 8;
const VOCAB: usize = 7;

/// A network of one block, on rows that are sequences made from their numbers.
struct Net {
    weights: Weights,
    adapter: LoraTensors,
}

impl Net {
    fn new() -> Self {
        let weight = |name: &str, shape: &[usize]| {
            let values = normal_values(name, shape.iter().product(), 0.5, 3);
            (format!("{name}.weight"), Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        };
        let square = ["q", "k", "v", "o"].map(|name| weight(name, &[WIDTH, WIDTH]));
        let others = [
            weight("embed", &[VOCAB, WIDTH]),
            weight("norm", &[WIDTH]),
            weight("gate", &[12, WIDTH]),
            weight("up", &[12, WIDTH]),
            weight("down", &[WIDTH, 12]),
            weight("head", &[VOCAB, WIDTH]),
        ];
        let mut adapter = Adapter::default();
        for (site, shape) in [("q", (WIDTH, WIDTH)), ("down", (WIDTH, 12))] {
            let mut factors = initial_factors(site, 2, shape, 1.0, 5);
            factors.b = normal_values(site, factors.b.len(), 0.3, 6);
            adapter.sites.insert(site.to_owned(), factors);
        }
        let adapter = LoraTensors::trained(&adapter, &Device::Cpu).unwrap();
        Self { weights: square.into_iter().chain(others).collect(), adapter }
    }

    fn pass(&self, rows: &[usize]) -> Result<(Train<'_>, Tensor), ftk_adapters::Error> {
        let sequence = |&row: &usize| (0..5).map(|at| ((row + 2) * (at + 1) % VOCAB) as u32).collect::<Vec<_>>();
        let sequences: Vec<Vec<u32>> = rows.iter().map(sequence).collect();
        let labels = sequences.iter().flat_map(|ids| ids[1..].to_vec()).collect();
        let scored: Vec<usize> = (0..rows.len()).flat_map(|row| 5 * row..5 * row + 4).collect();
        let mut pass = Train::recording(&self.weights, Some(&self.adapter), Learns::Adapter);
        let table = TableShape { rows: VOCAB, features: WIDTH, scale: 1.0 };
        let heads = Heads { query: 2, key_value: 2, dim: 4 };
        let rope = Rope { dim: 4, theta: 100.0, scaling: None };
        let x = pass.embed("embed", table, &Tokens::sequences(sequences))?;
        let y = pass.rms_norm("norm", &x, 1e-5)?;
        let [q, k] = ["q", "k"].map(|site| pass.linear_rope(site, WIDTH, Bias::Absent, &y, &rope));
        let v = pass.linear("v", WIDTH, Bias::Absent, &y)?;
        let y = pass.attention("attention", &q?, &k?, &v, heads, None)?;
        let y = pass.linear("o", WIDTH, Bias::Absent, &y)?;
        let x = pass.add(&x, &y)?;
        let y = pass.rms_norm("norm", &x, 1e-5)?;
        let [gate, up] = ["gate", "up"].map(|site| pass.linear(site, 12, Bias::Absent, &y));
        let y = pass.swiglu(&gate?, &up?)?;
        let y = pass.linear("down", WIDTH, Bias::Absent, &y)?;
        let x = pass.add(&x, &y)?;
        let x = pass.select(&x, &scored)?;
        pass.score(labels, None);
        let log_probs = pass.head("head", "head", VOCAB, &x)?;
        Ok((pass, log_probs))
    }
}

/// Loss and slopes of a pair of completions of four scored ids each.
fn preferred(log_probs: &Tensor, values: &[f32]) -> Result<(f64, Tensor), TaskError> {
    let tokens = vec![4, 4];
    let sums = rule::tensor(&operation::sums(values, &tokens))?;
    let [sums] = trace::seen([sums], || Ok((Operation::Sums { tokens: tokens.clone() }, vec![log_probs.clone()])))?;
    let references = [-7.5, -8.25];
    let completed: Vec<ScoredCompletion> = (sums.to_vec1()?.into_iter().zip(references))
        .map(|(policy, reference)| ScoredCompletion { policy, reference, tokens: 4 })
        .collect();
    let loss = LossConstants::from(&Dpo::default());
    let (sum, verdicts) = rule::choices(&*loss.cost(), &completed, &[2], 0.25);
    let [slopes, sum] = Rule::shown([rule::slopes(&verdicts), vec![sum]], || {
        let rule = Rule::Choices { loss, sizes: vec![2], tokens: tokens.clone(), supervised: 0.25.into() };
        Ok((rule, vec![sums.clone(), rule::tensor(&references)?]))
    })?;
    let spread = operation::spread(&slopes, &tokens);
    let [spread] = trace::seen([Tensor::from_vec(spread, 8, &Device::Cpu)?], || {
        Ok((Operation::Spread { tokens }, vec![rule::tensor(&slopes)?]))
    })?;
    Ok((sum[0], spread))
}

impl Session for Net {
    fn rows(&self) -> usize {
        9
    }

    fn items(&self, _: usize) -> usize {
        4
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.adapter.tensors().map(|(name, tensor)| (name, tensor.clone())).collect()
    }

    fn loss(&self, rows: &[usize], _: StepWindow<'_>) -> Result<BatchLoss, TaskError> {
        let (pass, log_probs) = self.pass(rows)?;
        // Of two rows the first is to be the likelier one; a row alone is to be likely.
        let values = log_probs.to_vec1::<f32>()?;
        let (sum, slopes) = match rows.len() {
            2 => preferred(&log_probs, &values)?,
            _ => {
                let [slopes] = trace::seen([Tensor::full(-1f32, log_probs.shape(), &Device::Cpu)?], || {
                    Ok((Operation::Fill { value: (-1.0).into(), count: values.len() }, Vec::new()))
                })?;
                (-operation::sums(&values, &[values.len()])[0], slopes)
            }
        };
        let gradients = pass.backward(&log_probs, slopes)?.into_trained();
        Ok(BatchLoss { sum, gradients, metrics: Metrics::new() })
    }

    fn evaluate(&self) -> Result<Metrics, TaskError> {
        Ok(Metrics::new())
    }
}

fn four(out: &Path) -> Run {
    Run { steps: Some(4), batch: 2, accumulate: 2, state_every: 1, ..settings(out) }
}

/// A run and what it wrote.
struct Honest {
    folder: tempfile::TempDir,
    transcript: Transcript,
}

impl Honest {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = four(folder.path());
        run(&Net::new(), &optim(), &settings, &identity(7), Start::Fresh, observed(&|| false, &mut |_| {})).unwrap();
        let transcript = audit::open(&folder.path().join(TRANSCRIPT)).unwrap();
        Self { folder, transcript }
    }

    fn record(&self, step: u64, keep: Option<usize>) -> Recorded {
        let (session, optim, run, identity) = (Net::new(), optim(), four(self.folder.path()), identity(7));
        let subject =
            AuditedRun { session: &session, optim: &optim, run: &run, identity: &identity, folder: self.folder.path() };
        // Once more on the same session: it is as it was.
        audit::record(subject, &self.transcript, step, None).unwrap();
        audit::record(subject, &self.transcript, step, keep).unwrap()
    }

    /// The record of somebody whose operation of this number, counted from 0, gave something else, and of whom all that
    /// follows is computed from it: state, transcript, record.
    fn cheated(&self, step: u64, operation: usize, bit: u32, keep: Option<usize>) -> Recorded {
        let meddler = move || {
            let mut at = 0;
            move |seen: &mut TracedOperation| {
                if at == operation {
                    flip(seen, bit);
                }
                at += 1;
            }
        };
        let (session, optim, run) = (Net::new(), optim(), four(self.folder.path()));
        let mut stepper = Stepper::new(&session, &optim, &run).unwrap();
        let at = step as usize - 1;
        (0..at).for_each(|step| drop(stepper.step(step).unwrap()));
        let before = stepper.optimiser.checkpoint(at, &identity(7), (0, None), None);
        let mut meddle = meddler();
        let see = move |seen: &mut TracedOperation| {
            meddle(seen);
            Ok(())
        };
        let stepped = trace::during(see, || stepper.step(at)).unwrap();
        let (_, line) = stepper.line(at + 1, &stepped, 0, Metrics::new());
        let claim = stepper.written(at + 1, &stepped, &line, &row_digests(&session, &run));
        let theirs = rechained(&self.transcript, |steps| steps[at] = claim);
        stepper.optimiser.restore(before, Path::new("")).unwrap();
        record(&mut stepper, &theirs, step, keep, meddler()).unwrap()
    }
}

/// The transcript with other steps, chained anew.
fn rechained(transcript: &Transcript, change: impl FnOnce(&mut Vec<StepRecord>)) -> Transcript {
    let mut steps = transcript.steps.clone();
    change(&mut steps);
    let (mut scribe, mut text) = Scribe::begin(&transcript.head);
    steps.iter().for_each(|step| text += &scribe.step(step));
    text += &scribe.end(transcript.end.unwrap()).0;
    read(text.as_bytes()).unwrap()
}

/// Changes a bit of the first number that an operation gave.
fn flip(seen: &mut TracedOperation, bit: u32) {
    let output = &mut seen.outputs[0];
    let shape = output.shape().clone();
    *output = match output.dtype() {
        DType::F64 => {
            let mut values = output.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            // So high that it is still there in f32.
            values[0] = f64::from_bits(values[0].to_bits() ^ (1 << (bit + 29)));
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        }
        _ => {
            let mut values = output.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values[0] = f32::from_bits(values[0].to_bits() ^ (1 << bit));
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        }
    };
}

/// The entries of a record that are operations, by their places.
fn operations(text: &str) -> Vec<(usize, String)> {
    let entries = text.lines().skip(1).map(|line| serde_json::from_str::<Entry>(line).unwrap()).enumerate();
    let named = entries.filter_map(|(at, entry)| match entry {
        Entry::Done(done) => Some((at, done.operation.name())),
        _ => None,
    });
    named.collect()
}

fn judged(records: [&str; 2], inputs: &[Tensor]) -> Ruling {
    let verdict = referee::judge(records, inputs);
    // Whoever goes first.
    let turned = referee::judge([records[1], records[0]], inputs);
    let ([a, b], [c, d]) = (turned.findings, turned.chains);
    assert_eq!(verdict, Ruling { findings: [b, a], chains: [d, c], ..turned });
    verdict
}

#[test]
fn a_false_operation_is_found_at_every_place_and_the_honest_party_is_right() {
    let honest = Honest::new();
    for step in [1, 3] {
        let ours = honest.record(step, None).text;
        let all = operations(&ours);
        let kinds: std::collections::BTreeSet<&str> = all.iter().map(|(_, name)| name.as_str()).collect();
        let learnt = ["attention_back", "lora_back", "log_prob_back", "accumulate", "mean", "norm", "adam_w"];
        // The third step has one row.
        let loss = if step == 3 { vec!["fill"] } else { vec!["sums", "task", "spread"] };
        for kind in learnt.into_iter().chain(loss) {
            assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
        }
        for (operation, (entry, name)) in all.iter().enumerate() {
            let theirs = honest.cheated(step, operation, 3, Some(*entry));
            let records = [ours.as_str(), theirs.text.as_str()];
            assert_eq!(referee::parting(records), Some(*entry), "{step}: {operation}: {name}");
            // Either may bring the inputs.
            for inputs in [honest.record(step, Some(*entry)).inputs.unwrap(), theirs.inputs.unwrap()] {
                let verdict = judged(records, &inputs);
                assert_eq!(verdict.findings, [Finding::Right, Finding::Wrong], "{step}: {operation}: {name}");
                assert_eq!((verdict.step, verdict.stands()), (Some(step), Some(0)));
                assert_eq!(verdict.parts, Some((entry + 2, name.clone())));
            }
        }
    }
}

#[test]
fn a_file_for_a_referee_says_the_same_when_it_is_read() {
    let (honest, folder) = (Honest::new(), tempfile::tempdir().unwrap());
    let ours = honest.record(2, None).text;
    let (entry, _) = operations(&ours)[17];
    let theirs = honest.cheated(2, 17, 3, Some(entry));
    let (path, inputs) = (folder.path().join("dispute"), theirs.inputs.unwrap());
    referee::write(&path, [&ours, &theirs.text], &inputs).unwrap();
    let (records, read) = referee::open(&path).unwrap().unwrap();
    let read = referee::judge(records.each_ref().map(String::as_str), &read);
    assert_eq!(read, referee::judge([&ours, &theirs.text], &inputs));
    assert_eq!(read.stands(), Some(0));
}

#[test]
fn nobody_is_right_who_does_not_show_it() {
    let honest = Honest::new();
    let ours = honest.record(3, None).text;
    let all = operations(&ours);
    let (place, (entry, _)) = (20, &all[20]);
    let inputs = honest.record(3, Some(*entry)).inputs.unwrap();
    let theirs = honest.cheated(3, place, 3, None).text;
    // Other inputs than both name; none.
    let mut other = inputs.clone();
    other[0] = (&other[0] + 1.0).unwrap();
    for inputs in [other.as_slice(), &[]] {
        let verdict = judged([&ours, &theirs], inputs);
        assert!(verdict.falls() && verdict.stands().is_none(), "{verdict:?}");
    }
    // Two who are both wrong.
    let others = honest.cheated(3, place, 4, None).text;
    let verdict = judged([&theirs, &others], &inputs);
    assert_eq!(verdict.findings, [Finding::Wrong, Finding::Wrong]);
    assert!(verdict.falls());
    // No dispute.
    let verdict = judged([&ours, &ours], &inputs);
    assert_eq!((verdict.stands(), verdict.falls()), (None, false));
    assert!(verdict.reason.unwrap().contains("are the same"));
    // Another step.
    let verdict = judged([&ours, &honest.record(2, None).text], &inputs);
    assert!(verdict.reason.unwrap().contains("not about the same step"));
}

#[test]
fn a_record_that_contradicts_itself_shows_nothing() {
    let honest = Honest::new();
    let ours = honest.record(3, None).text;
    let all = operations(&ours);
    let refused = |record: &str| {
        let verdict = judged([&ours, record], &[]);
        assert_eq!((verdict.stands(), &verdict.findings[0]), (Some(0), &Finding::Unrefuted), "{record}");
        match verdict.findings[1].clone() {
            Finding::NotShown(reason) => reason,
            other => panic!("{other:?}"),
        }
    };
    let lines: Vec<&str> = ours.lines().collect();
    let with = |at: usize, line: &str| {
        let mut lines = lines.clone();
        lines[at] = line;
        lines.join("\n") + "\n"
    };
    let output = |at: usize| {
        let Entry::Done(done) = serde_json::from_str(lines[at]).unwrap() else { panic!("an operation") };
        String::from(done.outputs[0])
    };
    // Something else given than what comes next is computed from.
    let at = all[12].0 + 1;
    let changed = lines[at].replace(&output(at), &"0".repeat(64));
    assert!(refused(&with(at, &changed)).ends_with("an input is no result of the lines before"));
    // A state at the end, or at the beginning, that is not the claim's.
    for (line, says) in [(lines.len() - 1, "does not end with the gradients and the state"), (1, "does not begin with")]
    {
        let Entry::Leaf(leaf) = serde_json::from_str(lines[line]).unwrap() else { panic!("a part of the state") };
        let changed = lines[line].replace(&String::from(leaf.leaf), &"0".repeat(64));
        assert!(refused(&with(line, &changed)).contains(says));
    }
    // An update that is left out, done twice, done at another rate, or of other gradients.
    let update = all.iter().rposition(|(_, name)| name == "adam_w").map(|at| all[at].0 + 1).unwrap();
    let without: Vec<&str> = lines.iter().enumerate().filter(|(at, _)| *at != update).map(|(_, line)| *line).collect();
    assert_eq!(refused(&(without.join("\n") + "\n")), "updates are not those of a step");
    assert_eq!(refused(&with(update - 1, lines[update])), "updates are not those of a step");
    let changed = lines[update].replace("\"updates\":3", "\"updates\":4");
    assert_eq!(refused(&with(update, &changed)), "updates are not those of a step");
    let rate = lines[update].split_once("\"rate\":").unwrap().1.split(',').next().unwrap();
    let changed = lines[update].replace(&format!("\"rate\":{rate}"), "\"rate\":4607182418800017408");
    assert!(refused(&with(update, &changed)).contains("the learning rate is not the one"));
    // What only an operation can give; a first line that follows from nothing; no record.
    let given = lines.iter().position(|line| line.starts_with("{\"given\":\"weight\"")).unwrap();
    let changed = lines[given].replace("\"weight\"", "\"x\"");
    assert!(refused(&with(given, &changed)).ends_with("cannot be given: x"));
    let changed = lines[0].replacen("\"step\":3", "\"step\":4", 1);
    assert_eq!(refused(&with(0, &changed)), "line 1 does not follow from the transcript's line before");
    assert!(refused("").contains("is empty"));
    assert_eq!(refused(&with(at, "{}")), format!("line {} is no line of a record", at + 1));
    // Its transcript claims another state than the record ends with.
    let theirs = rechained(&honest.transcript, |steps| steps[2].after.first = blake3::hash(b"other"));
    let (session, optim, run) = (Net::new(), optim(), four(honest.folder.path()));
    let mut stepper = Stepper::new(&session, &optim, &run).unwrap();
    (0..2).for_each(|step| drop(stepper.step(step).unwrap()));
    let claims = record(&mut stepper, &theirs, 3, None, |_| {}).unwrap().text;
    assert!(refused(&claims).contains("does not end with the gradients and the state"));
}

#[test]
fn what_is_given_otherwise_a_referee_cannot_tell() {
    let honest = Honest::new();
    let ours = honest.record(3, None).text;
    let given = ours.lines().find(|line| line.starts_with("{\"given\":\"labels\"")).unwrap();
    let Entry::Given(Given { tensor, .. }) = serde_json::from_str(given).unwrap() else { panic!("it is given") };
    let theirs = ours.replace(&String::from(tensor), &"0".repeat(64));
    let verdict = judged([&ours, &theirs], &[]);
    assert_eq!((verdict.stands(), verdict.falls()), (None, false));
    assert!(verdict.reason.unwrap().ends_with("who has the recipe can tell"));
    assert_eq!(verdict.parts.unwrap().1, "given: labels");
}
