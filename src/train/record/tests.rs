//! Records of honest steps and of steps with one operation that gave something else, and a referee between them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::trace::{self, TracedOperation};
use ftk_adapters::train::{Learns, LoraTensors, Train, initial_factors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_gnn::OpenedTask;
use ftk_gnn::rule::GraphRule;
use ftk_networks::ops::{Bias, Heads, Ops, Rope, TableShape, Tokens};
use ftk_recipes::preference::ScoredCompletion;
use ftk_recipes::preference::rule::{self, LossConstants, Rule};
use ftk_recipes::{BatchLoss, Dpo, Metrics, Recipe, Run, Session, StepWindow, TaskError};
use serde_json::Value;

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

/// A session, whoever holds it.
trait Held {
    fn session(&self) -> &dyn Session;
}

impl Held for Net {
    fn session(&self) -> &dyn Session {
        self
    }
}

impl Held for OpenedTask {
    fn session(&self) -> &dyn Session {
        OpenedTask::session(self)
    }
}

/// A run and what it wrote.
struct Honest {
    folder: tempfile::TempDir,
    transcript: Transcript,
    open: Box<dyn Fn() -> Box<dyn Held>>,
    run: Run,
}

impl Honest {
    /// Four steps of the network of one block.
    fn new() -> Self {
        Self::of(Box::new(|| Box::new(Net::new())), |run| Run { steps: Some(4), batch: 2, accumulate: 2, ..run })
    }

    /// A run of a session as it is opened, with a state kept after every step.
    fn of(open: Box<dyn Fn() -> Box<dyn Held>>, settle: impl FnOnce(Run) -> Run) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run_settings = settle(Run { state_every: 1, ..settings(folder.path()) });
        let (session, stop) = (open(), || false);
        let mut see = |_: &_| {};
        let observer = observed(&stop, &mut see);
        run(session.session(), &optim(), &run_settings, &identity(7), Start::Fresh, observer).unwrap();
        let transcript = audit::open(&folder.path().join(TRANSCRIPT)).unwrap();
        Self { folder, transcript, open, run: run_settings }
    }

    fn record(&self, step: u64, keep: Option<usize>) -> Recorded {
        let (session, optim, identity) = ((self.open)(), optim(), identity(7));
        let (session, run, folder) = (session.session(), &self.run, self.folder.path());
        let subject = AuditedRun { session, optim: &optim, run, identity: &identity, folder };
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
        let (session, optim, run) = ((self.open)(), optim(), &self.run);
        let session = session.session();
        let mut stepper = Stepper::new(session, &optim, run).unwrap();
        let at = step as usize - 1;
        (0..at).for_each(|step| drop(stepper.step(step).unwrap()));
        let before = stepper.optimiser.checkpoint(at, &identity(7), (0, None), None, None);
        let mut meddle = meddler();
        let see = move |seen: &mut TracedOperation| {
            meddle(seen);
            Ok(())
        };
        let stepped = trace::during(see, || stepper.step(at)).unwrap();
        let (_, line) = stepper.line(at + 1, &stepped, 0, Metrics::new());
        let claim = stepper.written(at + 1, &stepped, &line, &row_digests(session, run));
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

/// The losses of texts and of graphs.
fn losses(rule: &Value, inputs: &[Tensor]) -> candle_core::Result<Vec<Tensor>> {
    match serde_json::from_value::<Rule>(rule.clone()) {
        Ok(rule) => rule.compute(inputs),
        Err(_) => serde_json::from_value::<GraphRule>(rule.clone()).unwrap().compute(inputs),
    }
}

fn judged(records: [&str; 2], inputs: &[Tensor]) -> Ruling {
    let verdict = referee::judge(records, inputs, &losses);
    // Whoever goes first.
    let turned = referee::judge([records[1], records[0]], inputs, &losses);
    let ([a, b], [c, d]) = (turned.findings, turned.chains);
    assert_eq!(verdict, Ruling { findings: [b, a], chains: [d, c], ..turned });
    verdict
}

#[test]
fn a_false_operation_is_found_at_every_place_and_the_honest_party_is_right() {
    let honest = Honest::new();
    for step in [1, 3] {
        let kinds = found_everywhere(&honest, step);
        let learnt = ["attention_back", "lora_back", "log_prob_back", "accumulate", "mean", "norm", "adam_w"];
        // The third step has one row.
        let loss = if step == 3 { vec!["fill"] } else { vec!["sums", "task", "spread"] };
        for kind in learnt.into_iter().chain(loss) {
            assert!(kinds.contains(kind), "{kind} is not among {kinds:?}");
        }
    }
}

/// Plants a false result at every operation of a step, one after another; gives the kinds of operations there are.
fn found_everywhere(honest: &Honest, step: u64) -> BTreeSet<String> {
    let ours = honest.record(step, None).text;
    let all = operations(&ours);
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
    all.into_iter().map(|(_, name)| name).collect()
}

/// Twelve nodes of two classes in a ring with chords, with features and times; forty ratings among them.
fn graph(folder: &Path) {
    let nodes = (0..12).map(|node| {
        let split = ["train", "train", "validation", "train", "test"][node % 5];
        format!("n{node},c{},{split},{},{},{}\n", node % 2, node % 2, (node * 5 % 7) as f32 / 4.0, 1.5)
    });
    let ring = (0..12).map(|node| (node, (node + 1) % 12)).chain([(0, 5), (2, 9), (3, 7)]);
    let edges = ring.map(|(from, to)| format!("n{from},n{to}\n"));
    let rating = |at: usize| {
        let (from, to) = (at * 5 % 12, (at * 7 + 1 + at / 12) % 12);
        let to = if from == to { (to + 1) % 12 } else { to };
        format!("n{from},n{to},{},{}\n", (at * 3 % 11) as i64 - 4, at * 50)
    };
    let ratings = (0..40).map(rating);
    for (file, head, lines) in [
        ("plain/nodes.csv", "id,class,split,a,b,c\n", nodes.collect::<String>()),
        ("plain/edges.csv", "src,dst\n", edges.collect()),
        ("rated/edges.csv", "src,dst,rating,time\n", ratings.collect()),
        ("feedback.jsonl", "", "{\"node\":\"n0\",\"chosen\":\"c0\",\"rejected\":\"c1\"}\n".repeat(2)),
    ] {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, head.to_owned() + &lines).unwrap();
    }
}

#[test]
fn a_false_operation_on_a_graph_is_found_at_every_place() {
    let folder = tempfile::tempdir().unwrap();
    graph(folder.path());
    let recipe = |data: &str, model: &Path, table: &str| {
        let fresh = model == Path::new("fresh");
        let lora = if fresh { "" } else { "lora = { rank = 2 }\n" };
        let data = folder.path().join(data);
        let text = format!(
            "task = \"gnn\"\nbase = {{ model = {model:?}, train = {fresh} }}\ndata = {{ train = {data:?} }}\n\
             run = {{ out = \"o\" }}\ngnn = {{ {table} }}\n{lora}"
        );
        Recipe::parse(Path::new("r"), &text).unwrap()
    };
    // Preferences are learnt by adapters.
    let base = |data: &str, table: &str| {
        let out = folder.path().join(format!("{data}-base"));
        OpenedTask::new(&recipe(data, Path::new("fresh"), table)).unwrap().export(&out, "fresh").unwrap();
        out.join("base")
    };
    let fresh = || PathBuf::from("fresh");
    let tuned = base("plain", "hidden = 4");
    let feedback =
        format!("objective = \"feedback\", dropout = 0.0, feedback = {:?}", folder.path().join("feedback.jsonl"));
    let cases: [(&str, PathBuf, &str, &[&str]); 8] = [
        ("plain", fresh(), "hidden = 4, dropout = 0.3, l2 = 1e-3", &["messages", "thin", "pull", "stated"]),
        ("plain", fresh(), "network = \"sage\", hidden = 4, neighbours = [2, 2]", &["messages"]),
        (
            "plain",
            fresh(),
            "network = \"gat\", heads = 2, hidden = 2, dropout = 0.2, attention_dropout = 0.3",
            &["attend_neighbours", "attend_neighbours_back"],
        ),
        ("plain", fresh(), "objective = \"contrast\", network = \"gat\", hidden = 2", &["attend_neighbours_back"]),
        ("plain", fresh(), "objective = \"links\", split = \"random\", hidden = 4", &[]),
        ("plain", tuned, &feedback, &["lora_back"]),
        ("rated", fresh(), "objective = \"ratings\", split = \"temporal\", hidden = 4", &[]),
        ("rated", fresh(), "objective = \"ratings\", split = \"stream\", hidden = 4", &[]),
    ];
    let run = |(data, model, table, due): (&str, PathBuf, &str, &[&str])| {
        let recipe = recipe(data, &model, table);
        let open = move || Box::new(OpenedTask::new(&recipe).unwrap()) as Box<dyn Held>;
        let honest = Honest::of(Box::new(open), |run| Run { steps: Some(2), batch: 4, accumulate: 2, ..run });
        let kinds = found_everywhere(&honest, 2);
        for kind in due.iter().copied().chain(["task", "mean", "norm", "adam_w"]) {
            assert!(kinds.contains(kind), "{table}: {kind} is not among {kinds:?}");
        }
    };
    // On all cores: nearly all of the time that these tests take is here.
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| run(case));
        }
    });
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
    let read = referee::judge(records.each_ref().map(String::as_str), &read, &losses);
    assert_eq!(read, referee::judge([&ours, &theirs.text], &inputs, &losses));
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

