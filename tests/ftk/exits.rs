//! Exit codes when nobody reads what a command says, or it cannot be written: for every verb there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ftk_proofs::Output as Answer;
use serde_json::Value;
use tempfile::TempDir;

use crate::following::{Followed, ratings};
use crate::run::{fixture, ftk, stderr, succeed};
use crate::seller::{Seller, adapter, forged};
use crate::{defi, resume};

/// What was typed, and the code it ends with where all its words arrive.
struct Row {
    command: Command,
    code: i32,
}

/// Everything the verbs need, made once.
struct Workshop {
    folder: TempDir,
    seller: Seller,
    followed: Followed,
    /// Of output folders.
    number: usize,
    #[cfg(feature = "hub")]
    hub: crate::hub::Hub,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes").join(path)
}

impl Workshop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let seller = Seller::new(folder.path().join("seller"), 1);
        let bundle = seller.prove("bundle", "Where does Nora have the stall?");
        forged(&bundle, "answer", |bundle| {
            let Answer::Completion(ftk_proofs::Completion { ids, .. }) = &mut bundle.statement.cases[0].output else {
                panic!("an answer")
            };
            ids[0] ^= 1;
        });
        adapter(&folder.path().join("other"), 2);
        let rows = std::fs::read_to_string(shipped("text/village/heldout.jsonl")).unwrap();
        let few: Vec<&str> = rows.lines().take(4).collect();
        std::fs::write(folder.path().join("pairs.jsonl"), few.join("\n")).unwrap();
        resume::recipe(folder.path(), "");
        let settings = ["--set", "gnn.head=linear", "--set", "run.steps=5"];
        let mut guilds = ftk(&["train", "--quiet", "--recipe", text(&shipped("gnn/guilds.toml"))]);
        succeed(guilds.args(settings).arg("--out").arg(folder.path().join("guilds")));
        defi::kept(folder.path());
        let bars = "timestamp,open,high,low,close,volume\n1640991600,5,6,4,5.5,1\n1640991660,5.5,6,5,6,0\n";
        std::fs::write(folder.path().join("bars.csv"), bars).unwrap();
        #[cfg(feature = "hub")]
        let hub = crate::hub::Hub::with_model();
        let followed = Followed::new(1000);
        followed.table("late.csv", &ratings(600, 640, 1000));
        Self {
            folder,
            seller,
            followed,
            number: 0,
            #[cfg(feature = "hub")]
            hub,
        }
    }

    /// A path that nothing is at.
    fn fresh(&mut self) -> String {
        self.number += 1;
        text(&self.folder.path().join(format!("out-{}", self.number))).to_owned()
    }

    /// The rows of a verb; a verb without one fails the test.
    fn rows(&mut self, verb: &str) -> Vec<Row> {
        let out = self.fresh();
        let folder = self.folder.path().to_owned();
        let place = |name: &str| text(&folder.join(name)).to_owned();
        let digest = self.seller.digest.clone();
        let (own, commitment, bundle) = (place("seller/adapter"), place("seller/commitment"), place("seller/bundle"));
        let (pairs, dpo, guilds) = (
            place("pairs.jsonl"),
            text(&shipped("text/village/dpo.toml")).to_owned(),
            text(&shipped("gnn/guilds.toml")).to_owned(),
        );
        let row = |arguments: &[&str], code: i32| {
            let mut command = ftk(&verb.split(' ').collect::<Vec<_>>());
            command.args(arguments).current_dir(&folder);
            Row { command, code }
        };
        let done = |arguments: &[&str]| vec![row(&[&["--json"], arguments].concat(), 0)];
        let village = ["--base", "village"];
        match verb {
            // Of its own in `a_run_whose_output_is_closed...`: its code is that of SIGTERM then.
            "train" => vec![row(&["--json", "--dry-run", "--recipe", &place("recipe.toml")], 0)],
            // As of `train`; its processes are looked at in `batch`.
            "batch" => {
                let plan = format!("recipes = [\"dpo\"]\nout = \"{out}\"\n[grid]\nrun.seed = [1, 2]\n");
                std::fs::write(folder.join("batch.toml"), plan).unwrap();
                vec![row(&["batch.toml", "--dry-run"], 0), row(&["--json", "batch.toml", "--dry-run"], 0)]
            }
            "report" => done(&[&place("guilds"), "--out", &out]),
            #[cfg(feature = "hub")]
            "pull" => vec![Row { command: self.hub.ftk(&["pull", "--json", "org/tiny"]), code: 0 }],
            #[cfg(not(feature = "hub"))]
            "pull" => vec![row(&["--json", "org/tiny"], 2)],
            "push" => done(&[&own, "--to", "org/name", "--dry-run"]),
            "data preview" => [&["--recipe", dpo.as_str()][..], &["--json", "--recipe", &dpo]]
                .map(|arguments| row(arguments, 0))
                .into(),
            "doctor" => vec![row(&["--offline"], 0), row(&["--json", "--offline"], 0)],
            "completions" => vec![row(&["bash"], 0), row(&["--json", "fish"], 0)],
            "man" => done(&["--out", &out]),
            "recipes ls" | "schema" => vec![row(&[], 0), row(&["--json"], 0)],
            "recipes show" => vec![row(&["dpo"], 0), row(&["no-such-recipe", "--json"], 2)],
            "recipes cp" => done(&["dpo", &out]),
            "recipes check" => done(&[&dpo]),
            "estimate" => done(&["--recipe", &dpo]),
            "eval" => done(&[&village[..], &["--data", &pairs, "--task", "dpo"]].concat()),
            "inspect" => done(&[&own]),
            "merge" => done(&[&village[..], &["--adapter", &own, "--out", &out]].concat()),
            "average" => done(&[&own, "--out", &out]),
            "convert" => done(&[&village[..], &[&own, "--out", &out]].concat()),
            "generate" => [&["--prompt", "Hi"][..], &["--prompt", "Hi", "--json"]]
                .map(|arguments| row(&[&village[..], arguments].concat(), 0))
                .into(),
            "chat" => {
                let said = folder.join("said.txt");
                std::fs::write(&said, "Hi\n/quit\n").unwrap();
                let talking = |more: &[&str]| {
                    let Row { mut command, code } = row(&[&village[..], more].concat(), 0);
                    command.stdin(std::fs::File::open(&said).unwrap());
                    Row { command, code }
                };
                vec![talking(&[]), talking(&["--json"])]
            }
            "logits" => {
                let (base, ids) = (fixture("micro-llama/base"), fixture("micro-llama/logits.safetensors"));
                done(&["--base", text(&base), "--ids", text(&ids), "--out", &out])
            }
            "commit" => done(&[&village[..], &["--adapter", &own, "--out", &out]].concat()),
            "open" => vec![
                row(&[&own, "--commitment", &commitment], 0),
                row(
                    &[
                        &place("other"),
                        "--commitment",
                        &commitment,
                        "--opening",
                        &place("seller/commitment/opening.bin"),
                    ],
                    1,
                ),
            ],
            "prove" => {
                let asked = ["--prompt", "Hi", "--max-tokens", "4", "--open", "--disclose", "--json"];
                let made = ["--adapter", &own, "--commitment", &commitment, "--out", &out];
                vec![row(&[&village[..], &made, &asked].concat(), 0)]
            }
            "verify" => {
                let judged = |bundle: &str, more: &[&str], code: i32| {
                    row(&[&[bundle], &village[..], &["--any-input"], more].concat(), code)
                };
                let forged = place("seller/forged/answer");
                let known = ["--expect-adapter", &digest];
                vec![
                    judged(&bundle, &known, 0),
                    judged(&bundle, &[&known[..], &["--json"]].concat(), 0),
                    judged(&bundle, &[], 2),
                    judged(&forged, &known, 1),
                    judged(&forged, &["--json"], 1),
                    judged(&forged, &[&bundle], 1),
                ]
            }
            "audit" => {
                let (run, other) = (place("guilds"), "0".repeat(64));
                vec![
                    row(&[&run, "--no-steps"], 0),
                    row(&["--json", &run], 0),
                    row(&[&run, "--no-steps", "--expect-root", &other], 1),
                ]
            }
            "referee" => {
                let [run, theirs, dispute] = ["run", "theirs", "dispute"].map(|name| format!("{out}-{name}"));
                succeed(&mut ftk(&["train", "--quiet", "sft", "--set", "run.steps=1", "--out", &run]));
                let step = ["audit", "--quiet", &run, "--step", "1"];
                succeed(ftk(&step).args(["--record", &theirs]));
                let text = std::fs::read_to_string(&theirs).unwrap();
                std::fs::write(&theirs, text.replacen("\"outputs\":[\"", "\"outputs\":[\"0", 1)).unwrap();
                let parted = ftk(&step).args(["--dispute", &theirs, "--out", &dispute]).output().unwrap();
                assert_eq!(parted.status.code(), Some(1), "{}", stderr(&parted));
                vec![row(&[&dispute], 0), row(&["--json", &dispute], 0), row(&["--json", &theirs], 1)]
            }
            "gnn import" => done(&[text(&shipped("gnn/guilds"))]),
            "gnn score" => {
                let (base, graph) = (place("guilds/base"), shipped("gnn/guilds"));
                [&[][..], &["--json"]]
                    .map(|more| row(&[&["--base", &base, "--graph", text(&graph)], more].concat(), 0))
                    .into()
            }
            "gnn feedback" => {
                let command =
                    |more: &[&str]| self.followed.follow(&format!("{out}{}", more.len()), &["late.csv"], more);
                vec![Row { command: command(&[]), code: 0 }, Row { command: command(&["--json"]), code: 0 }]
            }
            "gnn ablate" => {
                let base = format!("base.model={}", place("guilds/base"));
                let settings = ["base.train=false", &base, "lora.rank=2", "gnn.l2=0", "run.steps=2"];
                let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
                done(&[&["--recipe", &guilds, "--seeds", "1", "--out", &out], &settings[..]].concat())
            }
            "defi import" => done(&["bars.csv", "--out", &out]),
            "defi backtest" => done(&["--plan", "plan.toml", "--out", &out]),
            "defi report" => done(&["run", "--out", &out]),
            "defi replay" => done(&["events.csv", "--positions", "mine.csv", "--fee", "500", "--decimals", "6,18"]),
            "defi quote" => done(&["--plan", "plan.toml", "--state", "state.json"]),
            "defi audit" => {
                let log = ["--plan", "plan.toml", "--log", "run/window-1/decisions.jsonl"];
                let other = "0".repeat(64);
                vec![row(&log, 0), row(&[&log[..], &["--expect-head", &other]].concat(), 1)]
            }
            "demo" => done(&[]),
            unknown => panic!("how does `ftk {unknown}` end when nobody reads what it says? Add a row"),
        }
    }
}

