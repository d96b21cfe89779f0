//! Markets: swap steps a second, a backtest of 45,000 bars (rows, SFT, DPO and what follows), and one decision proved
//! and verified.
//!
//! `cargo bench --bench defi [-- MARKET]`, with a canonical file of bars for a real market.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use ftk_defi::pool::{Pool, PositionKey, SwapDirection, sqrt_at};
use ftk_defi::{Market, generated, write};

/// Bars of the generated market, as many as a month of minutes has.
const BARS: usize = 45_000;

fn main() {
    let market = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    println!("| what | measured | goal |\n|---|---|---|");
    steps("swap steps a second, in one range", 1, 5.0);
    steps("swap steps a second, a tick crossed every step", 400, 5.0);
    let folder = tempfile::tempdir().expect("a temporary folder");
    decisions(folder.path(), market.as_deref());
}

/// Swaps back and forth through a pool; `edges` ranges of liquidity that end one after another.
fn steps(name: &str, edges: i32, goal: f64) {
    const E18: u128 = 1_000_000_000_000_000_000;
    let mut pool = Pool::new(sqrt_at(0), 500).expect("a pool");
    pool.mint(PositionKey { owner: 0, lower: -60_000, upper: 60_000 }, 1000 * E18).expect("liquidity");
    for edge in 1..edges {
        pool.mint(PositionKey { owner: 1, lower: -10 * edge, upper: 10 * edge }, 5 * E18).expect("liquidity");
    }
    let limits = [-10 * edges - 5, 10 * edges + 5].map(sqrt_at);
    let began = Instant::now();
    let mut count = 0;
    for turn in 0..3_000_000_usize.div_ceil(edges as usize) {
        let (side, limit) = [(SwapDirection::Zero, limits[0]), (SwapDirection::One, limits[1])][turn % 2];
        // Small swaps within one range, or from one end of the ranges to the other.
        let amount = if edges == 1 { E18 / 1000 + turn as u128 % 1000 } else { 1 << 100 };
        count += pool.swap(side, amount, limit).expect("a swap").steps;
    }
    let rate = count as f64 / began.elapsed().as_secs_f64() / 1e6;
    println!("| {name} | {rate:.2} M | {goal} M |");
}

/// A backtest by the command, and one of its decisions proved and verified by it.
fn decisions(folder: &Path, market: Option<&str>) {
    let file = folder.join("bars.market");
    match market {
        Some(market) => drop(std::fs::copy(market, &file).expect("the market can be copied")),
        None => drop(write(&file, &Market::Bars(generated::bars(1, BARS, generated::USUAL))).expect("a file")),
    }
    let plan = ftk_defi::plan::SHIPPED[0].1;
    let plan = plan.replace("\"generated\"", "\"bars.market\"").replace("every = 5 ", "every = 10 ");
    // One run of SFT and DPO: one window, which learns from nearly all of the bars.
    std::fs::write(folder.join("plan.toml"), plan.replace("windows = 3", "windows = 1")).expect("a file");
    let ftk = |arguments: &[&str]| {
        let began = Instant::now();
        let done =
            Command::new(env!("CARGO_BIN_EXE_ftk")).current_dir(folder).args(arguments).output().expect("ftk runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        (began.elapsed().as_secs_f64(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    let (seconds, said) = ftk(&["defi", "backtest", "--plan", "plan.toml", "--out", "run"]);
    let rows = said.lines().find(|line| line.starts_with("window 1")).unwrap_or_default();
    println!("| rows, SFT, DPO, commitment and test ({rows}) | {seconds:.0} s | 300 s |");
    let audit = ["defi", "audit", "--plan", "plan.toml", "--log", "run/window-1/decisions.jsonl"];
    let made = [
        "--adapter",
        "run/window-1/adapter",
        "--commitment",
        "run/window-1/commitment",
        "--open",
        "--disclose",
        "--out",
        "bundle",
    ];
    let (following, _) = ftk(&audit);
    let (proving, _) = ftk(&[&audit[..], &made[..]].concat());
    println!(
        "| one decision: prove, after following the log in {following:.2} s | {:.2} s | 5 s |",
        proving - following
    );
    let digest = std::fs::read_to_string(folder.join("run/backtest.json")).expect("figures");
    let figures: serde_json::Value = serde_json::from_str(&digest).expect("figures");
    let adapter = figures["windows"][0]["adapter"].as_str().expect("a digest").to_owned();
    let (verifying, _) = ftk(&[&audit[..], &["--bundle", "bundle", "--expect-adapter", &adapter]].concat());
    println!("| one decision: verify, after following the log | {:.2} s | 1 s |", verifying - following);
}
