//! Markets through the command: a small backtest on a generated market, its decision log followed, a decision proved
//! and verified, and what a forger changes refused by its own check. The forger seals every log anew.

use std::path::Path;
use std::process::Output;

use ftk_defi::Bar;
use ftk_defi::log::{DecisionLog, LogEntry};
use ftk_defi::plan::{MakerSimulation, Plan, SHIPPED};
use ftk_defi::simulation::Simulation;
use ftk_defi::simulation::book::Book;
use serde_json::{Value, json};

use crate::documents::{keys, manual};
use crate::run::{ftk, stderr, succeed};

/// One short window: few rows to learn from, ten decisions.
fn plan() -> String {
    let plan = SHIPPED[0].1;
    let changes = [
        ("every = 5 ", "every = 40 "),
        ("windows = 3", "windows = 1"),
        ("test = 1000", "test = 400"),
        ("past = 480", "past = 60"),
    ];
    changes.iter().fold(plan.to_owned(), |plan, (from, to)| {
        assert!(plan.contains(from), "{from}");
        plan.replace(from, to)
    })
}

fn at(folder: &Path, arguments: &[&str]) -> Output {
    ftk(arguments).current_dir(folder).output().expect("ftk starts")
}

/// The refusal's check, by the verdict that was printed.
fn check(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("invalid: ")).expect("a verdict");
    line.split(": ").next().expect("a check").to_owned()
}

