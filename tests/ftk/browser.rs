//! The verifier's page in a browser: bundles are dropped on it, as a person would.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::run::{fixture, stderr};

/// How long a browser may take to begin and to judge four bundles.
const PATIENCE: Duration = Duration::from_secs(300);

/// A name that would do something in a page that took it for markup, and turns the direction of writing.
const HOSTILE: &str = "<img src=x onerror=console.error(1)>\u{202e}.txt";

/// The page: `FTK_BROWSER_PAGE`, or made anew.
fn page(folder: &Path) -> String {
    let page = std::env::var_os("FTK_BROWSER_PAGE").map_or_else(|| folder.join("made.html"), PathBuf::from);
    if !page.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/browser-page");
        let output = Command::new(script).arg(&page).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    std::fs::read_to_string(page).unwrap()
}

fn folder(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

/// Opens a page with this script at its end, and gives what it says on the console behind `said `, until it says `end`.
fn say(folder: &Path, page: &str, script: &str) -> Vec<Value> {
    let file = folder.join("page.html");
    std::fs::write(&file, page.replace("</body>", &format!("<script>{script}</script></body>"))).unwrap();
    let mut browser = Command::new("chromium");
    browser.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--remote-debugging-port=0",
    ]);
    browser.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    let mut browser = browser
        .arg(format!("file://{}", file.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chromium starts");
    let lines = BufReader::new(browser.stderr.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let _ = lines.map_while(Result::ok).try_for_each(|line| sender.send(line));
    });
    let (mut said, mut heard) = (Vec::new(), String::new());
    let ended = loop {
        let Ok(line) = receiver.recv_timeout(PATIENCE) else { break false };
        heard.push_str(&line);
        heard.push('\n');
        let Some((_, spoken)) = line.split_once("CONSOLE") else { continue };
        let Some((_, spoken)) = spoken.split_once("] \"") else { continue };
        match spoken.rsplit_once("\", source: ").unwrap_or((spoken, "")).0 {
            "end" => break true,
            spoken => match spoken.strip_prefix("said ") {
                Some(json) => said.push(serde_json::from_str(json).unwrap()),
                None => break false,
            },
        }
    };
    browser.kill().unwrap();
    browser.wait().unwrap();
    drop(receiver);
    reader.join().unwrap();
    assert!(ended, "the page says something else, or nothing: {heard}");
    said
}

/// Drops files, fills in fields, presses the button, and tells what is to be read then.
const BUYER: &str = r#"
const made = ([name, hex]) => new File([Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16))], name);
function drop(kind, files) {
  const dataTransfer = new DataTransfer();
  files.forEach((file) => dataTransfer.items.add(made(file)));
  id(kind).dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}
async function until(holds) {
  while (!holds()) await new Promise((done) => setTimeout(done, 20));
}
(async () => {
  for (const { bundle, base, asked } of asks) {
    id("asked").reset();
    for (const [name, value] of Object.entries(asked)) id("asked").elements[name][value === true ? "checked" : "value"] = value;
    chosen.bundle = []; chosen.base = [];
    drop("bundle", bundle);
    await until(() => chosen.bundle.length === bundle.length);
    if (base === null) {
      id("shipped").value = "village";
      id("shipped").dispatchEvent(new Event("change"));
    } else {
      drop("base", base);
    }
    await until(() => chosen.base.length > 0);
    id("asked").requestSubmit();
    await until(() => id("verdict").textContent !== "");
    console.log("said " + JSON.stringify({ verdict: id("verdict").textContent, text: id("result").innerText,
      answer: JSON.parse(id("json").textContent), files: document.querySelector('#bundle output').textContent,
      images: document.images.length, fetched: performance.getEntriesByType("resource").map(({ name }) => name) }));
  }
  console.log("end");
})();
"#;

#[test]
#[ignore = "needs Chromium: apt-get install --no-install-recommends chromium; and rustup target add wasm32-unknown-unknown"]
fn a_browser_judges_bundles_that_are_dropped_on_the_page() {
    let place = tempfile::tempdir().unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let encoded = |files: &BTreeMap<String, Vec<u8>>| -> Value {
        files.iter().map(|(name, bytes)| json!([name, hex(bytes)])).collect()
    };
    let mut honest = folder(&fixture("frozen").join("3-sealed"));
    let known: Value = serde_json::from_slice(&honest.remove("expected.json").unwrap()).unwrap();
    let statement = String::from_utf8(honest["statement.json"].clone()).unwrap();
    let ids: Value = serde_json::from_str::<Value>(&statement).unwrap()["cases"][0]["input"]["ids"].clone();
    let asked = json!({ "adapter": known["adapter"], "input": ids.to_string(), "context": known["context"],
                        "task": "completion", "max_tokens": "6" });
    let mut named = honest.clone();
    named.insert(HOSTILE.to_owned(), Vec::new());
    let mut forged = honest.clone();
    forged.insert("statement.json".to_owned(), statement.replace("820", "821").into_bytes());
    assert_ne!(forged, honest);
    let mut other = folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/text/village/base"));
    let own = encoded(&other);
    *other.get_mut("model.safetensors").unwrap().last_mut().unwrap() ^= 1;
    let asks = json!([
        { "bundle": encoded(&named), "base": null, "asked": asked },
        { "bundle": encoded(&forged), "base": null, "asked": asked },
        { "bundle": encoded(&honest), "base": own, "asked": { "any_input": true } },
        { "bundle": encoded(&honest), "base": encoded(&other), "asked": asked },
    ]);
    let said = say(place.path(), &page(place.path()), &format!("const asks = {asks};{BUYER}"));
    let verdicts: Vec<(&str, Option<&str>)> =
        said.iter().map(|it| (it["verdict"].as_str().unwrap(), it["answer"]["check"].as_str())).collect();
    let expected =
        [("valid", None), ("invalid", Some("sealed proof")), ("consistent", None), ("invalid", Some("base"))];
    assert_eq!(verdicts, expected, "{said:#?}");

    let text = |index: usize| said[index]["text"].as_str().unwrap();
    let adapter = known["adapter"].as_str().unwrap();
    for words in [adapter, "greedily with", "how the adapter was trained", "⟨What⟩ ⟨Ġdoes⟩", "context: buyer 7"]
    {
        assert!(text(0).contains(words), "{words}: {}", text(0));
    }
    assert!(text(1).contains("Refused by the check \"sealed proof\""), "{}", text(1));
    assert!(text(2).contains("no adapter was expected"), "{}", text(2));
    // Foreign names are text, and what cannot be seen is written out.
    let shown = "<img src=x onerror=console.error(1)>\\u{202e}.txt";
    assert!(text(0).contains(shown) && said[0]["files"].as_str().unwrap().contains(shown), "{}", text(0));
    // Nothing is fetched but the page's own worker.
    for answer in &said {
        assert_eq!(answer["images"], 0);
        let fetched = answer["fetched"].as_array().unwrap();
        assert!(fetched.iter().all(|name| name.as_str().unwrap().starts_with("blob:")), "{fetched:?}");
    }
    let took = |index: usize| text(index).split("Took").nth(1).unwrap().lines().find(|line| !line.is_empty()).unwrap();
    println!("valid: {}; invalid: {}", took(0), took(1));
}
