//! Rows of each format as what they mean.

use std::cell::Cell;
use std::path::Path;

use super::cells::{Clock, cut, decimal, whole};
use super::detect::{self, MarketFormat};
use crate::DefiError;
use crate::market::{Action, Bar, Event, Market, PoolMinute, Taker, Trade};

/// Decimals of a price ([`crate::market::PRICE_ONE`]) and of a size ([`crate::market::SIZE_ONE`]).
const PRICE: u32 = 10;
const SIZE: u32 = 8;

/// The cells of one row, by the columns of its format.
struct CsvRow<'a> {
    path: &'a Path,
    line: usize,
    format: MarketFormat,
    cells: Vec<&'a str>,
    /// Who took, where a column beside those of the format says it.
    taker: Option<Taker>,
    /// Sizes that were cut to their decimals.
    rounded: &'a Cell<usize>,
}

impl<'a> CsvRow<'a> {
    fn error(&self, column: usize, message: impl Into<String>) -> DefiError {
        let column = self.format.columns()[column].0[0].to_owned();
        DefiError::Row { path: self.path.to_owned(), line: self.line, column, message: message.into() }
    }

    fn time(&self, column: usize, clock: &mut Clock) -> Result<i64, DefiError> {
        clock.time(self.cells[column]).map_err(|message| self.error(column, message))
    }

    fn price(&self, column: usize) -> Result<u64, DefiError> {
        let text = self.cells[column];
        let value = decimal(text, PRICE).and_then(|value| u64::try_from(value).ok()).filter(|&value| value > 0);
        value.ok_or_else(|| self.error(column, format!("is not a price of at most {PRICE} decimals: {text}")))
    }

    fn size(&self, column: usize) -> Result<u128, DefiError> {
        let text = self.cells[column];
        self.cut(text).ok_or_else(|| self.error(column, format!("is not a size: {text}")))
    }

    fn cut(&self, text: &str) -> Option<u128> {
        let (value, rounded) = cut(text, SIZE)?;
        self.rounded.set(self.rounded.get() + usize::from(rounded));
        Some(value)
    }

    fn flag(&self, column: usize) -> Result<bool, DefiError> {
        let text = self.cells[column];
        detect::flag(text).ok_or_else(|| self.error(column, format!("is neither true nor false: {text}")))
    }

    fn whole<T: TryFrom<i128>>(&self, column: usize) -> Result<T, DefiError> {
        let text = self.cells[column];
        let value = whole(text).and_then(|value| T::try_from(value).ok());
        value.ok_or_else(|| self.error(column, format!("is not a whole number in range: {text}")))
    }

    fn bar(&self, clock: &mut Clock) -> Result<Bar, DefiError> {
        let time = self.time(0, clock)?;
        let (open, high, low, close) = (self.price(1)?, self.price(2)?, self.price(3)?, self.price(4)?);
        if low > open.min(close) || high < open.max(close) {
            return Err(self.error(2, "high and low do not span open and close"));
        }
        let volume = self.size(5)?;
        let bought = if self.format == MarketFormat::Klines { Some(self.size(6)?) } else { None };
        if bought.is_some_and(|bought| bought > volume) {
            return Err(self.error(6, "is more than the volume"));
        }
        Ok(Bar { time, open, high, low, close, volume, bought })
    }

    /// A row of which each cell can be read but which cannot be true.
    fn sound<T>(&self, row: T, is: fn(&T) -> bool) -> Result<T, DefiError> {
        if is(&row) { Ok(row) } else { Err(self.error(1, "the row's prices, ticks or amounts are out of range")) }
    }

    fn trade(&self, clock: &mut Clock) -> Result<Trade, DefiError> {
        if self.format == MarketFormat::Prints {
            let text = self.cells[2];
            let (size, taker) = match text.strip_prefix('-') {
                Some(rest) => (rest, Taker::Seller),
                None => (text, Taker::Buyer),
            };
            let size = self.cut(size).ok_or_else(|| self.error(2, format!("is not a size: {text}")))?;
            let taker = match (self.taker, taker) {
                (Some(Taker::Buyer), Taker::Seller) => {
                    return Err(self.error(2, format!("is a sale, and the row says that a buyer took: {text}")));
                }
                (told, signed) => told.unwrap_or(signed),
            };
            return Ok(Trade { time: self.time(0, clock)?, id: None, price: self.price(1)?, size, taker });
        }
        let taker = if self.flag(4)? { Taker::Seller } else { Taker::Buyer };
        let (id, price, size) = (Some(self.whole(0)?), self.price(1)?, self.size(2)?);
        Ok(Trade { time: self.time(3, clock)?, id, price, size, taker })
    }

