//! A plan as work for an engine that others run: a task a run, with resources by arithmetic and attempts that go on from
//! the last checkpoint, and a last task that gathers. Every task is `ftk batch PLAN --shard I/N`, so that nothing but a
//! folder that all see is needed, and the result is that of one `ftk batch PLAN`.

mod kubernetes;
mod make;
mod ray;
mod slurm;
mod task_set;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::atomic;
use ftk_adapters::staged::{Staged, There};
use ftk_recipes::batch::{BatchPlan, FollowUps};
use serde_json::{Value, json};

use self::task_set::TaskSet;
pub use self::task_set::{EmitSettings, Engine};
use super::super::{Advice, Outcome, unwritable};
use super::member::{BatchRun, UNKNOWN};
use crate::cli::printer::Printer;
use crate::device::DeviceName;

/// What the process itself takes, and a share for what arithmetic does not see.
const PROCESS: u64 = 128 << 20;
const MARGIN: u64 = 4;

/// Writes the files of an engine and says how its work is begun.
///
/// # Errors
/// A folder that is there already or cannot be written; what the engine needs to be told.
pub(super) fn write(
    emit: &EmitSettings,
    plan: &BatchPlan,
    runs: &[BatchRun],
    path: &Path,
    (place, offline): (DeviceName, bool),
    printer: &Printer,
) -> Result<Outcome> {
    let EmitSettings { engine, to, .. } = emit;
    if let Some(option) = emit.idle() {
        return Err(Advice::new(format!("this engine is told nothing by {option}"), "leave it out").into());
    }
    let staged = Staged::new(to, There::Stays).map_err(|error| unwritable(to, &error))?;
    let plan_path = std::path::absolute(path).context("there is no current folder")?;
    let folder = plan_path.parent().unwrap_or(Path::new("/")).to_owned();
    if plan_path.to_str().is_none_or(|path| path.chars().any(char::is_control)) {
        let message = format!("{}: engines take paths of plain text", plan_path.display());
        return Err(Advice::new(message, "put the plan elsewhere").into());
    }
    let stem = plan_path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let parts = runs.len();
    let memory = runs.iter().map(|run| memory(run, &plan.then, offline)).max().unwrap_or(UNKNOWN);
    let mut more = vec!["--device".to_owned(), place.to_string()];
    more.extend(offline.then(|| "--offline".to_owned()));
    let tasks = TaskSet {
        name: format!("ftk-{}", plain.trim_matches('-')),
        plan: plan_path,
        folder,
        parts,
        memory: memory + memory / MARGIN + PROCESS,
        gpu: matches!(place, DeviceName::Cuda(_)),
        more,
        settings: emit,
    };
    let (files, begin) = match engine {
        Engine::Slurm => slurm::files(&tasks, to),
        Engine::Kubernetes => kubernetes::files(&tasks, to)?,
        Engine::Make => make::files(&tasks, to),
        Engine::Ray => ray::files(&tasks, to),
    };
    if let Some((name, _)) = files.iter().find(|(name, _)| to.join(name).exists()) {
        let message = format!("{}: is there already", to.join(name).display());
        return Err(Advice::new(message, "choose another folder with --to").into());
    }
    let cannot = || format!("cannot write to {}", to.display());
    for (name, text) in &files {
        atomic::write(&staged.path().join(name), text.as_bytes()).with_context(cannot)?;
    }
    staged.persist(&[]).with_context(cannot)?;
    printer.note(&format!("{parts} runs, {} MiB each; begin with: {begin}", tasks.memory >> 20));
    let files: Vec<PathBuf> = files.iter().map(|(name, _)| to.join(name)).collect();
    files.iter().for_each(|file| printer.line(&file.display().to_string()));
    printer.object(&json!({ "files": files, "begin": begin, "run_count": parts, "memory": tasks.memory }));
    Ok(Outcome::Done)
}

