//! `ftk defi replay`: what positions in a pool earned and lost, by its events.

use std::path::PathBuf;

use anyhow::{Context, Result};
use ftk_adapters::atomic;
use ftk_defi::positions::replay;
use ftk_defi::replay::Terms;
use ftk_defi::{self as defi, Market};
use serde_json::json;

use super::super::{Advice, Outcome, csv_cell, writable};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Files of events, or one canonical file.
    pub events: Vec<PathBuf>,
    /// The table of positions.
    pub positions: PathBuf,
    /// Fee, millionths.
    pub fee: u32,
    /// Decimals of the tokens.
    pub decimals: Vec<u32>,
    /// Which token is money.
    pub money: usize,
    /// Distance of usable ticks, where it is not the usual one of the fee.
    pub spacing: Option<i32>,
    /// File to write (CSV), instead of the standard output.
    pub out: Option<PathBuf>,
}

/// Distances of usable ticks of Uniswap v3's fees.
const SPACINGS: [(u32, i32); 4] = [(100, 1), (500, 10), (3000, 60), (10_000, 200)];

/// Names of the columns.
const COLUMNS: [&str; 11] =
    ["id", "fees0", "fees1", "fees", "lost", "against_hold", "swaps", "in0", "in1", "out0", "out1"];

/// Replays and prints a line for each position.
///
/// # Errors
/// Files that cannot be read, a market that is no pool's events, a position from before them.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    settings.out.as_deref().map(writable).transpose()?;
    let terms = terms(settings)?;
    let owned = defi::owned(&settings.positions)?;
    let Market::Events(events) = market(settings)? else {
        let message = format!("{}: holds no events of a pool", settings.events[0].display());
        let hint = "give every swap, mint and burn (format pool-events): minutes do not say what a position was paid";
        return Err(Advice::new(message, hint).into());
    };
    let unit = 10f64.powi(terms.decimals[terms.money] as i32);
    let checked = owned.iter().any(|it| it.collected.is_some());
    let mut text = COLUMNS.join(",") + if checked { ",off0,off1\n" } else { "\n" };
    // Fees and losses of all; of those whose collected fees are known, fees and what was collected.
    let mut sums = [0.0; 4];
    for position in &owned {
        let found = replay(&events, &terms, position)?;
        let money = |value: i128| value as f64 / unit;
        let of = |value: u128| value as f64 / unit;
        let (fees, lost, held) = (of(found.value), money(found.lost), money(found.against_hold));
        let ([in0, in1], [out0, out1], [fees0, fees1]) = (found.tokens[0], found.tokens[1], found.fees);
        let id = csv_cell(&position.id);
        text +=
            &format!("{id},{fees0},{fees1},{fees:.6},{lost:.6},{held:.6},{},{in0},{in1},{out0},{out1}", found.swaps);
        sums[0] += fees;
        sums[1] += lost;
        let off = match (position.collected, found.collected) {
            (Some(paid), Some(value)) => {
                sums[2] += fees;
                sums[3] += of(value);
                let off = [0, 1].map(|token| found.fees[token].cast_signed() - paid[token].cast_signed());
                text += &format!(",{},{}", off[0], off[1]);
                Some(off.map(|off| off.to_string()))
            }
            _ if checked => {
                text += ",,";
                None
            }
            _ => None,
        };
        text += "\n";
        let texts = |amounts: [u128; 2]| amounts.map(|amount| amount.to_string());
        printer.object(&json!({
            "id": position.id,
            "fees": texts(found.fees),
            "value": fees,
            "lost": lost,
            "against_hold": held,
            "swaps": found.swaps,
            "paid_in": texts(found.tokens[0]),
            "paid_out": texts(found.tokens[1]),
            "off": off,
        }));
    }
    match &settings.out {
        Some(out) => {
            atomic::write(out, text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))?;
            printer.note(&format!("wrote {}", out.display()));
        }
        None => printer.part(&text),
    }
    let [fees, lost, known, collected] = sums;
    let all = format!("{} positions: fees {fees:.2}, lost to the price {lost:.2}", owned.len());
    if collected > 0.0 {
        let off = 100.0 * (known / collected - 1.0);
        printer.note(&format!("{all}; collected {collected:.2}, from which fees are {off:+.4} % off"));
    } else {
        printer.note(&all);
    }
    Ok(Outcome::Done)
}

/// What the pool is.
fn terms(settings: &Settings) -> Result<Terms> {
    let Settings { fee, decimals, money, spacing, .. } = settings;
    let usual = SPACINGS.iter().find(|(known, _)| known == fee).map(|(_, spacing)| *spacing);
    let spacing = spacing.or(usual).ok_or_else(|| {
        Advice::new(
            format!("no pool of Uniswap v3 has this fee: {fee}"),
            "say the distance of its ticks with --spacing",
        )
    })?;
    let &[first, second] = decimals.as_slice() else {
        let message = format!("a pool has two tokens, and {} decimals were given", decimals.len());
        return Err(Advice::new(message, "write --decimals 6,18").into());
    };
    Ok(Terms { fee: *fee, spacing, decimals: [first, second], money: *money })
}

/// The market: what `ftk defi import` wrote, or what it reads.
fn market(settings: &Settings) -> Result<Market> {
    if let [one] = settings.events.as_slice()
        && let Ok((market, _)) = defi::read(one)
    {
        return Ok(market);
    }
    Ok(defi::import(&settings.events, None)?.market)
}
