//! No secret outside the opening file and the adapter: not in logs, JSON, errors, bundles, temporary files or the
//! cache, in any of the forms in which numbers are written.

use std::path::Path;
use std::process::Command;

use candle_core::Device;
use ftk::prove::fixed::of_adapter;
use ftk::prove::keys::commitment_key;
use ftk::prove::opening::{OPENING, OpeningFile};
use ftk_adapters::peft;
use ftk_adapters::train::LoraTensors;
use ftk_bases::BaseModel;
use ftk_circuits::{AdapterCommitment, SiteFactors, register};
use ftk_proofs::digested::Digested;
use ftk_proofs::fixed::{FixedAdapter, SiteRecord};
use ftk_proofs::prove::{answer, seal};
use ftk_proofs::{Case, Choice, Deadline, FixedModel, Input, Output, Statement, plan, site_factors};

use crate::run::{ftk, succeed};
use crate::seller::adapter_of_rank;

/// Everything that a folder holds but the files of these names, compressed deltas expanded, with where it was found.
fn contents(folder: &Path, but: &[&str], found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            contents(&path, but, found);
        } else if !but.iter().any(|but| name == *but) {
            let bytes = std::fs::read(&path).unwrap();
            if name == "deltas.bin" {
                found.push((format!("{} expanded", path.display()), zstd::decode_all(&bytes[..]).unwrap()));
            }
            found.push((path.display().to_string(), bytes));
        }
    }
}

