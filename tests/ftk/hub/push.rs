//! What goes to the hub, and what the hub says to whoever asks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Hub;
use super::upload::PUSHED;
use crate::run::{fixture, ftk, stderr, succeed};

#[test]
fn the_doctor_says_who_one_is_at_the_hub_and_what_is_wrong_with_it() {
    let hub = Hub::new();
    hub.state.lock().unwrap().token = Some("hf_known".to_owned());
    let found = |token: &str| {
        let mut command = hub.ftk(&["doctor", "--json"]);
        let output = command.env("HF_TOKEN", token).output().unwrap();
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let of_hub =
            all["findings"].as_array().unwrap().iter().find(|finding| finding["what"] == "hub").unwrap().clone();
        (output.status.code().unwrap(), of_hub)
    };
    let address = &hub.address;
    assert_eq!(found("").1["says"], format!("{address}, without a token"));
    assert_eq!(hub.asked(), ["/api/models"]);
    assert_eq!(found("hf_known").1["says"], format!("{address}, as tester"));
    let (code, refused) = found("hf_other");
    assert_eq!((code, &refused["says"]), (1, &json!(format!("the token is none of {address}: status 401"))));
    assert!(refused["remedy"].as_str().unwrap().contains("HF_TOKEN"), "{refused}");
    assert!(!refused.to_string().contains("hf_other"), "the token is not said");
    hub.state.lock().unwrap().portal = true;
    let (code, other) = found("");
    assert_eq!((code, &other["remedy"]), (1, &json!("check HF_ENDPOINT")), "{other}");
}

/// An adapter folder of a run that has been committed to, with what is nobody's business beside it.
fn pushed_folder(folder: &Path) -> PathBuf {
    let run = folder.join("run");
    succeed(ftk(&["train", "--quiet", "sft", "--set", "run.steps=1", "--out"]).arg(&run));
    std::fs::write(run.join("opening.bin"), "secret").unwrap();
    run
}

