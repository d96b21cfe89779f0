//! Running the command and looking at what it did.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Verbs that compute in floating point, on the device that `FTK_TEST_DEVICE` names (CONTRIBUTING).
pub const WITH_DEVICE: [&str; 7] = ["audit", "batch", "chat", "eval", "generate", "logits", "train"];

/// A folder with data of the tests.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The fixtures that hold a model of some family, one folder each.
pub fn models() -> Vec<String> {
    let folders = std::fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap());
    let models = folders.filter(|entry| entry.path().join("base").is_dir());
    let mut names: Vec<String> = models.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() > 5, "fixtures are looked for in the wrong place");
    names
}

/// The command, with arguments.
pub fn ftk(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftk"));
    // As many tests run at a time as there are cores, and threads that outnumber these wait for each other. A batch
    // divides cores itself; documents, and what is about threads, have as many as they ask for.
    if !arguments.contains(&"batch") && std::env::var_os("RAYON_NUM_THREADS").is_none() {
        command.env("RAYON_NUM_THREADS", "1");
    }
    let device = std::env::var("FTK_TEST_DEVICE").ok().filter(|_| !arguments.contains(&"--device"));
    let verb = arguments.iter().position(|argument| WITH_DEVICE.contains(argument));
    match (device, verb) {
        // Right behind the verb: what comes last may want a value that is still to be given.
        (Some(device), Some(verb)) => {
            command.args(&arguments[..=verb]).args(["--device", &device]).args(&arguments[verb + 1..])
        }
        _ => command.args(arguments),
    };
    command
}

/// Runs a command that must succeed, and gives its stdout.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("ftk starts");
    assert!(output.status.success(), "{command:?}\n{}", stderr(&output));
    String::from_utf8(output.stdout).expect("stdout is text")
}

/// The stderr of a finished command.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
