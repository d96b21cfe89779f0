//! Which format a market file has: by its header, or without one by what stands in its columns. A file that could be
//! of two formats is refused.

use std::path::Path;

use super::cells::{decimal, whole};
use crate::DefiError;

/// How a market file is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarketFormat {
    /// Binance's klines: open time, open, high, low, close, volume, close time, quote volume, trades, taker buy base,
    /// taker buy quote, ignore.
    Klines,
    /// `timestamp,open,high,low,close,volume`.
    Bars,
    /// Binance's trades: id, price, quantity, quote quantity, time, whether the buyer made it[, best match].
    Trades,
    /// Binance's aggregated trades: id, price, quantity, first id, last id, time, whether the buyer made it[, best match].
    AggTrades,
    /// `timestamp,price,size`, where a negative size is a sale.
    Prints,
    /// Minutes of a pool, in Demeter's columns.
    PoolMinutes,
    /// Swaps, mints and burns of a pool, in Demeter's columns.
    PoolEvents,
    /// Swaps of a pool, as Dune decodes them.
    PoolSwaps,
    /// Swaps of one of Orca's pools: its program's events `Traded`.
    OrcaSwaps,
}

impl MarketFormat {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Klines,
        Self::Bars,
        Self::Trades,
        Self::AggTrades,
        Self::Prints,
        Self::PoolMinutes,
        Self::PoolEvents,
        Self::PoolSwaps,
        Self::OrcaSwaps,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Klines => "klines",
            Self::Bars => "bars",
            Self::Trades => "trades",
            Self::AggTrades => "agg-trades",
            Self::Prints => "prints",
            Self::PoolMinutes => "pool-minutes",
            Self::PoolEvents => "pool-events",
            Self::PoolSwaps => "pool-swaps",
            Self::OrcaSwaps => "orca-swaps",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        MarketFormat::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The columns it needs, each by the names it goes by, and their place where there is no header.
    pub(super) fn columns(self) -> &'static [(&'static [&'static str], usize)] {
        const TIME: &[&str] = &["timestamp", "time", "timestamp_ms", "ts", "date", "datetime"];
        match self {
            Self::Klines => &[
                (&["open_time", "open time", "timestamp", "time", "date", "datetime"], 0),
                (&["open"], 1),
                (&["high"], 2),
                (&["low"], 3),
                (&["close"], 4),
                (&["volume"], 5),
                (
                    &[
                        "taker_buy_volume",
                        "taker_buy_base",
                        "taker buy base",
                        "taker_buy_base_asset_volume",
                        "taker_buy_base_volume",
                        "taker buy base asset volume",
                    ],
                    9,
                ),
            ],
            Self::Bars => {
                &[(TIME, 0), (&["open"], 1), (&["high"], 2), (&["low"], 3), (&["close"], 4), (&["volume"], 5)]
            }
            Self::Trades => &[
                (&["id", "trade_id", "tradeid"], 0),
                (&["price"], 1),
                (&["qty", "quantity"], 2),
                (&["time", "timestamp"], 4),
                (&["is_buyer_maker", "isbuyermaker"], 5),
            ],
            Self::AggTrades => &[
                (&["agg_trade_id", "aggtradeid", "aggregate_trade_id"], 0),
                (&["price"], 1),
                (&["quantity", "qty"], 2),
                (&["transact_time", "timestamp", "time"], 5),
                (&["is_buyer_maker", "isbuyermaker"], 6),
            ],
            Self::Prints => &[(TIME, 0), (&["price"], 1), (&["size", "amount", "qty", "quantity"], 2)],
            Self::PoolMinutes => &[
                (TIME, 0),
                (&["netamount0"], 1),
                (&["netamount1"], 2),
                (&["closetick"], 3),
                (&["opentick"], 4),
                (&["lowesttick"], 5),
                (&["highesttick"], 6),
                (&["inamount0"], 7),
                (&["inamount1"], 8),
                (&["currentliquidity"], 9),
            ],
            Self::PoolEvents => &[
                (&["block_number"], 0),
                (&["block_timestamp"], 1),
                (&["tx_type"], 2),
                (&["pool_tx_index"], 4),
                (&["pool_log_index"], 5),
                (&["amount0"], 9),
                (&["amount1"], 10),
                (&["total_liquidity"], 11),
                (&["sqrtpricex96"], 13),
                (&["current_tick"], 14),
                (&["tick_lower"], 16),
                (&["tick_upper"], 17),
                (&["liquidity"], 18),
            ],
            Self::PoolSwaps => &[
                (&["evt_block_number"], 0),
                (&["evt_block_time"], 1),
                (&["evt_index"], 2),
                (&["amount0"], 3),
                (&["amount1"], 4),
                (&["liquidity"], 5),
                (&["sqrtpricex96"], 6),
                (&["tick"], 7),
            ],
            Self::OrcaSwaps => &[
                (&["slot", "block_slot", "evt_block_slot"], 0),
                (&["tx_index", "transaction_index", "evt_tx_index"], 1),
                (&["inner_instruction_index", "instruction_index", "evt_inner_instruction_index", "log_index"], 2),
                (&["block_time", "blocktime", "evt_block_time", "timestamp", "time"], 3),
                (&["whirlpool"], 4),
                (&["a_to_b", "atob"], 5),
                (&["pre_sqrt_price", "presqrtprice"], 6),
                (&["post_sqrt_price", "postsqrtprice"], 7),
                (&["input_amount", "inputamount"], 8),
                (&["output_amount", "outputamount"], 9),
                (&["lp_fee", "lpfee"], 10),
                (&["protocol_fee", "protocolfee"], 11),
            ],
        }
    }

