//! Slurm: an array of jobs, and one that gathers behind it (sbatch(1), Slurm 22.05).

use std::path::Path;

use super::task_set::{GATHERING, TaskSet, quoted, shell};

/// Seconds before the end of a job's time at which it is asked to end.
const NOTICE: u32 = 120;

/// Files, and the command that begins the work.
pub(super) fn files(tasks: &TaskSet<'_>, to: &Path) -> (Vec<(&'static str, String)>, String) {
    let TaskSet { name, folder, parts, settings, .. } = tasks;
    let mut head = format!("#SBATCH --job-name={name}\n#SBATCH --array=1-{parts}\n");
    head += &format!("#SBATCH --cpus-per-task={}\n#SBATCH --mem={}M\n", settings.cpus, TaskSet::mib(tasks.memory));
    if let Some(minutes) = settings.minutes {
        head += &format!("#SBATCH --time={minutes}\n");
    }
    if tasks.gpu {
        head += "#SBATCH --gres=gpu:1\n";
    }
    if let Some(queue) = &settings.queue {
        head += &format!("#SBATCH --partition={}\n", quoted(queue));
    }
    head += &format!("#SBATCH --requeue\n#SBATCH --open-mode=append\n#SBATCH --signal=B:TERM@{NOTICE}\n");
    let (before, after) = (tasks.run_arguments("I"), format!("\"$SLURM_ARRAY_TASK_ID/{parts}\""));
    let command: Vec<String> =
        before.iter().map(|word| if *word == format!("I/{parts}") { after.clone() } else { quoted(word) }).collect();
    let folder = quoted(&folder.display().to_string());
    let run = format!(
        "#!/bin/sh\n# A run of the plan a task. One that ends before its run does goes back to the queue, and goes on from its last\n\
         # checkpoint.\n{head}\
         cd {folder} || exit 2\n\
         export RAYON_NUM_THREADS=\"${{SLURM_CPUS_PER_TASK:-{cpus}}}\"\n\
         ftk {command} &\n\
         child=$!\n\
         trap 'kill -TERM \"$child\"' TERM\n\
         wait \"$child\"; code=$?\n\
         # A signal ends the first wait and not the child.\n\
         while kill -0 \"$child\" 2>/dev/null; do wait \"$child\"; code=$?; done\n\
         if [ \"$code\" -gt 1 ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {retries} ]; then\n\
         \x20 scontrol requeue \"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}\" && sleep 60\n\
         fi\n\
         exit \"$code\"\n",
        cpus = settings.cpus,
        command = command.join(" "),
        retries = settings.retries,
    );
    let mut head = format!("#SBATCH --job-name={name}-gather\n#SBATCH --mem={}M\n", TaskSet::mib(GATHERING));
    if let Some(queue) = &settings.queue {
        head += &format!("#SBATCH --partition={}\n", quoted(queue));
    }
    let gather = format!(
        "#!/bin/sh\n# The table and the page of all runs, when all have ended.\n{head}cd {folder} || exit 2\nexec ftk {}\n",
        shell(&tasks.gather_arguments(false))
    );
    let submit = "#!/bin/sh\n# Puts the runs into the queue, and behind them what gathers.\nset -e\ncd \"$(dirname \"$0\")\"\n\
                  runs=$(sbatch --parsable runs.sbatch)\n\
                  sbatch --parsable --dependency=afterany:\"${runs%%;*}\" gather.sbatch\n";
    let begin = format!("sh {}", quoted(&to.join("submit.sh").display().to_string()));
    (vec![("runs.sbatch", run), ("gather.sbatch", gather), ("submit.sh", submit.to_owned())], begin)
}
