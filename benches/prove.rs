//! The proof engine: `cargo bench --bench prove [-- ROW...]`, where each ROW picks the rows of that name or beginning.
//!
//! Prints for each adapter k, committed columns, times of proof, verification, commitment and registration with keys
//! at hand, bytes, and peak memory. Each row is measured in a process of its own, so that the peak is the row's; the
//! verifier's memory is included. Factors are pseudo-random over all 16 bits, inputs below 2^24, deltas exact.
//! Rows that begin with `large` take minutes and run only when they are named.
//!
//! `cargo bench --bench prove -- end-to-end BASE` measures `ftk commit`, `prove` and `verify` on a base model with a
//! random adapter of rank 8 on all linear layers and a text of some 64 tokens: loading, replay and files included.
//! `-- nodes GRAPH` does so for a graph convolution network of 16 hidden features and random weights on a graph that
//! `ftk gnn import` takes, and the logits of its node of most neighbours, of one of the median, and of a hundred.
//! These are proofs in open mode. `-- replay BASE` times their pass in exact integers alone, of 64 tokens with such an
//! adapter: as the prover computes it, and as a verifier who has the deltas.
//!
//! `-- sealed [GRAPH or BASE...]` measures sealed proofs: the village (24 tokens, of which 8 are generated), a decision of
//! the base of markets, and of each graph that is named (`.npz`, `.graph`) a node, of each base 16 tokens of which 8 are
//! generated; random adapters of rank 8. First the whole commands, then the prover's phases in time and core-seconds, with
//! what they do counted.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ftk::prove::bundle;
use ftk::prove::fixed::of_adapter;
use ftk::prove::opening::{OPENING, OpeningFile};
use ftk::prove::subject::ProvedBase;
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft;
use ftk_adapters::train::{initial_factors, normal_values};
use ftk_circuits::sealed::{Work, verify_sealed};
use ftk_circuits::{
    AdapterCommitment, CommitmentKey, Digest, SiteFactors, SiteRows, SiteShape, commit, prove, register, required_k,
    verify, verify_registration,
};
use ftk_gnn as gnn;
use ftk_gnn::import::{Origin, import};
use ftk_networks::graphs::{GraphNetwork, GraphNetworkKind, Head};
use ftk_networks::ops::Tokens;
use ftk_networks::sites::Role;
use ftk_proofs::bundle::{COMMITMENT, PackedBundle, Proof};
use ftk_proofs::fixed::{Adaptation, Fixed, SiteDeltas};
use ftk_proofs::limits::Limits;
use ftk_proofs::{Case, Deadline, Input, Net, Output, Statement, plan, site_factors};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// As the command has it: the allocator is part of what is measured.
#[global_allocator]
static ALLOCATOR: ftk_bases::budget::Metered = ftk_bases::budget::Metered;

/// `(d_in, rank, d_out)`
type Dims = (u32, u32, u32);

/// What the prover and the verifier of one row do.
#[derive(Clone, Copy)]
enum Task {
    /// A delta proof of so many rows of every site.
    Prove(usize),
    /// A commitment and its registration.
    Register,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, name] = arguments.as_slice()
        && flag == "--row"
    {
        let (_, sites, task) = rows().into_iter().find(|(row, ..)| row == name).expect("a row of the table");
        return measure(name, &sites, task);
    }
    if let [what, base] = arguments.as_slice()
        && what == "end-to-end"
    {
        return end_to_end(Path::new(base));
    }
    if let [what, base] = arguments.as_slice()
        && what == "replay"
    {
        return replay(Path::new(base));
    }
    if let [what, graph] = arguments.as_slice()
        && what == "nodes"
    {
        return nodes(Path::new(graph));
    }
    if let Some(("sealed", places)) = arguments.split_first().map(|(first, places)| (first.as_str(), places)) {
        return sealed(places);
    }
    println!("| row | weights | k | columns | make | verify | bytes | peak MB |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, ..) in rows() {
        let named = arguments.iter().any(|wanted| name.starts_with(wanted.as_str()));
        if named || arguments.is_empty() && !name.starts_with("large") {
            let program = std::env::current_exe().expect("this program has a path");
            let status = Command::new(program).args(["--row", &name]).status().expect("it can be started again");
            assert!(status.success(), "{name} failed");
        }
    }
}

