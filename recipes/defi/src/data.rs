//! `import`: market files as exchanges and collectors publish them, into one canonical file. The formats are told
//! apart in `detect`, their rows are read in `rows`, numbers and times in `cells`; `canonical` is the one file that
//! everything else reads. What the rows mean is known to [`super::market`].

mod canonical;
mod cells;
mod detect;
mod orca;
mod positions;
mod rows;
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use self::canonical::{MarketDigest, digest, read, rows, write};
use self::cells::Clock;
pub use self::cells::date;
pub use self::detect::MarketFormat;
use self::orca::OrcaSwaps;
pub use self::positions::{OwnedPosition, PositionMoment, positions};
use self::text::text;
use super::DefiError;
use super::market::{Action, Gaps, Market, gaps};

/// What was read, and what is odd about it.
#[derive(Clone, Debug)]
pub struct ImportedMarket {
    /// The market, in time order.
    pub market: Market,
    /// How the files are spelt.
    pub format: MarketFormat,
    /// Rows in the files.
    pub read: usize,
    /// Rows that stood behind a later one.
    pub unordered: usize,
    /// Rows that repeat another, left out.
    pub duplicates: usize,
    /// Rows in which nothing was traded.
    pub zero: usize,
    /// Rows that say nothing about price or liquidity (collections of fees).
    pub silent: usize,
    /// What providers get of what is paid into a pool, in millionths, where the files say it.
    pub fee: Option<u32>,
    /// Sizes with more than eight decimals, cut to those.
    pub rounded: usize,
    /// Where rows are missing; of bars and minutes only.
    pub gaps: Option<Gaps>,
}

/// Reads files of one format, plain or `.gz`; `format` says which where it cannot be told.
///
/// # Errors
/// A file that cannot be read or whose format cannot be told, files of different formats, a row that is wrong, two
/// different bars for one time.
pub fn import(paths: &[PathBuf], format: Option<MarketFormat>) -> Result<ImportedMarket, DefiError> {
    let mut found: Option<ImportedMarket> = None;
    for path in paths {
        let text = text(path)?;
        let detected = match format {
            Some(format) => format,
            None => detect::detect(path, &text)?,
        };
        if let Some(first) = found.as_ref().map(|import| import.format).filter(|&first| first != detected) {
            let message = format!("is {}, the files before it are {}", detected.name(), first.name());
            return Err(DefiError::Format { path: path.clone(), message });
        }
        let clock = &mut Clock::default();
        let (market, [silent, rounded], fee) = if detected == MarketFormat::OrcaSwaps {
            let OrcaSwaps { events, silent, fee } = orca::read(path, text.trim_start_matches('\u{feff}'), clock)?;
            (Market::Events(events), [silent, 0], Some(fee))
        } else {
            let (market, odd) = rows::read(path, &text, detected, clock)?;
            (market, odd, None)
        };
        if let Some(first) = found.as_ref().map(|import| import.fee).filter(|&first| first != fee) {
            let say = |fee: Option<u32>| fee.map_or("none".to_owned(), |fee| format!("{fee} millionths"));
            let message = format!("pays providers {}, the files before it {}", say(fee), say(first));
            return Err(DefiError::Contents { path: path.clone(), message });
        }
        let read = market.rows() + silent;
        match &mut found {
            None => {
                let (unordered, duplicates, zero, gaps) = (0, 0, 0, None);
                found = Some(ImportedMarket {
                    market,
                    format: detected,
                    read,
                    unordered,
                    duplicates,
                    zero,
                    silent,
                    fee,
                    rounded,
                    gaps,
                });
            }
            Some(import) => {
                import.read += read;
                import.silent += silent;
                import.rounded += rounded;
                append(&mut import.market, market);
            }
        }
    }
    let mut import = found.ok_or_else(|| DefiError::setting("import", "no file was given"))?;
    normalise(&mut import, &paths[0])?;
    Ok(import)
}

fn append(market: &mut Market, more: Market) {
    match (market, more) {
        (Market::Bars(rows), Market::Bars(more)) => rows.extend(more),
        (Market::Trades(rows), Market::Trades(more)) => rows.extend(more),
        (Market::Minutes(rows), Market::Minutes(more)) => rows.extend(more),
        (Market::Events(rows), Market::Events(more)) => rows.extend(more),
        _ => unreachable!("files of one format are of one kind"),
    }
}

/// Sorts, takes repetitions out and counts.
fn normalise(import: &mut ImportedMarket, path: &Path) -> Result<(), DefiError> {
    let rows = import.market.rows();
    if rows == 0 {
        return Err(DefiError::Contents { path: path.to_owned(), message: "has no rows".to_owned() });
    }
    import.unordered = (1..rows).filter(|&row| import.market.time(row) < import.market.time(row - 1)).count();
    let conflict = |time: i64| DefiError::Contents {
        path: path.to_owned(),
        message: format!("has two different rows for one time: {}", cells::date(time)),
    };
    match &mut import.market {
        Market::Bars(bars) => {
            bars.sort_by_key(|bar| bar.time);
            bars.dedup();
            if let Some(pair) = bars.windows(2).find(|pair| pair[0].time == pair[1].time) {
                return Err(conflict(pair[0].time));
            }
            import.zero = bars.iter().filter(|bar| bar.volume == 0).count();
        }
        Market::Minutes(minutes) => {
            minutes.sort_by_key(|minute| minute.time);
            minutes.dedup();
            if let Some(pair) = minutes.windows(2).find(|pair| pair[0].time == pair[1].time) {
                return Err(conflict(pair[0].time));
            }
            import.zero = minutes.iter().filter(|minute| minute.paid == [0; 2]).count();
        }
        Market::Trades(trades) => {
            // Trades of one time keep their order; only a number tells a repetition from a second trade like it.
            trades.sort_by_key(|trade| (trade.time, trade.id));
            let mut known = BTreeSet::new();
            trades.retain(|trade| trade.id.is_none_or(|id| known.insert(id)));
            import.zero = trades.iter().filter(|trade| trade.size == 0).count();
        }
        Market::Events(events) => {
            events.sort_by_key(|event| event.order);
            events.dedup();
            if let Some(pair) = events.windows(2).find(|pair| pair[0].order == pair[1].order) {
                return Err(conflict(pair[0].time));
            }
            let idle = |action: &Action| matches!(action, Action::Swap { amounts: [0, 0], .. });
            import.zero = events.iter().filter(|event| idle(&event.action)).count();
        }
    }
    import.duplicates = rows - import.market.rows();
    if matches!(import.market, Market::Bars(_) | Market::Minutes(_)) {
        let times: Vec<i64> = (0..import.market.rows()).map(|row| import.market.time(row)).collect();
        import.gaps = gaps(&times);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
