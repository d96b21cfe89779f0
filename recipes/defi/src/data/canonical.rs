//! The canonical market file: text that any tool reads, of which there is one way only to write a market. The first
//! line says what it is, the second names the columns, all further ones are whole numbers in time order, and the last
//! is the BLAKE3 digest of everything before it.

use std::fmt::{self, Write};
use std::path::Path;

use ftk_adapters::{atomic, foreign};
use ruint::aliases::U256;

use crate::DefiError;
use crate::market::{Action, Bar, Event, Market, PoolMinute, Taker, Trade};

/// The first line, up to the kind.
const FIRST: &str = "# ftk market 1, us, prices 1e-10, sizes 1e-8: ";

/// The digest of a canonical file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarketDigest(pub [u8; 32]);

impl fmt::Display for MarketDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn columns(market: &Market) -> &'static str {
    match market {
        Market::Bars(_) => "time,open,high,low,close,volume,bought",
        Market::Trades(_) => "time,id,price,size,taker",
        Market::Minutes(_) => "time,net0,net1,paid0,paid1,open,high,low,close,liquidity",
        Market::Events(_) => "time,block,transaction,log,kind,first,second,sqrt_price,tick,liquidity",
    }
}

/// Writes a market, and says by which digest it is known.
///
/// # Errors
/// The file system's.
pub fn write(path: &Path, market: &Market) -> Result<MarketDigest, DefiError> {
    let (text, digest) = encode(market);
    let io = |source| DefiError::Io { path: path.to_owned(), source };
    atomic::write(path, text.as_bytes()).map_err(io)?;
    Ok(digest)
}

/// The digest that a market's canonical file has.
pub fn digest(market: &Market) -> MarketDigest {
    encode(market).1
}

/// The text and its digest.
pub(super) fn encode(market: &Market) -> (String, MarketDigest) {
    let mut text = format!("{FIRST}{}\n{}\n", market.kind(), columns(market));
    let mut line = |arguments: fmt::Arguments<'_>| {
        text.write_fmt(arguments).expect("a string takes everything");
        text.push('\n');
    };
    match market {
        Market::Bars(rows) => rows.iter().for_each(|bar| {
            let Bar { time, open, high, low, close, volume, bought } = bar;
            let bought = bought.map_or(String::new(), |bought| bought.to_string());
            line(format_args!("{time},{open},{high},{low},{close},{volume},{bought}"));
        }),
        Market::Trades(rows) => rows.iter().for_each(|trade| {
            let Trade { time, id, price, size, taker } = trade;
            let id = id.map_or(String::new(), |id| id.to_string());
            let taker = match taker {
                Taker::Buyer => "buyer",
                Taker::Seller => "seller",
                Taker::Unknown => "",
            };
            line(format_args!("{time},{id},{price},{size},{taker}"));
        }),
        Market::Minutes(rows) => rows.iter().for_each(|minute| {
            let PoolMinute { time, net, paid, open, high, low, close, liquidity } = minute;
            let (net, paid) = ([net[0], net[1]], [paid[0], paid[1]]);
            line(format_args!(
                "{time},{},{},{},{},{open},{high},{low},{close},{liquidity}",
                net[0], net[1], paid[0], paid[1]
            ));
        }),
        Market::Events(rows) => rows.iter().for_each(|event| {
            let Event { time, order: [block, transaction, log], action, tick, liquidity } = event;
            let (kind, first, second, third) = match action {
                Action::Swap { amounts, sqrt_price } => {
                    ("swap", amounts[0], amounts[1], U256::from_limbs(*sqrt_price).to_string())
                }
                Action::Liquidity { lower, upper, delta } => {
                    ("liquidity", i128::from(*lower), i128::from(*upper), delta.to_string())
                }
            };
            line(format_args!("{time},{block},{transaction},{log},{kind},{first},{second},{third},{tick},{liquidity}"));
        }),
    }
    let digest = MarketDigest(*blake3::hash(text.as_bytes()).as_bytes());
    text.push_str(&format!("# {digest}\n"));
    (text, digest)
}

/// Reads a canonical file.
///
/// # Errors
/// The file system's; a file that is not as [`write()`] wrote it.
pub fn read(path: &Path) -> Result<(Market, MarketDigest), DefiError> {
    let text =
        foreign::read_text(path, foreign::DATA).map_err(|source| DefiError::Io { path: path.to_owned(), source })?;
    decode(path, &text)
}