    /// Where a header has every column it needs, `None` where one is missing.
    pub(super) fn places(self, header: &[String]) -> Option<Vec<usize>> {
        let place = |names: &[&str]| header.iter().position(|cell| names.contains(&cell.as_str()));
        self.columns().iter().map(|(names, _)| place(names)).collect()
    }

    /// Whether a header names every column it needs, and no other format reads those and more.
    fn named_by(self, header: &[String]) -> bool {
        let Some(mine) = self.places(header) else { return false };
        MarketFormat::ALL
            .into_iter()
            .filter_map(|other| other.places(header))
            .all(|others| others.len() <= mine.len() || !mine.iter().all(|place| others.contains(place)))
    }

    /// Whether a row without a header looks like it.
    fn shaped_like(self, cells: &[&str]) -> bool {
        let number = |at: usize| decimal(cells[at], 18).is_some();
        let time = |at: usize| {
            let digits = cells[at].bytes().all(|byte| byte.is_ascii_digit());
            (digits && cells[at].len() >= 10) || (cells[at].contains('-') && cells[at].contains(':'))
        };
        let id = |at: usize| !cells[at].contains('.') && whole(cells[at]).is_some();
        let flag = |at: usize| flag(cells[at]).is_some();
        let all = |range: std::ops::Range<usize>| range.clone().all(number);
        match (self, cells.len()) {
            (Self::Klines, 12) => time(0) && all(1..6) && time(6) && all(7..12),
            (Self::Bars, 6) => time(0) && all(1..6),
            // Kraken's, with the number of trades.
            (Self::Bars, 7) => time(0) && all(1..6) && id(6),
            (Self::Trades, 6) => id(0) && all(1..4) && time(4) && flag(5),
            (Self::Trades, 7) => id(0) && all(1..4) && time(4) && flag(5) && flag(6),
            (Self::AggTrades, 7) => id(0) && all(1..3) && id(3) && id(4) && time(5) && flag(6),
            (Self::AggTrades, 8) => id(0) && all(1..3) && id(3) && id(4) && time(5) && flag(6) && flag(7),
            (Self::Prints, 3) => time(0) && number(1) && decimal(cells[2].trim_start_matches('-'), 18).is_some(),
            _ => false,
        }
    }
}

/// A truth value as exchanges write it.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// The cells of a line.
pub(super) fn cells(line: &str) -> Vec<&str> {
    line.split(',').map(|cell| cell.trim().trim_matches('"')).collect()
}

/// Lines before the first that is no remark: collectors write where a file comes from above its header.
pub(super) fn remarks(text: &str) -> usize {
    text.lines().take_while(|line| line.starts_with('#')).count()
}

/// The names of a header's columns, or `None` where the first line is a row.
pub(super) fn header(text: &str) -> Option<Vec<String>> {
    let first = cells(text.lines().nth(remarks(text))?);
    let names = |cell: &&str| cell.starts_with(|c: char| c.is_ascii_alphabetic()) && flag(cell).is_none();
    first.first().is_some_and(names).then(|| first.iter().map(|cell| cell.to_ascii_lowercase()).collect())
}

/// A bin pays at one price, and what it holds is in no event of a swap.
const BINS: &str = "events of a pool of bins (Meteora), which do not say what liquidity the bins held, and whose fees \
                    vary; as timestamp, price, size its swaps are trades, for a quoter";

/// What a file is, of those that people bring and that say too little for the simulation, by its columns.
fn foreign(header: &[String]) -> Option<&'static str> {
    let has = |names: &[&str]| names.iter().all(|name| header.iter().any(|cell| cell == name));
    let known: [(&[&str], &str); 8] = [
        (&["periodstartunix"], "hours or days of a pool from a subgraph, which do not say which way the price went"),
        (
            &["amount0", "amount1", "sqrtpricex96", "logindex"],
            "swaps from a subgraph, which do not say what liquidity they found; Dune's or a node's events do",
        ),
        (
            &["whirlpool"],
            "events of Orca's pools that are not, or lack columns of, its program's Traded with slot and places in it",
        ),
        (&["account_whirlpool"], "calls of Orca's program, which do not say what came of them; its events Traded do"),
        (&["lb_pair"], BINS),
        (&["lbpair"], BINS),
        (&["bin_id"], BINS),
        (&["amount_usd", "token_bought_symbol"], "trades over several pools, which do not say what pool they found"),
    ];
    known.into_iter().find(|(names, _)| has(names)).map(|(_, what)| what)
}

/// The format of a file.
pub(super) fn detect(path: &Path, text: &str) -> Result<MarketFormat, DefiError> {
    let text = text.trim_start_matches('\u{feff}');
    let fits = |format: &MarketFormat| match header(text) {
        Some(header) => format.named_by(&header),
        None => {
            let rows = text.lines().skip(remarks(text)).filter(|line| !line.is_empty());
            let mut rows = rows.take(20).peekable();
            rows.peek().is_some() && rows.all(|row| format.shaped_like(&cells(row)))
        }
    };
    let fitting: Vec<MarketFormat> = MarketFormat::ALL.into_iter().filter(fits).collect();
    let first = text.lines().nth(remarks(text)).unwrap_or_default();
    let message = match *fitting.as_slice() {
        [one] => return Ok(one),
        [] => match header(text).as_deref().and_then(foreign) {
            Some(what) => {
                let message = format!("is of a kind that is not read: {what}");
                return Err(DefiError::Contents { path: path.to_owned(), message });
            }
            None => format!("has columns of no known format: {}", first.chars().take(200).collect::<String>()),
        },
        [one, another, ..] => format!("could be {} or {}", one.name(), another.name()),
    };
    Err(DefiError::Format { path: path.to_owned(), message })
}
