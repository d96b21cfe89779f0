//! make: a target a run, and one that gathers (POSIX make).

use std::path::Path;

use super::task_set::{TaskSet, quoted, shell};

/// Files, and the command that begins the work.
pub(super) fn files(tasks: &TaskSet<'_>, to: &Path) -> (Vec<(&'static str, String)>, String) {
    let TaskSet { folder, parts, settings, .. } = tasks;
    // What a make reads is not what its shell reads.
    let line = |text: String| text.replace('$', "$$");
    let runs: Vec<String> = (1..=*parts).map(|number| format!("run-{number}")).collect();
    let runs = runs.join(" ");
    let cd = format!("cd {} && ", quoted(&folder.display().to_string()));
    let mut text = format!(
        "# A target a run, and a page of all: make -j 2. A run that fails stops no other and is tried {} times more, from its\n\
         # last checkpoint. Some {} MiB of memory each.\n\
         .POSIX:\n.PHONY: report {runs}\n\nreport: {runs}\n\t{}ftk {}\n",
        settings.retries,
        TaskSet::mib(tasks.memory),
        line(cd.clone()),
        line(shell(&tasks.gather_arguments(false))),
    );
    let attempts: Vec<String> = (0..=settings.retries).map(|attempt| attempt.to_string()).collect();
    for number in 1..=*parts {
        let command =
            format!("RAYON_NUM_THREADS={} ftk {}", settings.cpus, shell(&tasks.run_arguments(&number.to_string())));
        // One is an answer: a proof that is not valid. The last target tells what has failed. POSIX has make's shell end
        // at the first command that fails outside of a list.
        let attempts = attempts.join(" ");
        let tried = "exit 0; test $? -eq 1 && exit 0 || :";
        let attempt = format!("{cd}for attempt in {attempts}; do {command} && {tried}; done; exit 0");
        text += &format!("\nrun-{number}:\n\t{}\n", line(attempt));
    }
    let begin = format!("make -f {} -j 2", quoted(&to.join("Makefile").display().to_string()));
    (vec![("Makefile", text)], begin)
}