    fn minute(&self, clock: &mut Clock) -> Result<PoolMinute, DefiError> {
        let (close, open, low, high): (i32, i32, i32, i32) =
            (self.whole(3)?, self.whole(4)?, self.whole(5)?, self.whole(6)?);
        Ok(PoolMinute {
            time: self.time(0, clock)?,
            net: [self.whole(1)?, self.whole(2)?],
            close,
            open,
            // Collectors take these from swaps alone, and open and close also from what lies between.
            low: low.min(open).min(close),
            high: high.max(open).max(close),
            paid: [self.whole(7)?, self.whole(8)?],
            liquidity: self.whole::<i128>(9)?.unsigned_abs(),
        })
    }

    fn sqrt_price(&self, column: usize) -> Result<[u64; 4], DefiError> {
        let text = self.cells[column];
        let price = ruint::aliases::U256::from_str_radix(text, 10);
        Ok(*price.map_err(|_| self.error(column, format!("is not a whole number: {text}")))?.as_limbs())
    }

    /// A swap, whose number in its block orders it.
    fn swap(&self, clock: &mut Clock) -> Result<Event, DefiError> {
        let action = Action::Swap { amounts: [self.whole(3)?, self.whole(4)?], sqrt_price: self.sqrt_price(6)? };
        let liquidity = self.whole::<i128>(5)?.unsigned_abs();
        let order = [self.whole(0)?, 0, self.whole(2)?];
        Ok(Event { time: self.time(1, clock)?, order, action, tick: self.whole(7)?, liquidity })
    }

    /// An event; `None` for a collection of fees, which changes neither price nor liquidity.
    fn event(&self, clock: &mut Clock) -> Result<Option<Event>, DefiError> {
        if self.format == MarketFormat::PoolSwaps {
            return self.swap(clock).map(Some);
        }
        let time = self.time(1, clock)?;
        let order = [self.whole(0)?, self.whole(3)?, self.whole(4)?];
        let action = match self.cells[2] {
            "SWAP" => Action::Swap { amounts: [self.whole(5)?, self.whole(6)?], sqrt_price: self.sqrt_price(8)? },
            kind @ ("MINT" | "BURN") => {
                let size: i128 = self.whole(12)?;
                let delta = if kind == "MINT" { size } else { -size };
                Action::Liquidity { lower: self.whole(10)?, upper: self.whole(11)?, delta }
            }
            "COLLECT" => return Ok(None),
            other => return Err(self.error(2, format!("is none of SWAP, MINT, BURN, COLLECT: {other}"))),
        };
        let liquidity = self.whole::<i128>(7)?.unsigned_abs();
        Ok(Some(Event { time, order, action, tick: self.whole(9)?, liquidity }))
    }
}

/// Columns with a meaning beside those of a format.
#[derive(Default)]
struct ExtraColumns {
    /// Who took.
    side: Option<usize>,
    /// Which market it is: one file is of one.
    names: Vec<usize>,
}

/// Columns that say who took.
const SIDE: [&str; 6] = ["side", "taker_side", "aggressor_side", "is_buyer_maker", "isbuyermaker", "direction"];
/// Columns that say of what market a row is.
const NAMES: [&str; 9] =
    ["exchange", "venue", "symbol", "pair", "instrument", "instrument_id", "ticker", "market", "contract_address"];
/// Columns that only updates of an order book have.
const BOOK: [&str; 10] = [
    "is_snapshot",
    "bids",
    "asks",
    "bid",
    "ask",
    "bid_price",
    "ask_price",
    "update_id",
    "update_type",
    "first_update_id",
];

impl ExtraColumns {
    fn of(path: &Path, header: &[String], format: MarketFormat) -> Result<Self, DefiError> {
        let places = |names: &[&str]| (0..header.len()).filter(|&at| names.contains(&header[at].as_str())).collect();
        let names: Vec<usize> = places(&NAMES);
        if !matches!(format, MarketFormat::Trades | MarketFormat::AggTrades | MarketFormat::Prints) {
            return Ok(Self { side: None, names });
        }
        let (book, sides): (Vec<usize>, Vec<usize>) = (places(&BOOK), places(&SIDE));
        let refuse = |message: String| Err(DefiError::Contents { path: path.to_owned(), message });
        if let Some(&column) = book.first() {
            return refuse(format!(
                "holds updates of an order book, and no trades: it has the column {}",
                header[column]
            ));
        }
        match (format, sides.as_slice()) {
            (MarketFormat::Prints, [one, another, ..]) => {
                refuse(format!("says who took in two columns: {} and {}", header[*one], header[*another]))
            }
            (MarketFormat::Prints, sides) => Ok(Self { side: sides.first().copied(), names }),
            // The others' own column says it.
            _ => Ok(Self { side: None, names }),
        }
    }
}

