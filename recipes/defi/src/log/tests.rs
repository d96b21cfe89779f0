use super::*;
use crate::generated::{USUAL, bars};
use crate::quoter::{ACTIONS, QuoteController};
use crate::rules::BookRules;
use crate::simulation::book::Book;
use crate::window::{QUOTES, warm_up};

const CONTROLLER: QuoteController = QuoteController {
    base: 100_000,
    slope: 500_000,
    size: 100_000_000,
    max_inventory: 300_000_000,
    min_half_spread: 50_000,
};

fn simulation(controller: QuoteController) -> Book {
    let rules = BookRules { maker_fee: -20, tick: 1_000_000, through: 1, queue: 200_000, share: 1_000_000, latency: 1 };
    Book::new(bars(4, 600, USUAL), rules, controller, 100).unwrap()
}

fn kept() -> (Book, DecisionLog) {
    let simulation = simulation(CONTROLLER);
    let header = LogHeader {
        market: "m".to_owned(),
        terms: "t".to_owned(),
        base: "b".to_owned(),
        adapter: "a".to_owned(),
        bars: [warm_up() + 1, 600],
        every: 20,
    };
    let mut turn = 0;
    let (log, passed) = DecisionLog::keep(header, &simulation, |_| {
        turn += 7;
        Ok(turn % ACTIONS)
    })
    .unwrap();
    assert_eq!(passed.len(), 600 - warm_up() - 1);
    assert!(passed.iter().any(|bar| bar.fill.is_some()));
    (simulation, log)
}

/// The check that refuses a log which its forger sealed anew.
fn refused(simulation: &Book, log: &DecisionLog) -> String {
    let (text, _) = log.write();
    let (read, _) = DecisionLog::read(&text).unwrap();
    assert_eq!(read, *log);
    log.follow(simulation, "m", "t").unwrap_err().to_string()
}

#[test]
fn a_log_comes_back_and_follows() {
    let (simulation, log) = kept();
    let (text, head) = log.write();
    assert_eq!(DecisionLog::read(&text).unwrap(), (log.clone(), head));
    assert_eq!(log.follow(&simulation, "m", "t").unwrap().len(), 600 - warm_up() - 1);
}

/// Markets, simulation, windows and controller are integers: these were computed on an x86-64 and are to be found
/// anywhere.
#[test]
fn results_are_the_same_on_every_machine() {
    assert_eq!(kept().1.write().1, "1b2c109c3b9298940755fc71b81b9d53162adc3f8d76c9d2b30cef57f2e76fb1");
    let days = crate::generated::pool_days(3, 200).unwrap();
    assert_eq!(
        crate::digest(&crate::Market::Events(days)).to_string(),
        "13d24c086d2426d8baef8edcccbf88abc40f81d4e15903390c780d39a8e133a6"
    );
}

#[test]
fn every_change_is_refused_by_its_own_check() {
    let (simulation, log) = kept();
    let starts = |found: String, check: &str| assert!(found.starts_with(&format!("{check}: ")), "{check}: {found}");
    let changed = |change: &dyn Fn(&mut DecisionLog)| {
        let mut log = log.clone();
        change(&mut log);
        refused(&simulation, &log)
    };
    starts(changed(&|log| log.header.market = "x".to_owned()), check::MARKET);
    starts(changed(&|log| log.header.terms = "x".to_owned()), check::TERMS);
    starts(changed(&|log| log.header.bars[1] = 601), check::STEPS);
    starts(changed(&|log| drop(log.entries.remove(5))), check::STEPS);
    starts(changed(&|log| drop(log.entries.pop())), check::STEPS);
    starts(changed(&|log| log.entries.push(log.entries[0].clone())), check::STEPS);
    starts(changed(&|log| log.entries.swap(3, 4)), check::STEPS);
    starts(changed(&|log| log.entries[6].state["inventory"] = "1".into()), check::STATE);
    starts(changed(&|log| log.entries[6].ids[9] += 1), check::WINDOW);
    starts(changed(&|log| log.entries[6].action = QUOTES - 1), check::ACTION);
    starts(changed(&|log| log.entries[6].action = QUOTES + ACTIONS as u32), check::ACTION);
    // Another action has another order; with that order, too, what follows is another history.
    let other = QUOTES + (log.entries[6].action - QUOTES + 20) % ACTIONS as u32;
    starts(changed(&|log| log.entries[6].action = other), check::ORDER);
    starts(changed(&|log| log.entries[6].order["bid"] = 1.into()), check::ORDER);
    // Limits that the controller did not keep: the same log under tighter ones.
    let tighter = QuoteController { max_inventory: 200_000_000, ..CONTROLLER };
    let found = log.follow(&self::simulation(tighter), "m", "t").unwrap_err().to_string();
    assert!([check::STATE, check::WINDOW, check::ORDER].iter().any(|check| found.starts_with(check)), "{found}");
}

#[test]
fn a_broken_chain_is_refused() {
    let (_, log) = kept();
    let (text, _) = log.write();
    let lines: Vec<&str> = text.lines().collect();
    let read = |lines: &[String]| DecisionLog::read(&(lines.join("\n") + "\n")).unwrap_err().to_string();
    let with = |at: usize, line: String| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        lines[at] = line;
        read(&lines)
    };
    let later = lines[8].replace("\"step\":7", "\"step\":8");
    assert_eq!(with(8, later), "log chain: decision 7: has another digest than it says");
    let mut without: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    without.remove(4);
    assert_eq!(read(&without), "log chain: decision 3: does not follow the line before it");
    without.truncate(4);
    let all = log.entries.len();
    assert_eq!(read(&without), format!("log steps: {all} were stated, there are 3"));
    assert_eq!(with(3, "{}".to_owned()), "log form: decision 2: has no digest");
    assert_eq!(with(0, "1".to_owned()), "log form: the first line: is not a JSON object");
    assert_eq!(with(3, lines[3].replace("\":", "\": ")), "log form: the text is not the one that ftk writes");
}

#[test]
fn samples_are_drawn_by_the_head() {
    let drawn = sample("head", "", 500, 20);
    assert!(drawn.len() == 20 && drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn[19] < 500);
    assert_eq!(sample("head", "", 500, 20), drawn);
    assert_ne!(sample("heaD", "", 500, 20), drawn);
    assert_ne!(sample("head", "nonce", 500, 20), drawn);
    assert_eq!(sample("head", "", 3, 20), [0, 1, 2]);
    let mut seen = [0; 10];
    (0..2000).for_each(|index| seen[sample(&index.to_string(), "", 10, 1)[0]] += 1);
    assert!(seen.iter().all(|&count| (140..260).contains(&count)), "{seen:?}");
}