/// The first line with a text.
fn begin_of(lines: &[&str], text: &str) -> usize {
    lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("there is none: {text}"))
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
    // A part of the state among operations; a mean, and a norm, that is there twice.
    let line = begin_of(&lines, "\"kind\":\"mean\"");
    let between = refused(&with(line, &format!("{}\n{}", lines[line], lines[1])));
    assert_eq!(between, format!("line {}: a part of the state stands between operations", line + 2));
    for (kind, what) in [("mean", "means"), ("norm", "norms")] {
        let line = begin_of(&lines, &format!("\"kind\":\"{kind}\""));
        let twice = refused(&with(line, &format!("{0}\n{0}", lines[line])));
        assert_eq!(twice, format!("{what} of gradients are not those of a step"));
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
    assert_eq!(refused(&with(0, "{}")), "line 1 is no beginning of a record");
    assert_eq!(refused(&with(0, &lines[0].replacen("\"record\":1", "\"record\":2", 1))), "is of another version: 2");
    let changed = lines[0].replacen("\"step\":3", "\"step\":4", 1);
    assert_eq!(refused(&with(0, &changed)), "line 1 does not follow from the transcript's line before");
    assert!(refused("").contains("is empty"));
    // The same said in other bytes: a line with a space in it, keys in another order, a line feed too few.
    let spaced = lines[at].replacen(':', ": ", 1);
    assert_eq!(refused(&with(at, &spaced)), format!("line {} is no line of a record", at + 1));
    // Its first key last, of the line's own or of a loss' rule.
    let turned = |line: &str, at: &str| {
        let mut value: Value = serde_json::from_str(line).unwrap();
        let object = value.pointer_mut(at).unwrap().as_object_mut().unwrap();
        let (key, first) = object.iter().next().map(|(key, first)| (key.clone(), first.clone())).unwrap();
        object.shift_remove(&key);
        object.insert(key, first);
        value.to_string()
    };
    assert_eq!(refused(&with(1, &turned(lines[1], ""))), "line 2 is no line of a record");
    assert_eq!(refused(ours.trim_end()), format!("line {} is no line of a record", lines.len()));
    let pairs = honest.record(1, None).text;
    let task = pairs.lines().find(|line| line.contains("\"kind\":\"task\"")).unwrap();
    let verdict = judged([&pairs, &pairs.replacen(task, &turned(task, "/operation/rule"), 1)], &[]);
    assert_eq!(verdict.stands(), Some(0), "{verdict:?}");
    // Parameters of more numbers than there are.
    let mut many: Value = serde_json::from_str(lines[1]).unwrap();
    for shape in [vec![1u64 << 32, 1 << 32], vec![1 << 33], vec![0, 1 << 63, 1 << 63]] {
        many["shape"] = serde_json::json!(shape);
        assert_eq!(refused(&with(1, &many.to_string())), "has parameters of too many numbers", "{shape:?}");
    }
    assert_eq!(refused(&with(at, "{}")), format!("line {} is no line of a record", at + 1));
    // Its transcript claims another state than the record ends with.
    let theirs = rechained(&honest.transcript, |steps| steps[2].after.first = blake3::hash(b"other"));
    let (session, optim) = (Net::new(), optim());
    let mut stepper = Stepper::new(&session, &optim, &honest.run).unwrap();
    (0..2).for_each(|step| drop(stepper.step(step).unwrap()));
    let claims = record(&mut stepper, &theirs, 3, None, |_| {}).unwrap().text;
    assert!(refused(&claims).contains("does not end with the gradients and the state"));
}