/// Who took, as exchanges write it; of a truth value, whether the buyer was there before.
fn side(text: &str) -> Result<Taker, String> {
    match text.to_ascii_lowercase().as_str() {
        "buy" | "b" | "buyer" | "false" => Ok(Taker::Buyer),
        "sell" | "s" | "seller" | "true" => Ok(Taker::Seller),
        "unknown" | "" => Ok(Taker::Unknown),
        "bid" | "ask" => Err(format!("is a side of an order book, not of a trade: {text}")),
        _ => Err(format!("is neither buy nor sell: {text}")),
    }
}

/// Reads a file; with the number of rows that say nothing, and of sizes that were cut.
pub(super) fn read(
    path: &Path,
    text: &str,
    format: MarketFormat,
    clock: &mut Clock,
) -> Result<(Market, [usize; 2]), DefiError> {
    let text = text.trim_start_matches('\u{feff}');
    let header = detect::header(text);
    let places: Vec<usize> = match &header {
        Some(header) => format.places(header).ok_or_else(|| {
            let known = |names: &[&str]| header.iter().any(|cell| names.contains(&cell.as_str()));
            let missing = format.columns().iter().find(|(names, _)| !known(names)).map_or("", |(names, _)| names[0]);
            let message = format!("is not {}: it lacks the column {missing}", format.name());
            DefiError::Format { path: path.to_owned(), message }
        })?,
        None => format.columns().iter().map(|(_, place)| *place).collect(),
    };
    let beside = match &header {
        Some(header) => ExtraColumns::of(path, header, format)?,
        None => ExtraColumns::default(),
    };
    let width = places.iter().chain(beside.side.iter()).chain(&beside.names).max().map_or(0, |last| last + 1);
    let mut market = match format {
        MarketFormat::Klines | MarketFormat::Bars => Market::Bars(Vec::new()),
        MarketFormat::Trades | MarketFormat::AggTrades | MarketFormat::Prints => Market::Trades(Vec::new()),
        MarketFormat::PoolMinutes => Market::Minutes(Vec::new()),
        MarketFormat::PoolEvents | MarketFormat::PoolSwaps | MarketFormat::OrcaSwaps => Market::Events(Vec::new()),
    };
    let mut silent = 0;
    let mut of: Option<Vec<&str>> = None;
    let rounded = Cell::new(0);
    for (index, line) in text.lines().enumerate().skip(detect::remarks(text) + usize::from(header.is_some())) {
        if line.trim().is_empty() {
            continue;
        }
        let all = detect::cells(line);
        if all.len() < width {
            let message = format!("the row has {} columns, {width} are needed", all.len());
            let column = "row".to_owned();
            return Err(DefiError::Row { path: path.to_owned(), line: index + 1, column, message });
        }
        let wrong = |place: usize, message: String| {
            let column = header.as_ref().map_or_else(String::new, |header| header[place].clone());
            DefiError::Row { path: path.to_owned(), line: index + 1, column, message }
        };
        let names: Vec<&str> = beside.names.iter().map(|&place| all[place]).collect();
        let first = of.get_or_insert_with(|| names.clone());
        if let Some(at) = (0..names.len()).find(|&at| names[at] != first[at]) {
            let message = format!("is of another market than the rows before it, {}: {}", first[at], names[at]);
            return Err(wrong(beside.names[at], message));
        }
        let taker = beside.side.map(|place| side(all[place]).map_err(|message| wrong(place, message))).transpose()?;
        let row = CsvRow {
            path,
            line: index + 1,
            format,
            cells: places.iter().map(|&place| all[place]).collect(),
            taker,
            rounded: &rounded,
        };
        match &mut market {
            Market::Bars(rows) => rows.push(row.sound(row.bar(clock)?, Bar::is_sound)?),
            Market::Trades(rows) => rows.push(row.sound(row.trade(clock)?, Trade::is_sound)?),
            Market::Minutes(rows) => rows.push(row.sound(row.minute(clock)?, PoolMinute::is_sound)?),
            Market::Events(rows) => match row.event(clock)? {
                Some(event) => rows.push(row.sound(event, Event::is_sound)?),
                None => silent += 1,
            },
        }
    }
    Ok((market, [silent, rounded.get()]))
}