#[test]
fn a_backtest_its_log_and_a_proved_decision() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("plan.toml"), plan()).unwrap();
    let run = ["defi", "backtest", "--plan", "plan.toml", "--out", "run", "--json", "--quiet"];
    let said: Value = serde_json::from_str(&succeed(ftk(&run).current_dir(folder))).unwrap();
    let names: Vec<&str> =
        said["lines"].as_array().unwrap().iter().map(|line| line["name"].as_str().unwrap()).collect();
    let expected =
        ["policy", "base, not adapted", "no quotes", "symmetric", "Avellaneda-Stoikov", "GLFT", "one action, always"];
    assert_eq!(names, [&expected[..], &["as advised"]].concat());
    assert!(std::fs::read_to_string(folder.join("run/report.html")).unwrap().contains("no evidence of profit"));
    let page = succeed(ftk(&["defi", "report", "run", "--out", "page.html"]).current_dir(folder));
    assert!(page.contains("policy - it"), "{page}");
    let twice = at(folder, &run);
    assert!(twice.status.code() == Some(2) && stderr(&twice).contains("holds a backtest already"));

    // Its adapters were trained by runs like any other.
    for run in ["run/window-1/sft", "run/window-1/dpo"] {
        let trained = at(folder, &["audit", "--quiet", run, "--step", "2"]);
        assert!(trained.status.success(), "{run}: {}", stderr(&trained));
    }

    let log_path = folder.join("run/window-1/decisions.jsonl");
    let text = std::fs::read_to_string(&log_path).unwrap();
    let (log, head) = DecisionLog::read(&text).unwrap();
    let adapter = log.header.adapter.clone();
    assert_eq!(said["windows"][0]["head"], head.as_str());
    assert_eq!((log.entries.len(), said["windows"][0]["adapter"].as_str()), (10, Some(adapter.as_str())));
    let audit = |log: &str, more: &[&str]| {
        at(folder, &[&["defi", "audit", "--plan", "plan.toml", "--log", log][..], more].concat())
    };
    let honest = "run/window-1/decisions.jsonl";
    assert!(audit(honest, &["--expect-head", &head]).status.success());
    assert_eq!(check(&audit(honest, &["--expect-head", &"0".repeat(64)])), "log head");
    let object = |more: &[&str]| -> Value { serde_json::from_slice(&audit(honest, more).stdout).unwrap() };
    assert_eq!(keys(&object(&["--json"])), manual("`defi audit`"));
    let refused = object(&["--json", "--expect-head", &"0".repeat(64)]);
    assert_eq!(keys(&refused), manual("`defi audit`, of a log that is refused"));

    let proving = |log: &str, out: &str, more: &[&str]| {
        let made = ["--adapter", "run/window-1/adapter", "--commitment", "run/window-1/commitment", "--out", out];
        audit(log, &[&made[..], more].concat())
    };
    let refused = proving(honest, "bundle", &["--open"]);
    assert!(stderr(&refused).contains("--disclose"), "{}", stderr(&refused));
    let proved = proving(honest, "bundle", &["--open", "--disclose"]);
    assert!(proved.status.success(), "{}", stderr(&proved));
    let verify = |log: &str, bundle: &str, more: &[&str]| {
        audit(log, &[&["--bundle", bundle, "--expect-adapter", &adapter][..], more].concat())
    };
    let verified = verify(honest, "bundle", &[]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() && said.starts_with("valid\n"), "{said}{}", stderr(&verified));
    assert!(said.contains("not proved: that the market's data is true"), "{said}");

    // For a program, one object.
    let verified = verify(honest, "bundle", &["--json"]);
    let said: Value = serde_json::from_slice(&verified.stdout).expect("one object");
    assert_eq!(
        (&said["verdict"], &said["log"], &said["decisions"]),
        (&"valid".into(), &head.as_str().into(), &10.into())
    );
    let refused = verify(honest, "bundle", &["--json", "--nonce", "x"]);
    let said: Value = serde_json::from_slice(&refused.stdout).expect("one object");
    assert_eq!(said["verdict"], "invalid");

    // Sealed, it says the same, and nothing of the adapter.
    let sealed = proving(honest, "sealed", &[]);
    assert!(sealed.status.success(), "{}", stderr(&sealed));
    let verified = verify(honest, "sealed", &[]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() && said.starts_with("valid\n"), "{said}{}", stderr(&verified));
    assert!(said.contains("disclosed: sealed: ") && !folder.join("sealed/deltas.bin").exists(), "{said}");

    // Another draw than the one that was proved, another adapter, another plan.
    assert!(
        ["expected input", "expected context"].contains(&check(&verify(honest, "bundle", &["--nonce", "x"])).as_str())
    );
    let other = "0".repeat(64);
    let wanted = audit(honest, &["--bundle", "bundle", "--expect-adapter", &other]);
    assert_eq!(check(&wanted), "log adapter");
    std::fs::write(folder.join("tight.toml"), plan().replace("max_inventory = 500", "max_inventory = 400")).unwrap();
    let tight = at(folder, &["defi", "audit", "--plan", "tight.toml", "--log", honest]);
    assert_eq!(check(&tight), "log terms");

    let forge = |name: &str, change: &dyn Fn(&mut DecisionLog)| {
        let mut forged = log.clone();
        change(&mut forged);
        std::fs::write(folder.join(name), forged.write().0).unwrap();
    };
    type Change<'a> = &'a dyn Fn(&mut DecisionLog);
    let changes: [(&str, Change<'_>); 6] = [
        ("log state", &|log| log.entries[3].state["cash"] = "1".into()),
        ("log window", &|log| log.entries[3].ids[7] += 1),
        ("log action", &|log| log.entries[3].action = 3),
        ("log order", &|log| log.entries[3].order["bid_size"] = "900000000".into()),
        ("log steps", &|log| log.entries.swap(3, 4)),
        ("log steps", &|log| drop(log.entries.remove(3))),
    ];
    for (wanted, change) in changes {
        forge("forged.jsonl", change);
        assert_eq!(check(&verify("forged.jsonl", "bundle", &[])), wanted);
    }

    // A log that follows in all respects, of a policy that is not the adapter: the proof says otherwise. The forger
    // has a proof made for this very log.
    let plan = Plan::load(&folder.join("plan.toml")).unwrap();
    let (MakerSimulation::Book(simulation), _) = plan.open().unwrap() else { panic!("a quoter") };
    let mut turn = 0;
    let (other, _) = DecisionLog::keep(log.header.clone(), &simulation, |_| {
        turn += 1;
        Ok((log.entries[turn - 1].action - simulation.ids().0) as usize + 1).map(|action| action % 35)
    })
    .unwrap();
    std::fs::write(folder.join("other.jsonl"), other.write().0).unwrap();
    assert!(audit("other.jsonl", &[]).status.success());
    // The last answer of the command names the check, after what was proved.
    assert_eq!(check(&proving("other.jsonl", "other", &["--open", "--disclose"])), "log choice");
    assert_eq!(check(&verify("other.jsonl", "other", &[])), "log choice");

    // A log that names another base than the one its decisions come from.
    let mut based = log.clone();
    based.header.base = "0".repeat(64);
    std::fs::write(folder.join("based.jsonl"), based.write().0).unwrap();
    assert_eq!(check(&proving("based.jsonl", "based", &["--open", "--disclose"])), "log base");
    assert_eq!(check(&verify("based.jsonl", "based", &[])), "log base");

    quotes_follow_the_log(folder, &plan, log.entries.last().unwrap());
}