#[test]
fn what_is_pushed_is_what_is_pulled_and_secrets_stay() {
    let hub = Hub::new().with_storage();
    hub.state.lock().unwrap().token = Some("hf_known".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let run = pushed_folder(folder.path());
    let push = |arguments: &[&str]| {
        let mut command = hub.ftk(&["push", "--json", run.to_str().unwrap(), "--to", "org/polite"]);
        command.env("HF_TOKEN", "hf_known").args(arguments).output().unwrap()
    };
    let looked = push(&["--dry-run"]);
    let files = json!(["README.md", "adapter_config.json", "adapter_model.safetensors"]);
    let looked_at: Value = serde_json::from_slice(&looked.stdout).unwrap();
    assert_eq!(looked_at["files"], files, "{}", stderr(&looked));
    let stays = stderr(&looked);
    assert!(
        stays.contains("stays here: ") && stays.contains("opening.bin") && stays.contains("checkpoint.safetensors"),
        "{stays}"
    );
    assert!(hub.asked().is_empty());
    let output = push(&["--private"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let pushed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(pushed["name"], format!("hf://org/polite@{PUSHED}"));
    assert_eq!((&pushed["files"], &pushed["sent"]), (&files, &files));
    {
        let state = hub.state.lock().unwrap();
        assert_eq!(state.made, [json!({ "type": "model", "organization": "org", "name": "polite", "private": true })]);
        // The token is for the endpoint; storage refuses whoever shows it.
        assert!(state.asked.iter().all(|(_, token)| *token), "{:?}", state.asked);
        assert!(state.stored.len() == 1 && state.stored.iter().all(|(_, token)| !token), "{:?}", state.stored);
        for name in ["README.md", "adapter_config.json", "adapter_model.safetensors"] {
            let there = &state.files[&("org/polite".to_owned(), PUSHED.to_owned(), name.to_owned())];
            assert!(*there == std::fs::read(run.join(name)).unwrap(), "{name}");
        }
        assert_eq!(state.files.len(), 3);
    }
    // Once more: the repository is there, and so is the content.
    let again: Value = serde_json::from_slice(&push(&["--private"]).stdout).unwrap();
    assert_eq!(again["sent"], json!(["README.md", "adapter_config.json"]));
    let pulled = hub.pull(&["--file", "adapter_model.safetensors", "org/polite"]);
    let weights = std::fs::read(Path::new(pulled["path"].as_str().unwrap()).join("adapter_model.safetensors")).unwrap();
    assert!(weights == std::fs::read(run.join("adapter_model.safetensors")).unwrap());
}

#[test]
fn what_is_pushed_goes_along_with_redirects_that_keep_it() {
    let hub = Hub::new().with_storage();
    hub.state.lock().unwrap().token = Some("hf_known".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let run = pushed_folder(folder.path());
    let push = |moved: Option<&'static str>, storage: Option<&str>| {
        {
            let mut state = hub.state.lock().unwrap();
            state.moved = moved;
            state.objects.clear();
            if let Some(storage) = storage {
                state.storage = Some(storage.to_owned());
            }
        }
        let mut command = hub.ftk(&["push", "--json", run.to_str().unwrap(), "--to", "org/polite"]);
        command.env("HF_TOKEN", "hf_known").output().unwrap()
    };
    for status in ["307 Temporary Redirect", "308 Permanent Redirect"] {
        let output = push(Some(status), None);
        assert!(output.status.success(), "{status}: {}", stderr(&output));
        let state = hub.state.lock().unwrap();
        assert!(state.objects.len() == 1 && state.files.len() == 3, "all of it arrived");
        assert!(state.stored.iter().all(|(_, token)| !token), "{:?}", state.stored);
    }
    let told = |output| {
        let told = stderr(&output);
        assert!(output.status.code() == Some(2) && !told.contains("s3cret"), "{told}");
        told
    };
    let refused = told(push(Some("302 Found"), None));
    let expected = format!("status 302, which drops it: {}/moved/api/repos/create\n", hub.address);
    assert!(refused.contains(&expected), "{refused}");
    // Where storage is comes with a signature, which is worth as much as a password.
    for (storage, place) in [
        ("ftp://key:s3cret@store.example/a?X-Amz-Signature=s3cret", "ftp://store.example/a"),
        ("http://store.example/a b?X-Amz-Signature=s3cret", "http://store.example/a b"),
    ] {
        let refused = told(push(None, Some(storage)));
        assert!(refused.contains(&format!("sends us to no web server: {place}\n")), "{refused}");
    }
}

#[test]
fn a_place_on_this_machine_is_not_pushed_as_the_name_of_the_base() {
    let hub = Hub::new();
    let folder = tempfile::tempdir().unwrap();
    let run = pushed_folder(folder.path());
    let path = run.join("adapter_config.json");
    let looked = |base: &str| {
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["base_model_name_or_path"] = json!(base);
        std::fs::write(&path, config.to_string()).unwrap();
        let mut command = hub.ftk(&["push", run.to_str().unwrap(), "--to", "org/polite", "--dry-run"]);
        command.current_dir(folder.path()).output().unwrap()
    };
    std::fs::create_dir_all(folder.path().join("models/here")).unwrap();
    for base in ["/home/ann/llama", "../llama", "~/llama", "models/here", "C:\\models\\llama", "a/b/c.gguf/"] {
        let output = looked(base);
        let expected =
            format!("error: {}:base_model_name_or_path: is a place on this machine: {base}\nhint: ", path.display());
        assert!(output.status.code() == Some(2) && stderr(&output).contains(&expected), "{}", stderr(&output));
        assert!(stderr(&output).contains("base.name"), "{}", stderr(&output));
    }
    for base in ["village", "org/name", "org/name@v2", "hf://org/name/a.gguf", ""] {
        let output = looked(base);
        assert!(output.status.success(), "{base}: {}", stderr(&output));
    }
}

#[test]
fn a_model_that_calls_itself_by_a_place_is_not_pushed() {
    let hub = Hub::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(folder.path().join("model.safetensors"), "weights").unwrap();
    let looked = |name: Value| {
        std::fs::write(&path, json!({ "model_type": "llama", "_name_or_path": name }).to_string()).unwrap();
        hub.ftk(&["push", folder.path().to_str().unwrap(), "--to", "org/polite", "--dry-run"]).output().unwrap()
    };
    let output = looked(json!("/home/ann/llama"));
    let expected = format!("error: {}:_name_or_path: is a place on this machine: /home/ann/llama\n", path.display());
    assert!(output.status.code() == Some(2) && stderr(&output).contains(&expected), "{}", stderr(&output));
    for name in [json!("org/name"), json!(null)] {
        let output = looked(name);
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

/// One that nobody can read from its beginning, whoever they are.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_read_is_named() {
    let hub = Hub::new();
    let folder = tempfile::tempdir().unwrap();
    let run = pushed_folder(folder.path());
    let card = run.join("README.md");
    std::fs::remove_file(&card).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", &card).unwrap();
    let mut command = hub.ftk(&["push", run.to_str().unwrap(), "--to", "org/polite"]);
    let told = stderr(&command.env("HF_TOKEN", "hf_known").output().unwrap());
    assert!(told.contains(&format!("error: {}: cannot be read, and is not pushed: ", card.display())), "{told}");
    assert!(told.ends_with("hint: make it readable; nothing was committed\n"), "{told}");
}

#[test]
fn templates_of_a_model_go_with_it() {
    let hub = Hub::new();
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "generation_config.json", "model.safetensors"] {
        std::fs::copy(fixture("micro-llama/base").join(name), folder.path().join(name)).unwrap();
    }
    std::fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    for name in ["additional_chat_templates/rag.jinja", "additional_chat_templates/tool_use.jinja", "notes.txt"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let mut command = hub.ftk(&["push", "--json", folder.path().to_str().unwrap(), "--to", "org/own", "--dry-run"]);
    let output = command.output().unwrap();
    let looked_at: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files =
        ["additional_chat_templates/tool_use.jinja", "config.json", "generation_config.json", "model.safetensors"];
    let pushed = looked_at["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap());
    assert_eq!(pushed.collect::<BTreeSet<_>>(), BTreeSet::from(files), "{}", stderr(&output));
    let stays = stderr(&output);
    assert!(stays.contains("additional_chat_templates/rag.jinja") && stays.contains("notes.txt"), "{stays}");
}

#[test]
fn a_push_that_cannot_be_says_why_and_what_to_do() {
    let hub = Hub::new();
    hub.state.lock().unwrap().token = Some("hf_known".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let run = pushed_folder(folder.path());
    let refused = |token: &str, folder: &Path, arguments: &[&str]| {
        let mut command = hub.ftk(&["push", folder.to_str().unwrap()]);
        let output = command.env("HF_TOKEN", token).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        stderr(&output)
    };
    let to = ["--to", "org/polite"];
    let address = &hub.address;
    for (token, said) in [
        ("", format!("no token for {address}")),
        ("hf_other", format!("the token is none of {address}: status 401")),
        ("hf_reads", "org/polite: not open to be written with this token: status 403".to_owned()),
    ] {
        let told = refused(token, &run, &to);
        assert!(told.contains(&said) && told.contains("HF_TOKEN"), "{token}: {told}");
    }
    let told = refused("hf_known", &run, &[&to[..], &["--offline"]].concat());
    // Nothing has been said to be on its way.
    assert!(told.starts_with("error: offline, and a push is a connection"), "{told}");
    let told = refused("hf_known", &run, &["--to", "org/polite@v2"]);
    assert!(told.contains("not a repository's name: org/polite@v2"), "{told}");
    let public = json!({ "type": "model", "organization": "org", "name": "polite", "private": false });
    hub.state.lock().unwrap().made.insert(0, public);
    let told = refused("hf_known", &run, &[&to[..], &["--private"]].concat());
    assert!(told.contains("org/polite: is there already, and everybody sees it; nothing was sent"), "{told}");
    let told = refused("hf_known", folder.path(), &to);
    assert!(told.contains("neither an adapter nor a model"), "{told}");
    assert!(hub.state.lock().unwrap().files.is_empty(), "nothing has arrived");
}