/// An unsigned integer of 32 little-endian bytes in decimal.
fn decimal(bytes: &[u8]) -> String {
    let mut digits = vec![0u8];
    for byte in bytes.iter().rev() {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            let value = u32::from(*digit) * 256 + carry;
            (*digit, carry) = ((value % 10) as u8, value / 10);
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

fn hex(bytes: impl Iterator<Item = u8>) -> String {
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

/// What must be found nowhere: each blind, and runs of eight factors, in every usual form.
fn secrets(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let commitment = std::fs::read(folder.join("commitment/commitment.bin")).unwrap();
    let commitment = AdapterCommitment::decode(&commitment).unwrap();
    let file = OpeningFile::read(&folder.join("commitment").join(OPENING), commitment.shapes()).unwrap();
    let opening = file.opening.encode();
    let mut secrets = Vec::new();
    // Tag, version and count come first.
    for (index, blind) in opening[opening.len() % 32..].chunks_exact(32).enumerate() {
        let name = |form: &str| format!("blind {index} {form}");
        secrets.push((name("as bytes"), blind.to_vec()));
        secrets.push((name("as bytes, big-endian"), blind.iter().rev().copied().collect()));
        secrets.push((name("in hexadecimal"), hex(blind.iter().copied()).into_bytes()));
        secrets.push((name("in hexadecimal, big-endian"), hex(blind.iter().rev().copied()).into_bytes()));
        secrets.push((name("in decimal"), decimal(blind).into_bytes()));
    }
    assert!(secrets.len() >= 5 * 4, "there are blinds");
    let adapter = peft::load(&folder.join("adapter")).unwrap();
    for (site, factors) in &of_adapter(&adapter).unwrap().sites {
        let floats = &adapter.sites[site];
        for (factor, integers, floats) in [("A", factors.a(), &floats.a), ("B", factors.b(), &floats.b)] {
            let (integers, floats) = (&integers[..8], &floats[..8]);
            let name = |form: &str| format!("{factor} of {site} {form}");
            let list = |separator: &str| integers.iter().map(i16::to_string).collect::<Vec<_>>().join(separator);
            let bytes = |each: fn(i16) -> Vec<u8>| integers.iter().flat_map(|value| each(*value)).collect::<Vec<u8>>();
            secrets.push((name("as 16-bit integers"), bytes(|value| value.to_le_bytes().to_vec())));
            secrets.push((name("with offset"), bytes(|value| (value as u16 ^ 0x8000).to_le_bytes().to_vec())));
            secrets.push((name("as 64-bit integers"), bytes(|value| i64::from(value).to_le_bytes().to_vec())));
            secrets.push((name("as floats"), floats.iter().flat_map(|value| value.to_le_bytes()).collect()));
            secrets.push((name("as text"), list(",").into_bytes()));
            secrets.push((name("as spaced text"), list(", ").into_bytes()));
            let text = floats.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
            secrets.push((name("as text of floats"), text.into_bytes()));
        }
    }
    secrets
}

fn holds(content: &[u8], secret: &[u8]) -> bool {
    content.windows(secret.len()).any(|window| window == secret)
}

/// Everything secret in a folder with `adapter` and `commitment`, as a prover holds it.
struct Held {
    commitment: AdapterCommitment,
    opening: OpeningFile,
    adapter: ftk_adapters::lora::Adapter,
    fixed: FixedAdapter,
    factors: Vec<SiteFactors>,
}

impl Held {
    fn read(folder: &Path) -> Self {
        let commitment = std::fs::read(folder.join("commitment/commitment.bin")).unwrap();
        let commitment = AdapterCommitment::decode(&commitment).unwrap();
        let opening = OpeningFile::read(&folder.join("commitment").join(OPENING), commitment.shapes()).unwrap();
        let adapter = peft::load(&folder.join("adapter")).unwrap();
        let fixed = of_adapter(&adapter).unwrap();
        let factors = site_factors(&fixed, commitment.shapes().iter().map(|shape| shape.name.as_str()));
        Self { commitment, opening, adapter, fixed, factors }
    }

    /// All of it as `Debug` has it, which is what an assertion or `expect` would write.
    fn printed(&self) -> String {
        let Self { commitment: _, opening, adapter, fixed, factors } = self;
        let tensors = LoraTensors::frozen(adapter, &Device::Cpu).unwrap();
        let (one, many) = (&factors[0], &opening.opening);
        format!("{opening:?} {many:?} {adapter:?} {tensors:?} {fixed:?} {factors:?} {one:#?} {fixed:#?} {adapter:#?}")
    }
}

/// Numbers of the opening and the adapter are in no text but that of their bytes: no type shows them.
#[test]
fn what_is_secret_cannot_be_printed() {
    let place = tempfile::tempdir().unwrap();
    committed(place.path(), 33);
    let held = Held::read(place.path());
    let printed = held.printed();
    assert!(printed.contains("Factors of rank 2") && printed.contains("Opening of "), "{printed}");
    // Line breaks and spaces apart, and each number alone where it is long enough to be no accident.
    let dense: String = printed.split_whitespace().collect();
    for (secret, form) in &secrets(place.path()) {
        assert!(!holds(printed.as_bytes(), form) && !holds(dense.as_bytes(), form), "{secret}");
    }
    for factors in held.adapter.sites.values() {
        for value in factors.a.iter().chain(&factors.b).map(f32::to_string).filter(|text| text.len() > 5) {
            assert!(!printed.contains(&value), "{value}");
        }
    }
}

/// An adapter of fewer ranks than rows, committed to.
fn committed(folder: &Path, seed: u64) {
    adapter_of_rank(&folder.join("adapter"), seed, 2);
    let mut command = ftk(&["commit", "--base", "village", "--quiet", "--adapter", "adapter", "--out", "commitment"]);
    succeed(command.current_dir(folder));
}

/// The village's pass over a prompt and its answer, with what each site takes and adds.
fn passed(adapter: &FixedAdapter) -> (FixedModel, Vec<Case>, Vec<SiteRecord>) {
    let model = ftk::prove::model::read(&BaseModel::open(Path::new("village")).unwrap()).unwrap();
    let ids: Vec<u32> = vec![1, 268, 201, 42, 75, 2, 201, 1, 269, 201];
    let output = Output::Choice(Choice { among: (40..60).collect(), chosen: 40 });
    let cases = vec![Case { input: Input::Tokens(ids), output }];
    let (cases, records) =
        answer(&model, adapter, cases, None, None, |_, _| unreachable!("nothing is continued")).unwrap();
    (model, cases, records)
}

/// Set for the process that is to panic: its folder, and where.
const PANIC_IN: &str = "FTK_TEST_PANIC_IN";
const PANIC_AT: &str = "FTK_TEST_PANIC_AT";

/// Panics in the middle of the prover's work, in what it calls back, with everything secret at hand.
fn panic_in(folder: &Path, at: &str) {
    let held = Held::read(folder);
    let printed = held.printed();
    let Held { commitment, opening, fixed, factors, .. } = held;
    match at {
        "register" => {
            let key = commitment_key(commitment.k()).unwrap();
            let mut progress = |done: usize, _: usize| assert!(done == 0, "in the middle of {at}: {printed}");
            let _ = register(&key, &commitment, &opening.opening, &factors, &mut progress);
        }
        "answer" => {
            let source = BaseModel::open(Path::new("village")).unwrap();
            let model = ftk::prove::model::read(&source).unwrap();
            let output =
                Output::Completion(ftk_proofs::Completion { ids: Vec::new(), max_tokens: 4, stop_ids: Vec::new() });
            let cases = vec![Case { input: Input::Tokens(vec![5, 6, 7]), output }];
            let _ = answer(&model, &fixed, cases, None, None, |_, _| panic!("in the middle of {at}: {printed}"));
        }
        "seal" => {
            let (model, cases, _) = passed(&fixed);
            let plan = plan(&model, &commitment, (&cases, &Digested::default()), None, Deadline::NONE).unwrap();
            let statement =
                Statement { base: model.digest(), adapter: commitment.digest(), context: Vec::new(), cases };
            let key = commitment_key(plan.k()).unwrap();
            let secret = (&commitment, &opening.opening, factors.as_slice());
            let mut progress = |done: usize, _: usize| assert!(done < 2, "in the middle of {at}: {printed}");
            let _ = seal(&key, &statement, secret, &plan, &mut progress);
        }
        // A check of the prover's that fails, as it would be written down.
        _ => {
            let other: Vec<SiteFactors> = factors.iter().rev().cloned().collect();
            assert_eq!((&opening, &factors), (&opening, &other), "in the middle of {at}");
        }
    }
}

#[test]
fn a_panic_tells_no_secret() {
    if let (Some(folder), Ok(at)) = (std::env::var_os(PANIC_IN), std::env::var(PANIC_AT)) {
        return panic_in(Path::new(&folder), &at);
    }
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    committed(folder, 34);
    let secrets = secrets(folder);
    let mut said = Vec::new();
    // The library, in this program: what it calls back panics.
    for at in ["register", "answer", "seal", "assertion"] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "secrets::a_panic_tells_no_secret", "--nocapture", "--test-threads", "1"]);
        let output = command.env(PANIC_IN, folder).env(PANIC_AT, at).env("RUST_BACKTRACE", "full").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(101), "{at}: {stderr}");
        assert!(stderr.contains(&format!("in the middle of {at}")) && stderr.contains("stack backtrace"), "{stderr}");
        said.push((at.to_owned(), [output.stdout, output.stderr].concat()));
    }
    // The command, where the system gives it no thread: no stack is that large.
    for (verb, more) in [
        ("commit", &["--out", "again"][..]),
        ("prove", &["--commitment", "commitment", "--prompt", "Hello", "--out", "bundle", "--open", "--disclose"]),
        (
            "prove",
            &["--commitment", "commitment", "--prompt", "Hello", "--raw", "--out", "bundle", "--open", "--disclose"],
        ),
    ] {
        let mut command = ftk(&[verb, "--base", "village", "--json", "--adapter", "adapter"]);
        command.args(more).current_dir(folder).env("RUST_BACKTRACE", "full").env("RUST_LOG", "trace");
        let output = command.env("RUST_MIN_STACK", (1u64 << 60).to_string()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let where_it_was = format!("ftk::commands::{verb}::");
        for part in ["panicked at", "stack backtrace", &where_it_was] {
            assert!(stderr.contains(part), "{verb} {more:?}: {part}: {stderr}");
        }
        said.push((verb.to_owned(), [output.stdout, output.stderr].concat()));
    }
    contents(folder, &[OPENING, "adapter_model.safetensors"], &mut said);
    for (secret, form) in &secrets {
        for (content, bytes) in &said {
            assert!(!holds(bytes, form), "{secret} in {content}");
        }
    }
}