/// The verbs that do something, as they are typed.
pub fn verbs(command: &clap::Command, above: &str, found: &mut BTreeSet<String>) {
    for verb in command.get_subcommands() {
        let name = format!("{above}{}", verb.get_name());
        if verb.has_subcommands() {
            verbs(verb, &format!("{name} "), found);
        } else {
            found.insert(name);
        }
    }
}

/// A pipe whose reader went away.
fn closed() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

/// A device that has room for nothing.
fn full() -> Stdio {
    std::fs::File::options().write(true).open("/dev/full").unwrap().into()
}

#[test]
#[cfg(target_os = "linux")]
fn every_verb_keeps_its_answer_when_its_words_are_lost() {
    let mut workshop = Workshop::new();
    let mut all = BTreeSet::new();
    verbs(&ftk::cli::command(), "", &mut all);
    assert!(all.len() > 20, "{all:?}");
    for verb in &all {
        // Words that a reader no longer wants are not missed; the way errors go is closed, too.
        for Row { mut command, code } in workshop.rows(verb) {
            let status = command.stdout(closed()).stderr(full()).status().unwrap();
            assert_eq!(status.code(), Some(code), "closed: {command:?}");
        }
        // Words that were lost are: the answer is still no, but yes was not said.
        for Row { mut command, code } in workshop.rows(verb) {
            let output = command.stdout(full()).output().unwrap();
            let expected = if code == 0 { 2 } else { code };
            assert_eq!(output.status.code(), Some(expected), "full: {command:?}\n{}", stderr(&output));
            let said = stderr(&output);
            assert!(said.contains("cannot write to standard output: No space left"), "{command:?}\n{said}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn help_and_usage_have_the_codes_of_commands() {
    for (arguments, code) in [(&["--help"][..], 0), (&["help", "train"], 0), (&["--version"], 0), (&["trian"], 2)] {
        let end = |stdout: Stdio, stderr: Stdio| {
            ftk(arguments).stdout(stdout).stderr(stderr).status().unwrap().code().unwrap()
        };
        assert_eq!(end(closed(), full()), code, "{arguments:?}");
        assert_eq!(end(full(), closed()), 2, "{arguments:?}");
    }
}

/// Runs the recipe of [`resume`] into a folder.
fn train(folder: &Path, out: &Path, arguments: &[&str], stdout: Stdio) -> Output {
    let mut command = ftk(&["train", "--recipe"]);
    command.arg(folder.join("recipe.toml")).arg("--out").arg(out).args(arguments).stdout(stdout);
    command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn a_run_whose_output_is_closed_or_lost_writes_its_checkpoint_and_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    resume::recipe(folder.path(), "");
    let place = |name: &str| folder.path().join(name);
    let whole = train(folder.path(), &place("whole"), &["--quiet"], Stdio::null());
    assert!(whole.status.success(), "{}", stderr(&whole));
    for (name, stdout) in [("closed", closed()), ("full", full())] {
        let output = train(folder.path(), &place(name), &["--json"], stdout);
        assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
        assert!(stderr(&output).contains("stopped after step 1 of 60; go on with the same command and --resume"));
        let checkpoint = std::fs::metadata(place(name).join("checkpoint.safetensors")).unwrap();
        assert!(checkpoint.len() > 0 && !place(name).join("adapter_model.safetensors").exists());
        let output = train(folder.path(), &place(name), &["--resume", "--quiet"], Stdio::null());
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(resume::files(&place(name)), resume::files(&place("whole")), "{name}");
    }
    // A reader that takes two lines, as `head -2` does.
    let mut command = ftk(&["train", "--json", "--quiet", "--recipe"]);
    command.arg(place("recipe.toml")).arg("--out").arg(place("head")).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut read = String::new();
    for _ in 0..2 {
        std::io::BufRead::read_line(&mut lines, &mut read).unwrap();
    }
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let first: Vec<Value> = read.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(first[0]["data"].is_array() && first[1]["step"] == 1, "{read}");
    assert!(place("head/checkpoint.safetensors").exists());
}
