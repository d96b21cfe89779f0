//! Kubernetes: an indexed Job with a run an index, in a queue of Kueue if one is named, and a Job that gathers
//! (`batch/v1`, Kubernetes 1.29 or later for `backoffLimitPerIndex`). Files are JSON, which `kubectl` takes.

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::super::super::Advice;
use super::task_set::{GATHERING, TaskSet, quoted};

/// The exit code that is an answer (a proof is not valid), which another attempt would not change; those above are tried
/// again.
const ANSWER_NO: i32 = 1;

/// Files, and the command that begins the work.
///
/// # Errors
/// What a Job must be told and is not.
pub(super) fn files(tasks: &TaskSet<'_>, to: &Path) -> Result<(Vec<(&'static str, String)>, String)> {
    let TaskSet { name, parts, settings, .. } = tasks;
    let needed = |option: &str, value: &Option<String>, hint: &str| {
        value.clone().ok_or_else(|| Advice::new(format!("--emit kubernetes needs {option}"), hint))
    };
    let image = needed("--image", &settings.image, "an image with ftk in it, for example registry.example/ftk:0.1")?;
    let claim = needed("--claim", &settings.claim, "the PersistentVolumeClaim that holds the plan's folder")?;
    let container = |what: &str, arguments: Value, memory: u64, cpus: Value, gpu: bool, more: Value| {
        let mut limits = Map::from_iter([("memory".to_owned(), json!(format!("{}Mi", TaskSet::mib(memory))))]);
        let mut requests = limits.clone();
        requests.insert("cpu".to_owned(), cpus);
        if gpu {
            limits.insert("nvidia.com/gpu".to_owned(), json!("1"));
        }
        json!({
            "name": what, "image": image, "command": ["ftk"], "args": arguments, "env": more,
            "workingDir": tasks.folder, "resources": { "requests": requests, "limits": limits },
            "volumeMounts": [{ "name": "runs", "mountPath": tasks.folder }],
        })
    };
    let pod = |container: Value| {
        json!({
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 120, "containers": [container],
            "volumes": [{ "name": "runs", "persistentVolumeClaim": { "claimName": claim } }],
        })
    };
    let environment = json!([
        { "name": "RAYON_NUM_THREADS", "value": settings.cpus.to_string() },
        { "name": "INDEX", "valueFrom": { "fieldRef": {
            "fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']" } } },
    ]);
    let mut arguments = tasks.run_arguments("$(INDEX)");
    // Indices begin with 0.
    arguments.push("--from-zero".to_owned());
    let run =
        container("run", json!(arguments), tasks.memory, json!(settings.cpus.to_string()), tasks.gpu, environment);
    let mut labels = Map::from_iter([("app.kubernetes.io/name".to_owned(), json!("ftk"))]);
    let mut spec = json!({
        "completions": parts, "parallelism": parts, "completionMode": "Indexed",
        "backoffLimitPerIndex": settings.retries, "maxFailedIndexes": parts,
        "podFailurePolicy": { "rules": [{
            "action": "FailIndex",
            "onExitCodes": { "containerName": "run", "operator": "In", "values": [ANSWER_NO] },
        }, {
            "action": "Ignore",
            "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }],
        }] },
        "template": { "spec": pod(run) },
    });
    if let Some(minutes) = settings.minutes {
        spec["template"]["spec"]["activeDeadlineSeconds"] = json!(u64::from(minutes) * 60);
    }
    if let Some(queue) = &settings.queue {
        labels.insert("kueue.x-k8s.io/queue-name".to_owned(), json!(queue));
        // Kueue lets it go on when it is admitted.
        spec["suspend"] = json!(true);
    }
    let job = |name: &str, labels: &Map<String, Value>, spec: &Value| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name, "labels": labels }, "spec": spec,
        })
    };
    // No Job waits for another, so that this one looks for itself. It is small, and in no queue.
    let gather = container("gather", json!(tasks.gather_arguments(true)), GATHERING, json!("100m"), false, json!([]));
    let gathering = json!({ "backoffLimit": 6, "template": { "spec": pod(gather) } });
    let plain = Map::from_iter([("app.kubernetes.io/name".to_owned(), json!("ftk"))]);
    let list = json!({
        "apiVersion": "v1", "kind": "List",
        "items": [job(name, &labels, &spec), job(&format!("{name}-gather"), &plain, &gathering)],
    });
    let text = serde_json::to_string_pretty(&list)? + "\n";
    let begin = format!("kubectl create -f {}", quoted(&to.join("jobs.json").display().to_string()));
    Ok((vec![("jobs.json", text)], begin))
}
