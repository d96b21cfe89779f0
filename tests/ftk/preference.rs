//! Preference runs: their losses, and the reference's figures that are computed once.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::resume::{STEPS, files, kill_after};
use crate::run::{fixture, ftk, stderr, succeed};

/// Pairs trained on.
const PAIRS: usize = 8;

/// Completions of very different lengths, so that a mean over tokens is not one over pairs.
fn pairs(first: usize, count: usize) -> Vec<Value> {
    let ids = |seed: usize, length: usize| (0..length).map(|i| (i * 37 + seed * 101 + i * i) % 512).collect::<Vec<_>>();
    let pair = |row: usize| {
        json!({
            "prompt_ids": ids(row, 3 + row % 4), "chosen_ids": ids(row + 50, 1 + 3 * (row % 5)),
            "rejected_ids": ids(row + 70, 2 + 2 * (row % 3))
        })
    };
    (first..first + count).map(pair).collect()
}

/// Writes rows and a recipe whose run goes to `out`.
fn prepare(folder: &Path, dpo: &str, run: &str) {
    let lines = |rows: Vec<Value>| rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    std::fs::write(folder.join("rows.jsonl"), lines(pairs(0, PAIRS))).unwrap();
    std::fs::write(folder.join("held.jsonl"), lines(pairs(20, 3))).unwrap();
    let recipe = format!(
        "task = \"dpo\"\n[base]\nmodel = {:?}\n[data]\ntrain = \"rows.jsonl\"\nheld_out = \"held.jsonl\"\n\
         [lora]\nstart = {:?}\n[optim]\nlr = 1e-3\n[dpo]\n{dpo}\n[run]\nout = \"out\"\neval_every = 2\n{run}\n",
        fixture("micro-llama/base"),
        fixture("micro-llama/adapter"),
    );
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
}

fn train(folder: &Path, more: &[&str]) -> Output {
    ftk(&["train", "--recipe"]).arg(folder.join("recipe.toml")).args(more).output().unwrap()
}

/// The figures of each step.
fn figures(dpo: &str, run: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path(), dpo, run);
    succeed(ftk(&["--quiet", "train", "--recipe"]).arg(folder.path().join("recipe.toml")));
    records(folder.path())
}

fn records(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("out/metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn figure(record: &Value, name: &str) -> f64 {
    record[name].as_f64().unwrap_or_else(|| panic!("{name} is not in {record}"))
}

/// Every figure of the one is in the other, and as large.
fn near(ours: &[Value], theirs: &[Value], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours.as_object().unwrap().len(), theirs.as_object().unwrap().len());
        for (name, value) in ours.as_object().unwrap() {
            let (ours, theirs) = (value.as_f64().unwrap(), figure(theirs, name));
            let apart = (ours - theirs).abs() / theirs.abs().max(1.0);
            assert!(apart < tolerance, "{name} at step {}: {ours} against {theirs}", value["step"]);
        }
    }
}

#[test]
fn figures_of_the_reference_computed_before_or_in_every_batch_train_alike() {
    for reference in ["base", "start"] {
        let run = |cache: bool| {
            figures(
                &format!("reference = {reference:?}\ncache = {cache}"),
                "batch = 3\naccumulate = 2\nsteps = 4\nshuffle = false",
            )
        };
        let (before, within) = (run(true), run(false));
        near(&before, &within, 1e-5);
        let first = figure(&before[0], "loss");
        assert_eq!((first - std::f64::consts::LN_2).abs() < 1e-5, reference == "start", "{first}");
    }
}

#[test]
fn what_is_kept_of_the_reference_does_not_depend_on_batches() {
    let kept = |run: &str| {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path(), "", run);
        assert!(train(folder.path(), &[]).status.success());
        std::fs::read(folder.path().join("out/references.bin")).unwrap()
    };
    let first = kept("batch = 1\nsteps = 1");
    assert!(kept("batch = 5\nsteps = 2\nseed = 3\nshuffle = false") == first);
    // Every pair's 48 bytes, held-out ones included, between head and digest.
    assert_eq!(first.len(), 16 + 32 + 8 + 48 * (PAIRS + 3) + 32);
}

