//! What stands between this machine and the hub, and what is there of a cache that others keep.

use super::{FIRST, Hub, files};
use crate::run::{stderr, succeed};

#[test]
fn what_is_gated_is_told_as_gated() {
    let hub = Hub::with_model();
    hub.state.lock().unwrap().busy = (1, 403);
    let message = "hf://org/tiny: not at HUB, or not open to you: status 403, GatedRepo";
    hub.refused(&["pull", "org/tiny"], message, "the repository is gated: ask for access");
}

#[test]
fn a_proxy_is_gone_through_or_named() {
    let hub = Hub::with_model();
    let pull = |name: &str, value: &str, without: &str| {
        let mut command = hub.ftk(&["pull", "org/tiny"]);
        command.env("NO_PROXY", without).env(name, value);
        command.output().unwrap()
    };
    for value in [":::", "http://"] {
        let said = stderr(&pull("HTTPS_PROXY", value, ""));
        assert!(
            said.starts_with("error: HTTPS_PROXY: not the address of a proxy\nhint: set HTTPS_PROXY to "),
            "{said}"
        );
        // Where no connection is made through it, too: it is not passed over.
        assert!(!said.contains("secret"), "{said}");
    }
    // Nothing listens there, so that going through it fails.
    let dead = "http://user:secret@127.0.0.1:9";
    let said = stderr(&pull("all_proxy", dead, ""));
    assert!(said.contains(", through the proxy that all_proxy names") && !said.contains("secret"), "{said}");
    assert_eq!(hub.asked(), [""; 0]);
    for without in ["127.0.0.1", "localhost, 127.0.0.1", "*"] {
        let output = pull("ALL_PROXY", dead, without);
        assert!(output.status.success(), "{without}: {}", stderr(&output));
    }
}

#[test]
fn a_template_for_tools_comes_along() {
    let hub = Hub::with_model();
    hub.add("org/tiny", FIRST, "chat_template.jinja", b"{{ messages }}");
    hub.add("org/tiny", FIRST, "additional_chat_templates/tool_use.jinja", b"{{ tools }}");
    hub.add("org/tiny", FIRST, "additional_chat_templates/rag.jinja", b"{{ documents }}");
    let pulled = hub.pull(&["org/tiny"]);
    assert!(pulled["files"].to_string().contains("additional_chat_templates/tool_use.jinja"), "{pulled}");
    assert_eq!(files(&hub.snapshot(FIRST).join("additional_chat_templates")), ["tool_use.jinja"]);
    hub.asked();
    hub.logits(&["--base", "org/tiny"]);
    assert_eq!(hub.asked(), [""; 0], "all of it is there");
}

/// What other tools have put into a cache of theirs has no marks of what there is not.
#[cfg(unix)]
#[test]
fn a_cache_that_cannot_be_written_to_is_used_as_it_is() {
    use std::os::unix::fs::PermissionsExt;

    let hub = Hub::with_model();
    hub.pull(&["org/tiny"]);
    let folder = hub.cache().join("models--org--tiny");
    std::fs::remove_dir_all(folder.join(".no_exist")).unwrap();
    let mode = |mode| std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    hub.asked();
    mode(0o555);
    // Whoever may do everything writes there all the same.
    let may = std::fs::write(folder.join("x"), "").is_ok();
    hub.logits(&["--base", "org/tiny"]);
    mode(0o755);
    assert!(may || hub.asked().is_empty());
    succeed(&mut hub.ftk(&["pull", "org/tiny"]));
}
