//! What is on disk when a command is killed at its worst moments, or finds no place for its result: bundles and secrets
//! are whole, nothing is counted as disclosed in vain, and the next command clears away what is left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{ftk, stderr, succeed};
use crate::seller::{Seller, adapter_of_rank, verify};

/// Names in a folder that begin like this.
fn named(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(prefix)).collect();
    found.sort();
    found
}

/// How often a command is started before it is given up that it is met at a moment.
const ATTEMPTS: usize = 50;

/// Starts a command and kills it as soon as this holds. On a busy machine it may come to its end unseen: then that is undone,
/// and it is started again.
fn killed(command: &mut Command, when: impl Fn() -> bool, undo: impl Fn()) {
    for _ in 0..ATTEMPTS {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while !when() && child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(100), "{command:?}");
            std::thread::sleep(Duration::from_micros(200));
        }
        let _ = child.kill();
        // The kill may come too late as well.
        match child.wait().unwrap().code() {
            None => return,
            Some(0) => undo(),
            Some(code) => panic!("{command:?} failed by itself: {code}"),
        }
    }
    panic!("{command:?} ended {ATTEMPTS} times before it was killed");
}

/// Whether something unfinished in a folder has this file.
fn unfinished(folder: &Path, file: &str) -> bool {
    named(folder, ".ftk-").iter().any(|path| path.join("whole").join(file).exists())
}

#[test]
fn a_bundle_is_the_old_or_the_new_one_whenever_prove_is_killed() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let seller = Seller::new(folder.to_owned(), 61);
    seller.prove("bundle", "Hello");
    let prove = |prompt: &str| {
        let mut command = ftk(&["prove", "--base", "village", "--adapter", "adapter", "--commitment", "commitment"]);
        command
            .args(["--open", "--disclose", "--max-tokens", "3", "--out", "bundle", "--prompt", prompt])
            .current_dir(folder);
        command
    };
    let expects = |prompt: &str| verify(&folder.join("bundle"), &["--expect-input", prompt]).1;
    // At the beginning, and once all but the last step is done.
    for file in ["", "link.bin", "statement.json"] {
        killed(&mut prove("Who lives here?"), || unfinished(folder, file), || ());
        let either = [expects("Hello"), expects("Who lives here?")];
        assert!(
            either.contains(&"valid".to_owned()) || either.contains(&"consistent".to_owned()),
            "{file}: {either:?}"
        );
    }
    assert!(!named(folder, ".ftk-").is_empty(), "it was killed in the middle");
    // A copy of the secret, as one that is killed while the ledger is replaced leaves it.
    let copy = folder.join("commitment/.ftk-copy");
    std::fs::copy(folder.join("commitment/opening.bin"), &copy).unwrap();
    succeed(&mut prove("Who lives here?"));
    assert_eq!(named(folder, ".ftk-").len() + named(&folder.join("commitment"), ".ftk-").len(), 0);
    let (_, said) = verify(&folder.join("bundle"), &["--expect-input", "Who lives here?"]);
    assert!(["valid", "consistent"].contains(&said.as_str()), "{said}");
}

#[test]
fn a_commitment_is_there_whole_or_not_at_all() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    adapter_of_rank(&folder.join("adapter"), 62, 2);
    let commit = || {
        let mut command = ftk(&["commit", "--base", "village", "--adapter", "adapter", "--out", "commitment"]);
        command.current_dir(folder);
        command
    };
    for file in ["", "opening.bin"] {
        let out = folder.join("commitment");
        killed(&mut commit(), || unfinished(folder, file), || std::fs::remove_dir_all(&out).unwrap());
        assert!(!out.exists() || out.join("commitment.bin").exists(), "no opening without a commitment");
        let _ = std::fs::remove_dir_all(out);
    }
    succeed(&mut commit());
    assert_eq!(named(folder, ".ftk-").len(), 0);
    let mut files = named(&folder.join("commitment"), "");
    files.sort();
    let files: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(files, ["commitment.bin", "opening.bin", "registration.bin"]);
}

/// A signal that asks a command to end: nothing half is left, not even in the folder of temporary files, nothing is counted
/// as disclosed, and whoever waits sees the signal.
#[test]
#[cfg(unix)]
fn a_command_that_is_asked_to_end_leaves_nothing() {
    use std::os::unix::process::ExitStatusExt;

    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    Seller::of_rank(folder.to_owned(), 64, 4);
    std::fs::create_dir(folder.join("tmp")).unwrap();
    let opening = std::fs::read(folder.join("commitment/opening.bin")).unwrap();
    let before = named(folder, "");
    for (verb, more, signal, wait) in [
        ("prove", &["--commitment", "commitment", "--prompt", "Who lives here?", "--out", "bundle"][..], "INT", 0),
        ("prove", &["--commitment", "commitment", "--prompt", "Who lives here?", "--out", "bundle"], "INT", 200),
        ("prove", &["--commitment", "commitment", "--prompt", "Who lives here?", "--out", "bundle"], "TERM", 100),
        (
            "prove",
            &["--commitment", "commitment", "--prompt", "Hello", "--open", "--disclose", "--out", "bundle"],
            "INT",
            0,
        ),
        ("commit", &["--out", "again"], "INT", 0),
    ] {
        let mut command = ftk(&[verb, "--base", "village", "--adapter", "adapter"]);
        command.args(more).current_dir(folder).env("TMPDIR", folder.join("tmp"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while named(folder, ".ftk-").is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(100), "{command:?}");
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(wait));
        send(child.id(), signal);
        let status = child.wait().unwrap();
        let number = if signal == "INT" { 2 } else { 15 };
        assert_eq!(status.signal(), Some(number), "{verb} {more:?} {signal} {wait}: {status:?}");
        assert_eq!(named(folder, ""), before, "{verb} {more:?} {signal} {wait}");
        assert!(named(&folder.join("tmp"), "").is_empty(), "{verb} {more:?} {signal} {wait}");
        assert_eq!(std::fs::read(folder.join("commitment/opening.bin")).unwrap(), opening);
    }
}