#[test]
fn a_damaged_cache_is_made_anew_and_another_recipe_leaves_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder, "", "batch = 4\nsteps = 3\nsave_every = 1");
    let path = folder.join("out/references.bin");
    let fresh = train(folder, &[]);
    assert!(fresh.status.success(), "{}", stderr(&fresh));
    let says = format!("computing the reference's log-probabilities of {} pairs", PAIRS + 3);
    assert!(stderr(&fresh).contains(&says), "{}", stderr(&fresh));
    let whole = std::fs::read(&path).unwrap();
    let before = records(folder);

    let resumed = train(folder, &["--resume"]);
    let says = format!("the reference's log-probabilities are in {}\n", path.display());
    assert!(stderr(&resumed).contains(&says), "{}", stderr(&resumed));

    let mut damaged = whole.clone();
    damaged[100] ^= 4;
    for bytes in [&damaged[..], &whole[..90], &[]] {
        std::fs::write(&path, bytes).unwrap();
        let resumed = train(folder, &["--resume"]);
        assert!(resumed.status.success());
        let says = format!("{}: is damaged or of another model, made anew\n", path.display());
        assert!(stderr(&resumed).contains(&says), "{}", stderr(&resumed));
        assert!(std::fs::read(&path).unwrap() == whole);
        assert_eq!(records(folder), before);
    }

    let text = std::fs::read_to_string(folder.join("recipe.toml")).unwrap();
    std::fs::write(folder.join("recipe.toml"), text.replace("lr = 1e-3", "lr = 1e-2")).unwrap();
    std::fs::write(&path, &damaged).unwrap();
    let refused = train(folder, &["--resume"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("was made by a different recipe"), "{}", stderr(&refused));
    assert!(std::fs::read(&path).unwrap() == damaged, "the run's folder was touched");
}

#[test]
fn losses_start_where_their_papers_say_and_fall() {
    for (loss, first) in
        [("sigmoid", std::f64::consts::LN_2), ("hinge", 1.0), ("ipo", 25.0), ("softmax", std::f64::consts::LN_2)]
    {
        let dpo = format!("loss = {loss:?}\nreference = \"start\"");
        let steps = figures(&dpo, &format!("batch = {PAIRS}\nsteps = 8"));
        let at = |step: usize| figure(&steps[step], "loss");
        assert!((at(0) - first).abs() < 1e-4 * first, "{loss}: {}", at(0));
        assert!(at(7) < 0.999 * first, "{loss}: {}", at(7));
        assert_eq!(figure(&steps[0], "rewards/accuracies"), 0.0, "{loss}");
        assert!(figure(&steps[7], "eval_rewards/margins") != 0.0);
    }
    // A smoothed label wants a margin that is bounded, and costs more when it is surpassed.
    let smoothed = figures("label_smoothing = 0.2\nreference = \"start\"", &format!("batch = {PAIRS}\nsteps = 2"));
    assert!((figure(&smoothed[0], "loss") - std::f64::consts::LN_2).abs() < 1e-5);
}

#[test]
fn several_rejected_completions_of_one_chosen_are_one_choice() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = |loss: &str, rows: &[Value]| {
        let dpo = format!("loss = {loss:?}\nreference = \"start\"\ncache = {}", loss == "softmax");
        let _ = std::fs::remove_dir_all(folder.join("out"));
        prepare(folder, &dpo, "batch = 4\nsteps = 4\nshuffle = false");
        let lines: String = rows.iter().map(|row| row.to_string() + "\n").collect();
        std::fs::write(folder.join("rows.jsonl"), lines).unwrap();
        let output = train(folder, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        (records(folder), stderr(&output))
    };
    // Two choices of three rejected completions each.
    let rejected = |seed: usize| (0..2 + seed).map(|i| (i * 29 + seed * 7) % 512).collect::<Vec<_>>();
    let row = |choice: usize, seed: usize| {
        let mut row = pairs(choice + 1, 1).remove(0);
        row["rejected_ids"] = json!(rejected(seed));
        row
    };
    let rows: Vec<Value> = (0..6).map(|at| row(at / 3, at)).collect();
    let (together, said) = run("softmax", &rows);
    assert!(said.contains("taken together: 2 choices"), "{said}");
    // -log of one in four, as long as the policy is the model it starts from; then it falls.
    let at = |step: usize| figure(&together[step], "loss");
    assert!((at(0) - 4f64.ln()).abs() < 1e-5 && at(3) < at(0) - 1e-4, "{together:?}");
    // Prompt and chosen completion are run once for a choice.
    let tokens = |choice: usize| {
        let row = &rows[3 * choice];
        let count = |key: &str| row[key].as_array().unwrap().len();
        let prompt = count("prompt_ids");
        let rejected: usize = (3 * choice..3 * choice + 3).map(|at| prompt + rejected(at).len()).sum();
        prompt + count("chosen_ids") + rejected
    };
    assert_eq!(figure(&together[0], "num_tokens"), (tokens(0) + tokens(1)) as f64);
    // Pairs that do not follow their like, and pairs that have none, train as with the logistic loss.
    let alone = [rows[0].clone(), rows[3].clone(), rows[1].clone(), rows[4].clone()];
    near(&run("softmax", &alone).0, &run("sigmoid", &alone).0, 1e-5);
}