/// Writes the state of a logged decision into a folder, as `state.json`, and gives its rows.
fn state(folder: &Path, simulation: &Book, entry: &LogEntry) -> Vec<String> {
    let rows: Vec<String> = simulation.all()[entry.bar - 300..=entry.bar]
        .iter()
        .map(|bar| {
            let bought = bar.bought.map_or(String::new(), |it| it.to_string());
            let Bar { time, open, high, low, close, volume, .. } = bar;
            format!("{time},{open},{high},{low},{close},{volume},{bought}")
        })
        .collect();
    let state = json!({ "rows": rows, "held": entry.state });
    std::fs::write(folder.join("state.json"), state.to_string()).unwrap();
    rows
}

/// Leaves `events.csv` of a pool and `mine.csv`, a position in it, in a folder: rows of Ethereum's chain, and what
/// Uniswap paid.
fn pool(folder: &Path) {
    let rows = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/defi/src/positions/events.csv");
    std::fs::copy(rows, folder.join("events.csv")).unwrap();
    let table = "id,tick_lower,tick_upper,liquidity,opened,closed,fees0,fees1\n\
                 \"one block\",199050,199060,374209058380740165632,18937743:0:2,18937743:2:43,55365526,0\n";
    std::fs::write(folder.join("mine.csv"), table).unwrap();
}

/// Leaves `plan.toml`, its backtest in `run`, the state of a decision in `state.json` and a [`pool`] in a folder.
pub fn kept(folder: &Path) {
    pool(folder);
    std::fs::write(folder.join("plan.toml"), plan()).unwrap();
    let run = ["defi", "backtest", "--plan", "plan.toml", "--out", "run", "--quiet"];
    succeed(ftk(&run).current_dir(folder));
    let text = std::fs::read_to_string(folder.join("run/window-1/decisions.jsonl")).unwrap();
    let (log, _) = DecisionLog::read(&text).unwrap();
    let (MakerSimulation::Book(simulation), _) = Plan::load(&folder.join("plan.toml")).unwrap().open().unwrap() else {
        panic!("a quoter")
    };
    state(folder, &simulation, log.entries.last().unwrap());
}

/// What `quote` answers to the state of a logged decision is what was logged.
fn quotes_follow_the_log(folder: &Path, plan: &Plan, entry: &LogEntry) {
    let (MakerSimulation::Book(simulation), _) = plan.open().unwrap() else { panic!("a quoter") };
    let rows = state(folder, &simulation, entry);
    let quote = [
        "defi",
        "quote",
        "--plan",
        "plan.toml",
        "--state",
        "state.json",
        "--adapter",
        "run/window-1/adapter",
        "--json",
    ];
    let said: Value = serde_json::from_str(&succeed(ftk(&quote).current_dir(folder))).unwrap();
    assert_eq!((said["action"].as_u64(), &said["order"]), (Some(u64::from(entry.action)), &entry.order));
    std::fs::write(folder.join("short.json"), json!({ "rows": &rows[..5] }).to_string()).unwrap();
    let short = at(folder, &["defi", "quote", "--plan", "plan.toml", "--state", "short.json"]);
    assert!(stderr(&short).contains("short.json: has 5 rows"), "{}", stderr(&short));
}

