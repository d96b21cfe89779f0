//! Ray: a script that submits a task a run and gathers when all have ended (Ray 2).

use std::path::Path;

use serde_json::json;

use super::task_set::{GATHERING, TaskSet, quoted};

/// The script behind its constants.
const SCRIPT: &str = r#"
import os
import subprocess
import sys

import ray


@ray.remote(num_cpus=CPUS, num_gpus=GPUS, memory=MEMORY, max_retries=-1)
def run(number):
    """A run of the plan: the exit code of its last attempt, each from the last checkpoint."""
    environment = dict(os.environ, RAYON_NUM_THREADS=str(CPUS))
    arguments = [part.replace("@", str(number)) if part == SHARD else part for part in RUN]
    for _ in range(ATTEMPTS):
        code = subprocess.run(["ftk", *arguments], cwd=FOLDER, env=environment, check=False).returncode
        # One is an answer: a proof that is not valid.
        if code in (0, 1):
            break
    return code


@ray.remote(num_cpus=1, memory=GATHERING)
def gather(codes):
    return subprocess.run(["ftk", *GATHER], cwd=FOLDER, check=False).returncode


if __name__ == "__main__":
    ray.init(address=os.environ.get("RAY_ADDRESS"))
    codes = ray.get([run.remote(number) for number in range(1, RUNS + 1)])
    print("exit codes of runs:", codes, file=sys.stderr)
    sys.exit(ray.get(gather.remote(codes)))
"#;

/// Files, and the command that begins the work.
pub(super) fn files(tasks: &TaskSet<'_>, to: &Path) -> (Vec<(&'static str, String)>, String) {
    let TaskSet { folder, parts, settings, .. } = tasks;
    // A string of JSON is one of Python, too.
    let arguments = tasks.run_arguments("@");
    let head = format!(
        "\"\"\"The runs of a plan as tasks of Ray: ray job submit -- python {file}, or python {file}.\"\"\"\n\
         RUNS = {parts}\nCPUS = {}\nGPUS = {}\nMEMORY = {}\nGATHERING = {}\nATTEMPTS = {}\nFOLDER = {}\n\
         SHARD = {}\nRUN = {}\nGATHER = {}\n",
        settings.cpus,
        u8::from(tasks.gpu),
        tasks.memory,
        GATHERING,
        settings.retries + 1,
        json!(folder.display().to_string()),
        json!(format!("@/{parts}")),
        json!(arguments),
        json!(tasks.gather_arguments(false)),
        file = "ray_job.py",
    );
    let begin = format!("python {}", quoted(&to.join("ray_job.py").display().to_string()));
    (vec![("ray_job.py", head + SCRIPT)], begin)
}