fn rows() -> Vec<(String, Vec<Dims>, Task)> {
    let block = [(768, 4, 2304), (768, 4, 768), (768, 4, 3072), (3072, 4, 768)];
    let llama = [(576, 576), (576, 192), (576, 192), (576, 576), (576, 1536), (576, 1536), (1536, 576)];
    let llama = llama.map(|(d_in, d_out)| (d_in, 8, d_out));
    let mut rows = Vec::new();
    let mut add = |name: &str, sites: Vec<Dims>, counts: &[usize]| {
        for count in counts {
            rows.push((format!("{name} {count} rows"), sites.clone(), Task::Prove(*count)));
        }
        rows.push((format!("{name} registration"), sites, Task::Register));
    };
    add("768x2x256", vec![(768, 2, 256)], &[1, 16, 256]);
    add("768x4x2304", vec![(768, 4, 2304)], &[1, 16, 256]);
    add("distilgpt2", block.repeat(6), &[16]);
    add("6x768x16x2304", vec![(768, 16, 2304); 6], &[16]);
    add("32x2048x8x2048", vec![(2048, 8, 2048); 32], &[16]);
    add("smollm2", llama.repeat(30), &[64]);
    add("large 32x4096x16x4096", vec![(4096, 16, 4096); 32], &[16]);
    rows
}

fn measure(name: &str, dims: &[Dims], task: Task) {
    let mut generator = ChaCha20Rng::seed_from_u64(1);
    let factors: Vec<SiteFactors> = dims
        .iter()
        .enumerate()
        .map(|(i, &(d_in, rank, d_out))| {
            let mut entries = |count: u32| (0..count).map(|_| generator.next_u32() as i16).collect();
            SiteFactors {
                a: entries(rank * d_in),
                b: entries(d_out * rank),
                shape: SiteShape { name: format!("site.{i}"), rank, d_in, d_out, shift_a: 15, shift_b: 15 },
            }
        })
        .collect();
    let shapes: Vec<SiteShape> = factors.iter().map(|site| site.shape.clone()).collect();
    let k = required_k(&shapes).expect("shapes are in bounds");
    let key = CommitmentKey::generate(k).expect("the pinned key");
    let base = Digest([0; 32]);
    let ((commitment, opening), committing) = timed(|| commit(&key, base, &factors).expect("committed"));
    let weights: usize = factors.iter().map(|site| site.a.len() + site.b.len()).sum();
    let silent = &mut |_, _| {};
    let (making, checking, bytes) = match task {
        Task::Prove(count) => {
            let sites: Vec<SiteRows> = factors.iter().map(|site| site_rows(&mut generator, site, count)).collect();
            let statement = Statement {
                base,
                adapter: commitment.digest(),
                context: Vec::new(),
                cases: vec![Case {
                    input: Input::Tokens(vec![0; count]),
                    output: Output::Completion(ftk_proofs::Completion {
                        ids: vec![0],
                        max_tokens: 1,
                        stop_ids: Vec::new(),
                    }),
                }],
            };
            let (proof, making) = timed(|| {
                prove(&key, &statement.bytes(), &commitment, &opening, &factors, &sites, silent).expect("proved")
            });
            let ((), checking) =
                timed(|| verify(&key, &statement.bytes(), &commitment, &sites, &proof).expect("valid"));
            (making, checking, proof.proof.len() + proof.link.len())
        }
        Task::Register => {
            let (registration, making) =
                timed(|| register(&key, &commitment, &opening, &factors, silent).expect("registered"));
            let ((), checking) = timed(|| verify_registration(&key, &commitment, &registration).expect("valid"));
            (committing + making, checking, registration.len())
        }
    };
    println!(
        "| {name} | {weights} | {k} | {} | {making:.3} s | {checking:.3} s | {bytes} | {} |",
        commitment.columns(),
        peak_megabytes("self").map_or_else(|| "?".into(), |peak| peak.to_string()),
    );
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let value = run();
    (value, start.elapsed().as_secs_f64())
}

/// Inputs below 2^24 (256 on the grid) and the exact deltas.
fn site_rows(generator: &mut ChaCha20Rng, site: &SiteFactors, count: usize) -> SiteRows {
    let (rank, d_in, d_out) = (site.shape.rank as usize, site.shape.d_in as usize, site.shape.d_out as usize);
    let inputs: Vec<i64> = (0..count * d_in).map(|_| i64::from(generator.next_u32() as i32 >> 7)).collect();
    let mut deltas = Vec::with_capacity(count * d_out);
    for x in inputs.chunks_exact(d_in) {
        let hidden: Vec<i128> = site
            .a
            .chunks_exact(d_in)
            .map(|row| row.iter().zip(x).map(|(a, x)| i128::from(*a) * i128::from(*x)).sum())
            .collect();
        deltas.extend(
            site.b.chunks_exact(rank).map(|row| row.iter().zip(&hidden).map(|(b, h)| i128::from(*b) * h).sum::<i128>()),
        );
    }
    SiteRows { rows: count, inputs, deltas }
}