#[test]
fn nobody_is_right_about_the_shape_of_a_parameter() {
    let honest = Honest::new();
    let (ours, claim) = (honest.record(3, None).text, &honest.transcript);
    let numbers = honest.record(3, Some(0)).inputs.unwrap().remove(0);
    // Another shape of the same numbers, of which the transcript has no more than they are: the digest that goes with it
    // wherever the parameter is taken.
    let other = numbers.flatten_all().unwrap().reshape((1, ())).unwrap();
    let digests = [&numbers, &other].map(|it| operation::digest(it).unwrap().to_hex().to_string());
    let theirs = ours.replace(&digests[0], &digests[1]);
    assert_eq!(referee::parting([&ours, &theirs]), Some(0));
    // Said to be of the honest shape, it is false, whichever shape the file has.
    for inputs in [&numbers, &other] {
        let verdict = judged([&ours, &theirs], std::slice::from_ref(inputs));
        assert_eq!(verdict.findings, [Finding::Right, Finding::Wrong], "{claim:?}");
    }
    // Said to be of its own, nobody can tell who has no recipe.
    let shape = |tensor: &Tensor| format!("\"shape\":{}", serde_json::to_string(tensor.dims()).unwrap());
    let Entry::Leaf(Leaf { name, .. }) = serde_json::from_str(ours.lines().nth(1).unwrap()).unwrap() else {
        panic!("a record begins with a part of the state")
    };
    let told = |line: &str| {
        let own = line.contains(&format!("\"name\":\"{name}\""));
        if own { line.replacen(&shape(&numbers), &shape(&other), 1) } else { line.to_owned() }
    };
    let theirs: String = theirs.split_inclusive('\n').map(told).collect();
    for inputs in [&numbers, &other] {
        let verdict = judged([&ours, &theirs], std::slice::from_ref(inputs));
        assert_eq!((verdict.stands(), verdict.falls()), (None, false));
        assert!(verdict.reason.unwrap().ends_with("who has the recipe can tell"));
    }
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