#[test]
fn no_secret_leaves_the_opening_file() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    // Of fewer ranks than rows: to prove needs agreement.
    adapter_of_rank(&folder.join("adapter"), 31, 2);
    for name in ["cache", "tmp"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    let mut said: Vec<(String, Vec<u8>)> = Vec::new();
    let mut run = |what: &str, command: &mut Command, code: i32| {
        command.env("RUST_BACKTRACE", "1").env("RUST_LOG", "trace").current_dir(folder);
        command.env("FTK_CACHE", folder.join("cache")).env("TMPDIR", folder.join("tmp"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        said.push((format!("stdout of {what}"), output.stdout));
        said.push((format!("stderr of {what}"), output.stderr));
    };
    let arguments = |verb: &'static str| {
        let mut command = ftk(&[verb, "--base", "village", "--json", "--adapter", "adapter"]);
        command.args(if verb == "commit" { &["--out", "commitment"][..] } else { &["--commitment", "commitment"] });
        command
    };
    run("commit", &mut arguments("commit"), 0);
    let prove = |out: &'static str| {
        let mut command = arguments("prove");
        command.args(["--prompt", "Hello", "--max-tokens", "3", "--out", out]);
        command
    };
    run("prove", prove("bundle").args(["--open", "--disclose"]), 0);
    run("seal", &mut prove("sealed"), 0);
    run("open", ftk(&["open", "adapter", "--commitment", "commitment", "--json"]).arg("--quiet"), 0);
    run("inspect", &mut ftk(&["inspect", "commitment"]), 0);
    // Errors: an agreement that is missing, a folder that is taken, an adapter that was not committed to.
    run("prove without agreement", prove("refused").arg("--open"), 2);
    run("commit twice", &mut arguments("commit"), 2);
    adapter_of_rank(&folder.join("other"), 32, 2);
    run("prove with another adapter", prove("refused").args(["--adapter", "other", "--open", "--disclose"]), 2);
    let secrets = secrets(folder);
    // A damaged opening: one blind out of range, so that it is no scalar.
    let opening = folder.join("commitment").join(OPENING);
    let whole = std::fs::read(&opening).unwrap();
    let mut damaged = whole.clone();
    let first = whole.windows(12).position(|window| window == b"ftk opening\0").unwrap() + 12 + 8;
    damaged[first + 31] = 0xff;
    std::fs::write(&opening, &damaged).unwrap();
    run("prove with a damaged opening", prove("refused").args(["--open", "--disclose"]), 2);
    run("seal with a damaged opening", &mut prove("refused"), 2);
    std::fs::write(&opening, &whole).unwrap();

    contents(folder, &[OPENING, "adapter_model.safetensors"], &mut said);
    assert!(said.iter().any(|(name, _)| name.contains("commitment-key")), "the cache was looked at");
    for (secret, form) in &secrets {
        for (content, bytes) in &said {
            assert!(!holds(bytes, form), "{secret} in {content}");
        }
    }
    // The search finds what is there.
    assert!(holds(&whole, &secrets[0].1));
    let factors = std::fs::read(folder.join("adapter/adapter_model.safetensors")).unwrap();
    let floats = secrets.iter().find(|(name, _)| name.ends_with("as floats")).unwrap();
    assert!(holds(&factors, &floats.1));
}