/// Bytes of memory that a run and what follows it need at once, as `ftk estimate` says them.
fn memory(run: &BatchRun, then: &FollowUps, offline: bool) -> u64 {
    // The prompt is counted as text is: some three bytes a token.
    let tokens =
        then.prove.as_ref().map_or(0, |prove| u64::from(prove.max_tokens) + prove.prompt.len() as u64 / 3 + 16);
    let said = run.estimated(tokens.max(1), offline);
    let of = |what: &str, key: &str| said.get(what).and_then(|costs: &Value| costs[key].as_u64());
    let training = of("bytes", "together").unwrap_or(UNKNOWN);
    let committing = of("open_proof", "commit_memory").filter(|_| then.commit);
    let proving = of("sealed_proof", "prove_memory")
        .or_else(|| of("open_proof", "prove_memory"))
        .filter(|_| then.prove.is_some());
    [Some(training), committing, proving].into_iter().flatten().max().unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(engine: Engine) -> EmitSettings {
        let none = || None;
        EmitSettings {
            engine,
            to: "to".into(),
            retries: 2,
            cpus: 3,
            minutes: Some(90),
            image: none(),
            claim: none(),
            queue: none(),
        }
    }

    fn tasks(settings: &EmitSettings) -> TaskSet<'_> {
        TaskSet {
            name: "ftk-plan".to_owned(),
            plan: "/a b/it's/$plan.toml".into(),
            folder: "/a b/it's".into(),
            parts: 4,
            memory: (3 << 30) + 1,
            gpu: true,
            more: vec!["--device".to_owned(), "cuda".to_owned(), "--offline".to_owned()],
            settings,
        }
    }

    #[test]
    fn each_engine_is_told_resources_attempts_and_the_last_task() {
        let to = Path::new("to");
        let of = |files: (Vec<(&'static str, String)>, String)| -> String {
            files.0.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n")
        };
        let engine = settings(Engine::Slurm);
        let slurm = of(slurm::files(&tasks(&engine), to));
        for line in [
            "#SBATCH --array=1-4",
            "#SBATCH --mem=3073M",
            "#SBATCH --cpus-per-task=3",
            "#SBATCH --time=90",
            "#SBATCH --gres=gpu:1",
            "#SBATCH --requeue",
            "--shard \"$SLURM_ARRAY_TASK_ID/4\" --device cuda --offline",
            "'/a b/it'\\''s/$plan.toml' --gather --offline",
            "--dependency=afterany:",
        ] {
            assert!(slurm.contains(line), "{line}\n{slurm}");
        }
        let engine = settings(Engine::Make);
        let make = of(make::files(&tasks(&engine), to));
        assert!(make.contains("run-1 run-2 run-3 run-4") && make.contains("$$plan.toml"), "{make}");
        let engine = settings(Engine::Ray);
        let ray = of(ray::files(&tasks(&engine), to));
        for line in ["RUNS = 4", "CPUS = 3", "GPUS = 1", "MEMORY = 3221225473", "ATTEMPTS = 3", "it's/$plan.toml"] {
            assert!(ray.contains(line), "{line}\n{ray}");
        }
        let mut engine = settings(Engine::Kubernetes);
        let missing = kubernetes::files(&tasks(&engine), to).unwrap_err().to_string();
        assert_eq!(missing, "--emit kubernetes needs --image");
        engine.image = Some("registry.example/ftk:1".to_owned());
        let missing = kubernetes::files(&tasks(&engine), to).unwrap_err().to_string();
        assert_eq!(missing, "--emit kubernetes needs --claim");
        engine.claim = Some("runs".to_owned());
        engine.queue = Some("team".to_owned());
        let kubernetes = of(kubernetes::files(&tasks(&engine), to).unwrap());
        for line in ["\"kueue.x-k8s.io/queue-name\": \"team\"", "\"memory\": \"3073Mi\"", "\"backoffLimitPerIndex\": 2"]
        {
            assert!(kubernetes.contains(line), "{line}\n{kubernetes}");
        }
    }
}
