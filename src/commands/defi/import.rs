//! `ftk defi import`: market files into one canonical file.

use std::path::PathBuf;

use anyhow::Result;
use ftk_defi::{self as defi, Gaps, ImportedMarket, MarketFormat};
use serde_json::json;

use super::super::{Advice, Outcome, writable};
use crate::cli::printer::Printer;

/// What is needed.
pub struct Settings {
    /// Files of one format.
    pub files: Vec<PathBuf>,
    /// Their format, where it cannot be told.
    pub format: Option<String>,
    /// The canonical file.
    pub out: PathBuf,
}

/// Reads, checks, writes, and reports what is odd.
///
/// # Errors
/// See [`defi::import`].
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let format = settings.format.as_deref().map(|name| {
        let unknown = || {
            let names = MarketFormat::ALL.map(MarketFormat::name).join(", ");
            Advice::new(format!("no such format: {name}"), format!("there are: {names}"))
        };
        MarketFormat::named(name).ok_or_else(unknown)
    });
    writable(&settings.out)?;
    let import = defi::import(&settings.files, format.transpose()?)?;
    let digest = defi::write(&settings.out, &import.market)?;
    let ImportedMarket { market, format, read, unordered, duplicates, zero, silent, fee, rounded, gaps } = &import;
    let rows = market.rows();
    let (from, to) = (defi::date(market.time(0)), defi::date(market.time(rows - 1)));
    let share = *zero as f64 / rows as f64;
    printer.line(&digest.to_string());
    printer.note(&format!("{}: {rows} rows from {from} to {to}, written to {}", format.name(), settings.out.display()));
    printer.note(&format!(
        "{read} read, {duplicates} duplicates left out, {unordered} out of order, {:.1} % with nothing traded",
        100.0 * share
    ));
    if *silent > 0 && *format == MarketFormat::OrcaSwaps {
        printer.note(&format!("{silent} swaps left out at the beginning, too small to tell what liquidity they found"));
    } else if *silent > 0 {
        printer.note(&format!("{silent} collections of fees left out"));
    }
    if let Some(fee) = fee {
        printer.note(&format!("providers were paid {fee} millionths of what was paid in: the fee of a plan"));
    }
    if *format == MarketFormat::Prints && market.is_all_bought() {
        let how = "a sale has a negative size, or a column side that says sell";
        printer.note(&format!("every taker is a buyer: {how}"));
    }
    if *rounded > 0 {
        printer.note(&format!("{rounded} sizes with more than eight decimals were cut to those"));
    }
    if let Some(Gaps { step, count, missing, longest }) = gaps {
        let seconds = |micros: &i64| *micros as f64 / 1e6;
        printer.note(&format!(
            "a row every {} s; {count} gaps, in which {missing} rows are missing, the longest {} s",
            seconds(step),
            seconds(longest)
        ));
    }
    printer.object(&json!({
        "file": settings.out,
        "digest": digest.to_string(),
        "format": format.name(),
        "kind": market.kind(),
        "rows": rows,
        "read": read,
        "from": from,
        "to": to,
        "duplicates": duplicates,
        "out_of_order": unordered,
        "zero_volume_share": share,
        "left_out": silent,
        "rounded": rounded,
        "fee": fee,
        "gaps": gaps.map(|gaps| json!({
            "step_us": gaps.step, "count": gaps.count, "missing": gaps.missing, "longest_us": gaps.longest,
        })),
    }));
    Ok(Outcome::Done)
}