/// What a pass computes is nowhere: not as integers, not as what the field has in their place.
#[test]
fn a_sealed_proof_tells_nothing_of_its_pass() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    committed(folder, 36);
    let Held { fixed, .. } = Held::read(folder);
    let (_, _, records) = passed(&fixed);
    std::fs::create_dir(folder.join("tmp")).unwrap();
    let mut command =
        ftk(&["prove", "--base", "village", "--json", "--adapter", "adapter", "--commitment", "commitment"]);
    let among: Vec<String> = (40..60).map(|id: u32| id.to_string()).collect();
    command.args(["--prompt", "Hi", "--among", &among.join(","), "--out", "bundle"]).current_dir(folder);
    let output = command.env("RUST_LOG", "trace").env("TMPDIR", folder.join("tmp")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut said = vec![("stdout".to_owned(), output.stdout), ("stderr".to_owned(), output.stderr)];
    contents(folder, &[OPENING, "adapter_model.safetensors"], &mut said);
    let statement = String::from_utf8(std::fs::read(folder.join("bundle/statement.json")).unwrap()).unwrap();
    assert!(statement.contains("268") && statement.contains("choice"), "it is the same pass: {statement}");
    let mut witness = Vec::new();
    for (site, record) in records.iter().enumerate() {
        // Three that differ, so that none is a run of zeros.
        let inputs: Vec<i128> = record.inputs.iter().map(|input| i128::from(*input)).collect();
        for (what, values) in [("input", inputs), ("delta", record.deltas.clone())] {
            let run = values.windows(3).find(|run| run.iter().all(|value| value.unsigned_abs() > 9)).unwrap();
            let name = |form: &str| format!("{what} of site {site} {form}");
            let bytes = |width: usize| run.iter().flat_map(|value| value.to_le_bytes()[..width].to_vec()).collect();
            for width in [4, 8, 16] {
                witness.push((name(&format!("in {width} bytes")), bytes(width)));
            }
            let list = |separator: &str| run.iter().map(i128::to_string).collect::<Vec<_>>().join(separator);
            witness.push((name("as text"), list(",").into_bytes()));
            witness.push((name("as spaced text"), list(", ").into_bytes()));
        }
    }
    for (secret, form) in secrets(folder).iter().chain(&witness) {
        for (content, bytes) in &said {
            assert!(!holds(bytes, form), "{secret} in {content}");
        }
    }
    // A small integer of either sign in the field has a run of equal bytes, and nothing that hides one does.
    let sealed = std::fs::read(folder.join("bundle/sealed.bin")).unwrap();
    assert!(!sealed.windows(8).any(|run| run == [0; 8] || run == [0xff; 8]), "an integer in the clear");
    // The search finds what is there.
    let inputs: Vec<u8> = records[0].inputs.iter().flat_map(|input| input.to_le_bytes()).collect();
    assert!(witness.iter().any(|(_, form)| holds(&inputs, form)));
}