#[test]
fn markets_are_imported_and_what_is_odd_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let rows = "timestamp,open,high,low,close,volume\n1640991600,5,6,4,5.5,1\n1640991660,5.5,6,5,6,0\n\
                1640991660,5.5,6,5,6,0\n1640991840,6,6,6,6,2.5\n";
    std::fs::write(folder.join("bars.csv"), rows).unwrap();
    let import = ["defi", "import", "bars.csv", "--out", "bars.market"];
    let said = at(folder, &import);
    assert!(said.status.success(), "{}", stderr(&said));
    let notes = stderr(&said);
    for part in ["bars: 3 rows from 2021-12-31 23:00:00", "1 duplicates left out", "33.3 % with nothing traded"] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    assert!(notes.contains("1 gaps, in which"), "{notes}");
    let written = std::fs::read_to_string(folder.join("bars.market")).unwrap();
    let digest = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    assert!(written.ends_with(&format!("# {digest}\n")), "{written}");
    std::fs::write(folder.join("odd.csv"), "a,b\n1,2\n").unwrap();
    let odd = at(folder, &["defi", "import", "odd.csv", "--out", "odd.market"]);
    assert!(stderr(&odd).contains("odd.csv: has columns of no known format: a,b"), "{}", stderr(&odd));
    assert!(stderr(&odd).contains("hint: name the format with --format") && !folder.join("odd.market").exists());
}

#[test]
fn a_position_is_replayed_and_held_against_what_was_collected() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    pool(folder);
    let replay = |more: &[&str]| {
        let plain = ["defi", "replay", "events.csv", "--positions", "mine.csv", "--fee", "500", "--decimals", "6,18"];
        at(folder, &[&plain[..], more].concat())
    };
    let said = replay(&[]);
    let (text, notes) = (String::from_utf8_lossy(&said.stdout).into_owned(), stderr(&said));
    let line = text.lines().nth(1).unwrap_or_else(|| panic!("{notes}"));
    assert!(text.starts_with("id,fees0,fees1,fees,lost,against_hold,swaps,in0,in1,out0,out1,off0,off1\n"), "{text}");
    assert!(line.starts_with("one block,55365526,0,55.365526,") && line.ends_with(",0,0"), "{line}");
    assert!(notes.contains("1 positions: fees 55.37, lost to the price") && notes.contains("+0.0000 % off"), "{notes}");
    let object: Value = serde_json::from_slice(&replay(&["--json"]).stdout).unwrap();
    assert_eq!(keys(&object), manual("`defi replay`"));
    assert_eq!((&object["fees"], &object["swaps"]), (&json!(["55365526", "0"]), &json!(1)));
    // The canonical file says the same; minutes say too little, and another fee needs its ticks.
    succeed(ftk(&["defi", "import", "events.csv", "--out", "pool.market"]).current_dir(folder));
    std::fs::copy(folder.join("pool.market"), folder.join("events.csv")).unwrap();
    assert_eq!(String::from_utf8_lossy(&replay(&[]).stdout), text);
    let bars = "timestamp,open,high,low,close,volume\n1640991600,5,6,4,5.5,1\n";
    std::fs::write(folder.join("events.csv"), bars).unwrap();
    assert!(stderr(&replay(&[])).contains("events.csv: holds no events of a pool\nhint: give every swap"));
    let mut odd =
        ftk(&["defi", "replay", "pool.market", "--positions", "mine.csv", "--fee", "700", "--decimals", "6,18"]);
    let odd = odd.current_dir(folder).output().unwrap();
    assert!(stderr(&odd).contains("no pool of Uniswap v3 has this fee: 700\nhint: say"), "{}", stderr(&odd));
}