#[test]
fn a_killed_run_on_choices_resumed_equals_one_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let dpo = "loss = \"softmax\"\nreference = \"start\"";
    prepare(folder, dpo, &format!("batch = 1\nsteps = {STEPS}\nsave_every = 1"));
    // Choices of three pairs, of two and of one, whose order changes from one time through them to the next.
    let rows = (0..PAIRS).map(|at| {
        let mut row = pairs([0, 0, 0, 1, 1, 2, 3, 3][at], 1).remove(0);
        row["rejected_ids"] = json!((0..=at).map(|i| (i * 29 + at * 7) % 512).collect::<Vec<_>>());
        row.to_string() + "\n"
    });
    std::fs::write(folder.join("rows.jsonl"), rows.collect::<String>()).unwrap();
    let whole = train(folder, &["--out", folder.join("whole").to_str().unwrap()]);
    assert!(whole.status.success() && stderr(&whole).contains("taken together: 4 choices"), "{}", stderr(&whole));
    for steps in [5, 22] {
        kill_after(folder, &folder.join("killed"), steps);
    }
    let resumed = train(folder, &["--resume", "--out", folder.join("killed").to_str().unwrap()]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    for ((name, ours), (_, killed)) in files(&folder.join("whole")).iter().zip(files(&folder.join("killed"))) {
        assert!(*ours == killed, "{name} differs between a killed and a whole run");
    }
}

#[test]
fn the_supervised_part_is_a_mean_over_the_tokens_of_a_step_however_it_is_batched() {
    let run = |batch: usize, sft_weight: f64| {
        let steps = format!("batch = {batch}\naccumulate = {}\nsteps = 3\nshuffle = false", PAIRS / batch);
        figures(&format!("sft_weight = {sft_weight}\nreference = \"start\""), &steps)
    };
    let whole = run(PAIRS, 0.5);
    for batch in [4, 1] {
        near(&run(batch, 0.5), &whole, 1e-5);
    }
    let tokens: usize = (0..PAIRS).map(|row| 1 + 3 * (row % 5)).sum();
    let cross_entropy = -figure(&whole[0], "logps/chosen") * PAIRS as f64 / tokens as f64;
    let expected = std::f64::consts::LN_2 + 0.5 * cross_entropy;
    assert!((figure(&whole[0], "loss") - expected).abs() < 1e-5);
    // It does what it is for.
    let last = |steps: &[Value]| figure(&steps[2], "logps/chosen");
    assert!(last(&run(PAIRS, 5.0)) > last(&run(PAIRS, 0.0)));
}

#[test]
fn figures_have_the_names_of_trl() {
    let steps = figures("", "batch = 4\nsteps = 2");
    let names = ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"];
    for name in names.into_iter().chain(["logps/rejected", "mean_token_accuracy"]) {
        figure(&steps[1], name);
        figure(&steps[1], &format!("eval_{name}"));
    }
    let tokens = |row: usize| 2 * (3 + row % 4) + 1 + 3 * (row % 5) + 2 + 2 * (row % 3);
    assert_eq!(figure(&steps[1], "num_tokens"), (0..PAIRS).map(tokens).sum::<usize>() as f64);
    assert!((0.0..=1.0).contains(&figure(&steps[1], "mean_token_accuracy")));
}

#[test]
fn completions_alone_drift_by_the_step_however_it_is_batched_and_cached() {
    let run = |batch: usize, cache: bool| {
        let folder = tempfile::tempdir().unwrap();
        let steps = format!("batch = {batch}\naccumulate = {}\nsteps = 4", PAIRS / batch);
        prepare(folder.path(), &format!("loss = \"kto\"\ncache = {cache}"), &steps);
        for (name, first, count) in [("rows.jsonl", 0, 2 * PAIRS), ("held.jsonl", 40, 5)] {
            let alone = pairs(first, count).into_iter().enumerate().map(|(at, pair)| {
                json!({ "prompt_ids": pair["prompt_ids"], "completion_ids": pair["chosen_ids"], "label": at % 3 > 0 })
            });
            let lines: Vec<String> = alone.map(|row| row.to_string()).collect();
            std::fs::write(folder.path().join(name), lines.join("\n")).unwrap();
        }
        let output = train(folder.path(), &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        records(folder.path())
    };
    let whole = run(PAIRS, true);
    for (batch, cache) in [(PAIRS, false), (PAIRS / 4, true), (1, true)] {
        near(&run(batch, cache), &whole, 1e-5);
    }
    // The adapter it starts from is not the reference, so there is drift, and it is reported.
    assert!(whole.iter().any(|step| figure(step, "kl") > 0.0), "{whole:?}");
    for name in ["eval_kl", "eval_rewards/margins", "eval_logps/rejected"] {
        figure(&whole[3], name);
    }
}
