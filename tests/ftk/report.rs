//! `ftk report`: the page in a browser, and the event files in TensorBoard.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::run::{ftk, stderr, succeed};

/// Two runs that differ in a rate, with figures on held-out rows.
fn runs(folder: &Path) {
    for (name, rate) in [("first", "1e-3"), ("second", "3e-4")] {
        let mut train =
            ftk(&["--quiet", "train", "sft", "--set", "run.steps=6", "--set", "run.eval_every=2", "--out", name]);
        succeed(train.args(["--set", &format!("optim.lr={rate}")]).current_dir(folder));
    }
}

/// The last value of every figure of a run.
fn last(folder: &Path, run: &str) -> BTreeMap<String, f64> {
    let text = std::fs::read_to_string(folder.join(run).join("metrics.jsonl")).unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let figures =
            record.as_object().unwrap().iter().filter(|(name, _)| !["step", "epoch"].contains(&name.as_str()));
        found.extend(figures.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))));
    }
    found
}

/// The rows of the first table of a page: cells with what they show when pointed at.
fn table(page: &str) -> Vec<Vec<(String, Option<f64>)>> {
    let table = page.split("<table>").nth(1).unwrap().split("</table>").next().unwrap();
    let cell = |cell: &str| {
        let (attributes, shown) = cell.split_once('>').unwrap();
        let exact = attributes.split_once("title=\"").map(|(_, rest)| rest.split('"').next().unwrap().parse().unwrap());
        (shown.split('<').next().unwrap().to_owned(), exact)
    };
    let row = |row: &str| {
        let cells = row.split("<t").skip(1).filter(|part| part.starts_with('h') || part.starts_with('d'));
        cells.map(cell).collect()
    };
    table.split("<tr>").skip(1).map(row).collect()
}

/// That the page has the numbers of the runs' files, to the last digit.
fn has_the_numbers(page: &str, folder: &Path) {
    let rows = table(page);
    assert_eq!(rows.len(), 3, "{rows:?}");
    for row in &rows[1..] {
        let figures = last(folder, &row[0].0);
        let mut seen = 0;
        for ((name, _), (shown, exact)) in rows[0].iter().zip(row) {
            let Some(expected) = figures.get(name) else { continue };
            assert_eq!(*exact, Some(*expected), "{name} of {}", row[0].0);
            assert!(
                (shown.parse::<f64>().unwrap() - expected).abs() <= 5e-4 * expected.abs().max(1.0),
                "{name}: {shown}"
            );
            seen += 1;
        }
        assert!(seen >= 4 && seen == figures.len(), "{seen} of {figures:?}");
    }
}

#[test]
fn the_page_has_the_numbers_of_the_runs() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    runs(folder);
    succeed(ftk(&["report", "first", "second", "--tensorboard", "board"]).current_dir(folder));
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    has_the_numbers(&page, folder);
    // The check can fail.
    let other = page.replacen("title=\"", "title=\"1", 1);
    assert!(std::panic::catch_unwind(|| has_the_numbers(&other, folder)).is_err());
    for run in ["first", "second"] {
        assert!(folder.join("board").join(run).join("events.out.tfevents.0.ftk").metadata().unwrap().len() > 300);
    }
    // A page takes the place of a page, and of nothing else.
    std::fs::write(folder.join("rows.jsonl"), "{}\n").unwrap();
    for (out, code) in [("report.html", 0), ("rows.jsonl", 2)] {
        let output = ftk(&["report", "first", "--out", out]).current_dir(folder).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }
    assert_eq!(std::fs::read(folder.join("rows.jsonl")).unwrap(), b"{}\n");
    std::fs::create_dir(folder.join("other")).unwrap();
    std::fs::rename(folder.join("second"), folder.join("other/first")).unwrap();
    let twice = ftk(&["report", "first", "other/first"]).current_dir(folder).output().unwrap();
    assert_eq!(twice.status.code(), Some(2));
    assert!(stderr(&twice).starts_with("error: two of these folders have one name: first\n"), "{}", stderr(&twice));
}

/// Opened in a browser, on light and on dark paper: no word on the console, nothing fetched, the same numbers, and text that
/// stands out from what is behind it.
#[test]
#[ignore = "needs Chromium: apt-get install --no-install-recommends chromium"]
fn a_browser_shows_the_page_without_a_word() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    runs(folder);
    succeed(ftk(&["report", "first", "second"]).current_dir(folder));
    // What the page looks like is written into it, behind everything else.
    let page = std::fs::read_to_string(folder.join("report.html")).unwrap();
    let look = "<script>const of=(e)=>getComputedStyle(e);document.body.dataset.text=of(document.body).color;\
                document.body.dataset.paper=of(document.body).backgroundColor;\
                document.body.dataset.plot=of(document.querySelector('svg text')).fill;\
                document.body.dataset.fetched=performance.getEntriesByType('resource').length;</script></body>";
    std::fs::write(folder.join("looked.html"), page.replace("</body>", look)).unwrap();
    let open = |file: &str, scheme: &str| {
        let mut browser = Command::new("chromium");
        browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]);
        browser.arg(format!("--user-data-dir={}", folder.join("profile").display()));
        browser.arg(format!("--blink-settings=preferredColorScheme={scheme}"));
        let output = browser.arg(format!("file://{}", folder.join(file).display())).output().expect("chromium starts");
        assert!(output.status.success(), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(!said.contains("CONSOLE"), "{said}");
        String::from_utf8(output.stdout).unwrap()
    };
    has_the_numbers(&open("report.html", "1"), folder);
    let bright = |page: &str, name: &str| -> f64 {
        let value = page.split_once(&format!("data-{name}=\"")).unwrap().1.split('"').next().unwrap();
        let parts = value.split_once('(').unwrap().1.trim_end_matches(')').split(',');
        let parts: Vec<f64> = parts.map(|part| part.trim().parse().unwrap()).collect();
        parts[..3].iter().sum::<f64>() / 765.0
    };
    for (scheme, dark) in [("1", false), ("0", true)] {
        let looked = open("looked.html", scheme);
        has_the_numbers(&looked, folder);
        assert!(looked.contains("data-fetched=\"0\""), "it loads something");
        let [text, paper, plot] = ["text", "paper", "plot"].map(|name| bright(&looked, name));
        assert_eq!(paper < 0.2, dark, "{paper}");
        assert!((text - paper).abs() > 0.6 && (plot - paper).abs() > 0.6, "{text} {plot} on {paper}");
    }
    // The test hears the console.
    std::fs::write(folder.join("loud.html"), page.replace("</body>", "<script>console.error('here')</script></body>"))
        .unwrap();
    assert!(std::panic::catch_unwind(|| open("loud.html", "1")).is_err());
}

#[test]
#[ignore = "needs TensorBoard: pip install tensorboard, with FTK_TENSORBOARD naming the python that has it"]
fn tensorboard_reads_the_event_files() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    runs(folder);
    succeed(ftk(&["report", "first", "second", "--tensorboard", "board"]).current_dir(folder));
    let python = std::env::var("FTK_TENSORBOARD").unwrap_or_else(|_| "python3".to_owned());
    let mut check = Command::new(python);
    check.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/tensorboard_events.py")).arg(folder);
    let output = check.args(["first", "second"]).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
}