/// Some 64 tokens in most vocabularies.
const TEXT: &str = "The year has four seasons. In spring the snow melts, the rivers rise and the first flowers open. Summer \
    is warm and its days are long. In autumn the leaves turn red and fall, and the harvest is brought in. Winter is cold, \
    and in the mountains the snow lies deep until spring comes again.";

/// The commands one after another, each a process of its own.
fn end_to_end(base: &Path) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [adapter, commitment, bundle] = ["adapter", "commitment", "bundle"].map(|name| folder.path().join(name));
    random_adapter(base, &adapter);
    println!("| command | time | peak MB |");
    println!("|---|---|---|");
    let command = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftk"));
        command.args([verb, "--quiet", "--base"]).arg(base);
        command
    };
    row("commit", command("commit").arg("--adapter").arg(&adapter).arg("--out").arg(&commitment));
    let mut prove = command("prove");
    prove.args(["--task", "logits", "--raw", "--open", "--disclose", "--prompt", TEXT]).arg("--adapter").arg(&adapter);
    row("prove", prove.arg("--commitment").arg(&commitment).arg("--out").arg(&bundle));
    row("verify", command("verify").arg(&bundle).args(["--any-input", "--expect-adapter", &digest(&commitment)]));
    println!("bundle: {:.1} MB", megabytes(&bundle));
}

/// Passes of 64 tokens in exact integers.
fn replay(base: &Path) {
    const TOKENS: u32 = 64;
    let folder = tempfile::tempdir().expect("a temporary folder");
    random_adapter(base, folder.path());
    let adapter = of_adapter(&peft::load(folder.path()).expect("the adapter")).expect("on the grid");
    println!("| pass of {TOKENS} tokens | time | core-seconds |\n|---|---|---|");
    let mut clock = Clock::start();
    let model = ProvedBase::open(base).expect("a base").fixed().expect("exact integers");
    clock.lap("base read, to integers");
    let Net::Tokens(network) = model.net() else { panic!("a base of tokens") };
    let ids: Vec<u32> = (0..TOKENS).map(|at| 3 + at * 7919 % (network.vocab() as u32 - 3)).collect();
    let mut tokens = Tokens::default();
    tokens.push_alike(&[&ids]);
    let pass = |adaptation: Adaptation<'_>| {
        let mut ops = Fixed::new(model.base(), adaptation);
        network.forward(&mut ops, &tokens, &[TOKENS as usize - 1]).expect("a pass");
        ops.into_records().expect("all sites visited")
    };
    let records = pass(Adaptation::Factors(&adapter));
    clock.lap("prover, first");
    pass(Adaptation::Factors(&adapter));
    clock.lap("prover");
    let given = records.iter().map(|record| {
        let factors = &adapter.sites[&record.site];
        let deltas = SiteDeltas { rank: factors.rank(), shift: factors.shift(), deltas: &record.deltas };
        (record.site.clone(), deltas)
    });
    let given = given.collect();
    for _ in 0..3 {
        clock = Clock::start();
        pass(Adaptation::Deltas(&given));
        clock.lap("verifier");
    }
}

/// Megabytes of the files of a folder.
fn megabytes(folder: &Path) -> f64 {
    let bytes = |file: std::io::Result<std::fs::DirEntry>| file.expect("a file").metadata().expect("its length").len();
    std::fs::read_dir(folder).expect("a folder").map(bytes).sum::<u64>() as f64 / 1e6
}

/// The same for nodes of a graph.
fn nodes(path: &Path) {
    let (graph, _) = import(&Origin::Path(path.to_owned())).expect("a graph");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [base, adapter, commitment] = ["base", "adapter", "commitment"].map(|name| folder.path().join(name));
    convolutions(&graph, &base);
    random_adapter(&base, &adapter);
    println!("| command | time | peak MB |");
    println!("|---|---|---|");
    let command = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftk"));
        command.args([verb, "--quiet", "--base"]).arg(&base);
        command
    };
    row("commit", command("commit").arg("--adapter").arg(&adapter).arg("--out").arg(&commitment));
    let lists = graph.neighbours();
    let mut order: Vec<usize> = (0..graph.nodes).collect();
    order.sort_by_key(|&node| lists[node].len());
    let (middle, last) = (order[order.len() / 2], order[order.len() - 1]);
    let hundred: Vec<usize> = order.iter().copied().step_by(order.len().div_ceil(100)).collect();
    for (what, nodes) in [("median", vec![middle]), ("most", vec![last]), ("hundred", hundred)] {
        let bundle = folder.path().join(what);
        let mut prove = command("prove");
        prove.arg("--graph").arg(path).args(["--open", "--disclose"]).arg("--adapter").arg(&adapter);
        prove.args(nodes.iter().flat_map(|&node| ["--node".to_owned(), graph.name(node)]));
        row(&format!("prove, {what}"), prove.arg("--commitment").arg(&commitment).arg("--out").arg(&bundle));
        row(
            &format!("verify, {what}"),
            command("verify").arg(&bundle).args(["--any-input", "--expect-adapter", &digest(&commitment)]),
        );
        println!("bundle of {} with {} neighbours: {:.2} MB", what, lists[nodes[0]].len(), megabytes(&bundle));
    }
}