pub(super) fn decode(path: &Path, text: &str) -> Result<(Market, MarketDigest), DefiError> {
    let wrong = |message: &str| DefiError::Canonical { path: path.to_owned(), message: message.to_owned() };
    let kind = text.lines().next().and_then(|line| line.strip_prefix(FIRST));
    let kind = kind.ok_or_else(|| wrong("its first line is another"))?;
    let bare = text.strip_suffix('\n').ok_or_else(|| wrong("it is cut short"))?;
    let end = bare.rfind('\n').ok_or_else(|| wrong("it is cut short"))? + 1;
    let digest = MarketDigest(*blake3::hash(&text.as_bytes()[..end]).as_bytes());
    if bare[end..] != format!("# {digest}") {
        return Err(wrong("its last line is not the digest of the others"));
    }
    let mut market = match kind {
        "bars" => Market::Bars(Vec::new()),
        "trades" => Market::Trades(Vec::new()),
        "minutes" => Market::Minutes(Vec::new()),
        "events" => Market::Events(Vec::new()),
        _ => return Err(wrong("its kind is unknown")),
    };
    if text.lines().nth(1) != Some(columns(&market)) {
        return Err(wrong("its columns are others"));
    }
    for (index, line) in text[..end].lines().enumerate().skip(2) {
        let cells: Vec<&str> = line.split(',').collect();
        push(&mut market, &cells).ok_or_else(|| wrong(&format!("line {} is wrong", index + 1)))?;
    }
    // A digest can be computed for anything; what was read must be what would be written.
    if encode(&market).0 != text {
        return Err(wrong("it is not spelt as ftk spells it"));
    }
    if (1..market.rows()).any(|row| market.time(row) < market.time(row - 1)) {
        return Err(wrong("its rows are not in time order"));
    }
    Ok((market, digest))
}

/// Reads rows of a canonical file that stand alone: bars, or minutes of a pool.
///
/// # Errors
/// A row that is not as [`write()`] writes it, or not later than the one before it.
pub fn rows(place: &str, minutes: bool, lines: &[String]) -> Result<Market, DefiError> {
    let mut market = if minutes { Market::Minutes(Vec::new()) } else { Market::Bars(Vec::new()) };
    for (index, line) in lines.iter().enumerate() {
        let cells: Vec<&str> = line.split(',').collect();
        let message = format!("row {index} is not one of: {}", columns(&market));
        push(&mut market, &cells).ok_or_else(|| DefiError::setting(place, message))?;
        if index > 0 && market.time(index) <= market.time(index - 1) {
            return Err(DefiError::setting(place, format!("row {index} is not later than the one before it")));
        }
    }
    Ok(market)
}

fn push(market: &mut Market, cells: &[&str]) -> Option<()> {
    match (&mut *market, cells) {
        (Market::Bars(rows), [time, open, high, low, close, volume, bought]) => rows.push(Bar {
            time: time.parse().ok()?,
            open: open.parse().ok()?,
            high: high.parse().ok()?,
            low: low.parse().ok()?,
            close: close.parse().ok()?,
            volume: volume.parse().ok()?,
            bought: optional(bought)?,
        }),
        (Market::Trades(rows), [time, id, price, size, taker]) => rows.push(Trade {
            time: time.parse().ok()?,
            id: optional(id)?,
            price: price.parse().ok()?,
            size: size.parse().ok()?,
            taker: match *taker {
                "buyer" => Taker::Buyer,
                "seller" => Taker::Seller,
                "" => Taker::Unknown,
                _ => return None,
            },
        }),
        (Market::Minutes(rows), [time, net0, net1, paid0, paid1, open, high, low, close, liquidity]) => {
            rows.push(PoolMinute {
                time: time.parse().ok()?,
                net: [net0.parse().ok()?, net1.parse().ok()?],
                paid: [paid0.parse().ok()?, paid1.parse().ok()?],
                open: open.parse().ok()?,
                high: high.parse().ok()?,
                low: low.parse().ok()?,
                close: close.parse().ok()?,
                liquidity: liquidity.parse().ok()?,
            });
        }
        (Market::Events(rows), [time, block, transaction, log, kind, first, second, third, tick, liquidity]) => {
            let action = match *kind {
                "swap" => Action::Swap {
                    amounts: [first.parse().ok()?, second.parse().ok()?],
                    sqrt_price: *U256::from_str_radix(third, 10).ok()?.as_limbs(),
                },
                "liquidity" => Action::Liquidity {
                    lower: first.parse().ok()?,
                    upper: second.parse().ok()?,
                    delta: third.parse().ok()?,
                },
                _ => return None,
            };
            let order = [block.parse().ok()?, transaction.parse().ok()?, log.parse().ok()?];
            let (time, tick, liquidity) = (time.parse().ok()?, tick.parse().ok()?, liquidity.parse().ok()?);
            rows.push(Event { time, order, action, tick, liquidity });
        }
        _ => return None,
    }
    // What cannot be true is not in a file that ftk wrote.
    match market {
        Market::Bars(rows) => rows.last()?.is_sound(),
        Market::Trades(rows) => rows.last()?.is_sound(),
        Market::Minutes(rows) => rows.last()?.is_sound(),
        Market::Events(rows) => rows.last()?.is_sound(),
    }
    .then_some(())
}

fn optional<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}