#[cfg(unix)]
fn send(process: u32, signal: &str) {
    let status = Command::new("kill").args([&format!("-{signal}"), &process.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_unpacked_village_of_the_dead_is_swept_out() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("tmp")).unwrap();
    let temporary = place.path().join("tmp");
    let mut generate = ftk(&["generate", "--base", "village", "--max-tokens", "4", "--prompt", "Hello"]);
    generate.env("TMPDIR", &temporary);
    killed(
        &mut generate,
        || named(&temporary, "ftk-village-").iter().any(|it| it.join("tokenizer.json").exists()),
        || (),
    );
    assert_eq!(named(&temporary, "ftk-village-").len(), 1);
    let living = tempfile::Builder::new().prefix("ftk-village-").tempdir_in(&temporary).unwrap();
    let held = std::fs::File::open(living.path()).unwrap();
    held.lock().unwrap();
    succeed(&mut generate);
    assert_eq!(named(&temporary, ""), [living.path()], "the dead one's is gone, one that is in use stays");
}

#[test]
fn the_place_for_a_result_is_looked_at_before_any_work() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    Seller::of_rank(folder.to_owned(), 63, 2);
    std::fs::write(folder.join("file"), "").unwrap();
    std::fs::create_dir(folder.join("full")).unwrap();
    std::fs::write(folder.join("full/README.md"), "").unwrap();
    let recipe =
        "task = \"sft\"\nbase.model = \"village\"\ndata.train = \"none.jsonl\"\nlora.rank = 2\nrun.out = \"run\"\n";
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
    let before = std::fs::read(folder.join("commitment/opening.bin")).unwrap();
    // Each would be refused for another reason once it looked at anything else.
    for line in [
        "prove --base none --adapter adapter --commitment commitment --prompt Hello --open --disclose --out file/below",
        "prove --base none --adapter adapter --commitment commitment --prompt Hello --open --disclose --out file",
        "commit --base none --adapter adapter --out file/below",
        "train recipe.toml --out file/below",
        "train recipe.toml --out file/below --dry-run",
        "merge --base none --adapter adapter --out file/below",
        "logits --base none --ids none --out file/below",
        "gnn score --base none --graph none --out file/below",
        "gnn import --edges none.csv --out none/below",
        "defi import none.csv --out none/below",
        "defi replay none.csv --positions none.csv --fee 500 --decimals 6,18 --out none/below",
        "defi backtest quoter --out file/below",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = ftk(&arguments).current_dir(folder).output().unwrap();
        let said = stderr(&output);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{line}: {said}");
        assert!(said.starts_with("error: cannot write to "), "{line}: {said}");
        assert!(said.contains("hint: choose another place with --out"), "{line}: {said}");
    }
    // What is in a folder already and is no bundle stays there.
    let line =
        "prove --base village --adapter adapter --commitment commitment --prompt Hello --open --disclose --out full";
    let output = ftk(&line.split(' ').collect::<Vec<_>>()).current_dir(folder).output().unwrap();
    assert!(stderr(&output).starts_with("error: full: holds what is no file of a bundle: README.md"));
    assert_eq!(
        std::fs::read(folder.join("commitment/opening.bin")).unwrap(),
        before,
        "nothing is counted as disclosed"
    );
    assert_eq!(named(folder, ".ftk-").len() + named(&folder.join("full"), ".ftk-").len(), 0);
}

#[test]
fn half_a_bundle_is_no_answer_and_what_is_beside_one_is_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let bundle = Seller::new(folder.to_owned(), 64).prove("bundle", "Hello");
    for name in ["statement.json", "commitment.bin", "deltas.bin", "proof.bin", "link.bin"] {
        std::fs::rename(bundle.join(name), folder.join("aside")).unwrap();
        assert_eq!(verify(&bundle, &[]), (2, "incomplete".to_owned()), "{name}");
        std::fs::rename(folder.join("aside"), bundle.join(name)).unwrap();
    }
    assert_eq!(verify(&folder.join("adapter"), &[]).0, 2);
    let run = || {
        let mut command = ftk(&["verify", "--base", "village", "--any-input"]);
        String::from_utf8(command.arg(&bundle).output().unwrap().stdout).unwrap()
    };
    assert!(!run().contains("also there"), "{}", run());
    std::fs::write(bundle.join("setup.sh"), "").unwrap();
    #[cfg(unix)]
    {
        std::fs::rename(bundle.join("link.bin"), folder.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.join("elsewhere"), bundle.join("link.bin")).unwrap();
        assert!(run().contains("also there: link.bin leads out of the folder, to "), "{}", run());
    }
    assert!(run().contains("also there: setup.sh is no file of a bundle, and no verdict is about it"), "{}", run());
}