/// Sealed proofs by phases: the village, the market, and the bases and graphs that are named.
fn sealed(places: &[String]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rows = |name: &str, ids: &[u32]| {
        let path = folder.path().join(name).with_extension("jsonl");
        std::fs::write(&path, serde_json::json!({ "prompt_ids": ids }).to_string() + "\n").expect("rows on disk");
        path.display().to_string()
    };
    // Ids that every vocabulary has; what they say does not matter to what a proof costs.
    let ids = |count: u32, below: u32| (0..count).map(|at| 3 + at * at % (below - 3)).collect::<Vec<u32>>();
    let completion = |name: &str, count: u32| {
        let rows = rows(name, &ids(count, 200));
        ["--task", "completion", "--max-tokens", "8", "--rows", &rows].map(str::to_owned).to_vec()
    };
    let among = (0..20).map(|id: u32| id.to_string()).collect::<Vec<_>>().join(",");
    let decision = ["--task", "choice", "--among", &among, "--rows", &rows("window", &ids(80, 140))].map(str::to_owned);
    phases("village, 24 tokens, completion", Path::new("village"), &completion("village", 16));
    phases("market, a decision", Path::new("market"), &decision);
    for place in places {
        let path = Path::new(place);
        if path.extension().is_some_and(|end| end == "npz" || end == "graph") {
            let (graph, _) = import(&Origin::Path(path.to_owned())).expect("a graph");
            let base = folder.path().join("base");
            convolutions(&graph, &base);
            let lists = graph.neighbours();
            let mut order: Vec<usize> = (0..graph.nodes).collect();
            order.sort_by_key(|&node| lists[node].len());
            let node = graph.name(order[order.len() / 2]);
            let asked = ["--graph", place, "--node", &node, "--task", "choice"].map(str::to_owned);
            phases(&format!("{place}, class of a node of the median of neighbours"), &base, &asked);
        } else {
            phases(&format!("{place}, 8 tokens and 8 generated"), path, &completion("text", 8));
        }
    }
}

/// The whole commands of one sealed proof, then its phases in this process.
fn phases(name: &str, base: &Path, asked: &[String]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [adapter, commitment, bundle] = ["adapter", "commitment", "bundle"].map(|name| folder.path().join(name));
    random_adapter(base, &adapter);
    println!("\n{name}\n\n| command | time | peak MB |\n|---|---|---|");
    let command = |verb: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftk"));
        command.args([verb, "--quiet", "--base"]).arg(base);
        command
    };
    row("commit", command("commit").arg("--adapter").arg(&adapter).arg("--out").arg(&commitment));
    let mut prove = command("prove");
    prove.args(asked).arg("--adapter").arg(&adapter).arg("--commitment").arg(&commitment);
    row("prove", prove.arg("--out").arg(&bundle));
    row("verify", command("verify").arg(&bundle).args(["--any-input", "--expect-adapter", &digest(&commitment)]));
    println!("bundle: {:.3} MB", megabytes(&bundle));

    // The answer is in the bundle; the same statement is sealed again.
    let PackedBundle { statement, commitment: known, graph, proof, .. } =
        bundle::packed(&bundle, &Limits::NONE).expect("a bundle");
    let Proof::Sealed { digested, .. } = proof else { panic!("it is sealed") };
    let adapter = peft::load(&adapter).expect("the adapter");
    let fixed_adapter = of_adapter(&adapter).expect("on the grid");
    let factors = site_factors(&fixed_adapter, known.shapes().iter().map(|shape| shape.name.as_str()));
    let opening = OpeningFile::read(&commitment.join(OPENING), known.shapes()).expect("an opening").opening;
    let mut clock = Clock::start();
    let subject = ProvedBase::open(base).expect("a base");
    let fixed = subject.fixed().expect("exact integers");
    println!("\n| phase | time | core-seconds |\n|---|---|---|");
    clock.lap("base read");
    let plan = plan(&fixed, &known, (&statement.cases, &digested), graph.as_ref(), Deadline::NONE).expect("a plan");
    clock.lap("plan");
    let work = Work::of(&plan, &known).expect("the plan is of this commitment");
    clock.lap("counts");
    let key = CommitmentKey::generate(plan.k()).expect("the pinned key");
    clock.lap("key");
    let mut laps = 0;
    let mut progress = |_: usize, _: usize| {
        let what = match laps {
            0 => "cells filled",
            1 => "cells and counts committed to",
            lap if lap < 2 + work.trees => "a tree of fractions",
            lap if lap == 2 + work.trees => "sums of the first stage",
            _ => "sums of the second stage, equation, folded and proved",
        };
        laps += 1;
        clock.lap(what);
    };
    let secret = (&known, &opening, factors.as_slice());
    let proof = ftk_proofs::prove::seal(&key, &statement, secret, &plan, &mut progress).expect("sealed");
    assert_eq!(laps, 4 + work.trees, "progress is told");
    verify_sealed(&key, &statement.bytes(), &known, &plan, &proof).expect("valid");
    clock.lap("verified, base at hand");
    let Work { cells, leaves, products, points, bytes, memory, .. } = work;
    println!(
        "\n| k | cells | leaves | field products of sums | points | bytes | memory MB |\n|---|---|---|---|---|---|---|"
    );
    println!("| {} | {cells} | {leaves} | {products} | {points} | {bytes} | {} |", plan.k(), memory >> 20);
    assert_eq!(bytes, proof.len() as u64);
}

/// Wall time, and time of all cores of this process, since the last lap.
struct Clock {
    wall: Instant,
    cores: f64,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cores: core_seconds() }
    }

    fn lap(&mut self, what: &str) {
        let next = Self::start();
        let wall = (next.wall - self.wall).as_secs_f64();
        println!("| {what} | {wall:.3} s | {:.2} |", next.cores - self.cores);
        *self = next;
    }
}

/// Time of processors that this process has taken, where the system tells; in hundredths.
fn core_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have spaces, user and system time are the 12th and 13th.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// A graph convolution network of 16 hidden features and random weights for a graph, in a folder.
fn convolutions(graph: &gnn::graph::Graph, base: &Path) {
    let features = graph.features.as_ref().expect("features").width();
    let mut network =
        GraphNetwork::new(GraphNetworkKind::Gcn, [features, 16, 2, 1], Head::Convolution, graph.classes.len());
    network.prepare.normalise = true;
    let weights = ftk_gnn::initial::fresh(&network, 1, &candle_core::Device::Cpu).expect("weights");
    ftk_bases::graphs::save(base, &network, &weights).expect("a base on disk");
}

fn random_adapter(base: &Path, folder: &Path) {
    let (network, mut adapter) = (ProvedBase::open(base).expect("a base").net(), Adapter::default());
    let (shapes, mut linear) = (network.shapes(), Vec::new());
    for site in network.sites().into_iter().filter(|site| site.role == Role::Linear) {
        let shape = &shapes[&format!("{}.weight", site.weight)];
        let mut factors = initial_factors(&site.name, 8, (shape[0], shape[1]), 1.0, 1);
        factors.b = normal_values(&site.name, factors.b.len(), 0.01, 1);
        adapter.sites.insert(site.name.clone(), factors);
        linear.push(site.name);
    }
    let turned = matches!(&network, Net::Tokens(network) if network.fan_in_fan_out());
    peft::save(folder, &adapter, "", &linear, turned).expect("an adapter on disk");
}

fn row(name: &str, command: &mut Command) {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn().expect("ftk starts");
    let mut peak = None;
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        peak = peak_megabytes(&child.id().to_string()).or(peak);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{name} failed");
    let peak = peak.map_or_else(|| "?".into(), |peak| peak.to_string());
    println!("| {name} | {:.2} s | {peak} |", start.elapsed().as_secs_f64());
}

/// The digest of what was committed to, without which nothing is valid.
fn digest(commitment: &Path) -> String {
    let bytes = std::fs::read(commitment.join(COMMITMENT)).expect("a commitment");
    AdapterCommitment::decode(&bytes).expect("a commitment").digest().to_string()
}

/// Peak resident memory of a process so far, where the system tells.
fn peak_megabytes(process: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}
