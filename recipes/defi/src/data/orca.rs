//! Swaps of Orca's pools of concentrated liquidity (Whirlpools), as its program tells them in its events `Traded`: the
//! square roots of the prices before and after (Q64.64), what was paid, and of that the fees of providers and protocol.
//! Ticks are Uniswap's, and so is the rule of a swap within a range of liquidity. How much liquidity a swap found is not
//! told; it follows from what was paid or given for the price to go that way, as well as those whole units allow.

use std::path::Path;

use ruint::aliases::U256;

use super::cells::{Clock, whole};
use super::detect::{self, MarketFormat};
use crate::DefiError;
use crate::market::{Action, Event};
use crate::pool::{FEE_ONE, MAX_SQRT, MIN_SQRT, tick_at};

/// Columns that must be 0 where they are there: of tokens that take something of every transfer.
const TRANSFERS: [&str; 4] = ["input_transfer_fee", "inputtransferfee", "output_transfer_fee", "outputtransferfee"];
/// The place of an instruction, where that beside it is the place in this.
const OUTER: [&str; 2] = ["outer_instruction_index", "evt_outer_instruction_index"];
/// Amounts of fewer units than this say too little of the liquidity.
const TELLING: u128 = 1000;
/// Units by which rounding may move a fee: one in each range of liquidity that a swap passes.
const ROUNDED: u128 = 64;

/// One swap as it is told, in the file's order.
struct Traded {
    line: usize,
    order: [u64; 3],
    time: i64,
    /// Square roots of the prices before and after, Q64.64.
    way: [u128; 2],
    /// The token that was paid in.
    token: usize,
    paid: u128,
    given: u128,
    /// Of providers, and of the protocol.
    fees: [u128; 2],
}

/// What a file says.
pub(super) struct OrcaSwaps {
    /// The swaps, in the file's order.
    pub events: Vec<Event>,
    /// Rows before the first swap that is large enough to tell the liquidity.
    pub silent: usize,
    /// What providers get, in millionths of what is paid in.
    pub fee: u32,
}

/// The liquidity that a way of the price took so much of: exact where it did not change on the way, and its mean by
/// the way where it did. With `amounts` of each token without fees; `None` where they are too small to tell.
fn liquidity(way: [u128; 2], amounts: [u128; 2], known: Option<u128>) -> Option<u128> {
    let (low, high) = (U256::from(way[0].min(way[1])), U256::from(way[0].max(way[1])));
    let distance = high - low;
    let token = usize::from(amounts[1] > amounts[0]);
    if distance.is_zero() || amounts[token] < TELLING {
        return known;
    }
    // Token 1 is L (b - a), token 0 is L (1/a - 1/b).
    let of = |amount: u128| -> Option<u128> {
        let wide: ruint::aliases::U512 = match token {
            1 => ruint::aliases::U512::from(amount) << 64,
            _ => (low.widening_mul::<256, 4, 512, 8>(high) * ruint::aliases::U512::from(amount)) >> 64,
        };
        u128::try_from(wide / ruint::aliases::U512::from(distance)).ok()
    };
    // Amounts are rounded to a unit, so what was known before goes on if it explains them.
    let span = of(amounts[token] - 1)?..=of(amounts[token] + 1)?;
    match known.filter(|known| span.contains(known)) {
        Some(known) => Some(known),
        None => of(amounts[token]),
    }
}

/// Reads a file.
///
/// # Errors
/// A row that is wrong, of another pool or of tokens with a fee for transfers; swaps that are missing; a fee that
/// varies.
pub(super) fn read(path: &Path, text: &str, clock: &mut Clock) -> Result<OrcaSwaps, DefiError> {
    let format = MarketFormat::OrcaSwaps;
    let header = detect::header(text).unwrap_or_default();
    let places = format.places(&header).ok_or_else(|| {
        let known = |names: &[&str]| header.iter().any(|cell| names.contains(&cell.as_str()));
        let missing = format.columns().iter().find(|(names, _)| !known(names)).map_or("", |(names, _)| names[0]);
        let message = format!("is not {}: it lacks the column {missing}", format.name());
        DefiError::Format { path: path.to_owned(), message }
    })?;
    let beside =
        |names: &[&str]| (0..header.len()).filter(|&at| names.contains(&header[at].as_str())).collect::<Vec<_>>();
    let (transfers, outer) = (beside(&TRANSFERS), beside(&OUTER));
    let wrong = |line: usize, place: usize, message: String| DefiError::Row {
        path: path.to_owned(),
        line,
        column: header[place].clone(),
        message,
    };
    let width = places.iter().chain(&transfers).chain(&outer).max().map_or(0, |last| last + 1);
    let mut rows: Vec<Traded> = Vec::new();
    let mut pool: Option<String> = None;
    for (index, line) in text.lines().enumerate().skip(detect::remarks(text) + 1) {
        if line.trim().is_empty() {
            continue;
        }
        let (line, cells) = (index + 1, detect::cells(line));
        if cells.len() < width {
            let message = format!("the row has {} columns, {width} are needed", cells.len());
            return Err(DefiError::Row { path: path.to_owned(), line, column: "row".to_owned(), message });
        }
        // Amounts on that chain have 64 bits.
        let number = |place: usize| -> Result<u64, DefiError> {
            let value = whole(cells[place]).and_then(|value| u64::try_from(value).ok());
            value.ok_or_else(|| wrong(line, place, format!("is not a whole number of 64 bits: {}", cells[place])))
        };
        let root = |place: usize| -> Result<u128, DefiError> {
            let value = whole(cells[place]).and_then(|value| u128::try_from(value).ok());
            let fits = |value: &u128| (MIN_SQRT..MAX_SQRT).contains(&(U256::from(*value) << 32usize));
            let message = || format!("is no square root of a price in Q64.64: {}", cells[place]);
            value.filter(fits).ok_or_else(|| wrong(line, place, message()))
        };
        if let Some(&place) = transfers.iter().find(|&&place| whole(cells[place]) != Some(0)) {
            let message = format!("tokens with a fee for transfers are not read: {}", cells[place]);
            return Err(wrong(line, place, message));
        }
        let first = pool.get_or_insert_with(|| cells[places[4]].to_owned());
        if first.as_str() != cells[places[4]] {
            let message = format!("is of another market than the rows before it, {first}: {}", cells[places[4]]);
            return Err(wrong(line, places[4], message));
        }
        let falls = detect::flag(cells[places[5]])
            .ok_or_else(|| wrong(line, places[5], format!("is neither true nor false: {}", cells[places[5]])))?;
        let way = [root(places[6])?, root(places[7])?];
        if (falls && way[1] > way[0]) || (!falls && way[1] < way[0]) {
            let message = format!("is not the way that the price went: {}", cells[places[5]]);
            return Err(wrong(line, places[5], message));
        }
        let [paid, given, provided, kept] = [8, 9, 10, 11].map(|at| number(places[at]).map(u128::from));
        let (paid, given, fees) = (paid?, given?, [provided?, kept?]);
        if fees[0] + fees[1] > paid {
            return Err(wrong(line, places[10], "is, with the protocol's, more than was paid".to_owned()));
        }
        let inner = number(places[2])?;
        let order = match outer.first() {
            Some(&outer) => {
                let instruction = number(outer)?.checked_mul(1 << 16).and_then(|outer| outer.checked_add(inner));
                instruction.ok_or_else(|| wrong(line, outer, format!("is out of range: {}", cells[outer])))?
            }
            None => inner,
        };
        rows.push(Traded {
            line,
            order: [number(places[0])?, number(places[1])?, order],
            time: clock.time(cells[places[3]]).map_err(|message| wrong(line, places[3], message))?,
            way,
            token: usize::from(!falls),
            paid,
            given,
            fees,
        });
    }
    let fee = steady(&rows).map_err(|(line, message)| wrong(line, places[10], message))?;
    let mut sorted: Vec<usize> = (0..rows.len()).collect();
    sorted.sort_by_key(|&row| rows[row].order);
    let mut found = vec![None; rows.len()];
    let (mut known, mut last): (Option<u128>, Option<&Traded>) = (None, None);
    for row in sorted {
        let swap = &rows[row];
        match last {
            // A repetition, which is looked at where all rows are.
            Some(before) if before.order == swap.order => {}
            Some(before) if before.way[1] != swap.way[0] => {
                let message = format!("is not the price after the swap before it, {}: {}", before.way[1], swap.way[0]);
                return Err(wrong(swap.line, places[6], format!("{message}; swaps are missing")));
            }
            _ => {
                let mut amounts = [swap.given; 2];
                amounts[swap.token] = swap.paid - swap.fees[0] - swap.fees[1];
                known = liquidity(swap.way, amounts, known);
            }
        }
        (found[row], last) = (known, Some(swap));
    }
    let mut events = Vec::with_capacity(rows.len());
    for (swap, liquidity) in rows.iter().zip(&found) {
        let Some(liquidity) = *liquidity else { continue };
        let mut amounts = [0i128; 2];
        amounts[swap.token] = swap.paid as i128;
        amounts[1 - swap.token] = -(swap.given as i128);
        let price: U256 = U256::from(swap.way[1]) << 32;
        let action = Action::Swap { amounts, sqrt_price: *price.as_limbs() };
        let event = Event { time: swap.time, order: swap.order, action, tick: tick_at(price), liquidity };
        if !event.is_sound() {
            return Err(wrong(swap.line, places[8], "the row's prices or amounts are out of range".to_owned()));
        }
        events.push(event);
    }
    Ok(OrcaSwaps { silent: rows.len() - events.len(), events, fee })
}

/// What providers get of what is paid in, in millionths, or the row that has another part and what it has.
fn steady(rows: &[Traded]) -> Result<u32, (usize, String)> {
    let one = u128::from(FEE_ONE);
    let sum = |token: usize, of: &dyn Fn(&Traded) -> u128| -> u128 {
        rows.iter().filter(|row| row.token == token).map(of).sum()
    };
    // Of the token whose sum has most digits.
    let paid = [0, 1].map(|token| sum(token, &|row| row.paid));
    let token = usize::from(paid[1] > paid[0]);
    let share = (sum(token, &|row| row.fees[0]) * one + paid[token] / 2).checked_div(paid[token]).unwrap_or(0);
    for row in rows {
        let expected = row.paid * share / one;
        if row.fees[0].abs_diff(expected) > ROUNDED + expected / 100 {
            let own = row.fees[0] * one / row.paid.max(1);
            return Err((row.line, format!("fees vary: {share} millionths of all that was paid, here {own}")));
        }
    }
    // Fees are no more than what was paid.
    Ok(share as u32)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::market::Market;
    use crate::replay::{FeeModel, Terms, estimate};
    use crate::{generated, import};

    const HEAD: &str = "signature,slot,tx_index,outer_instruction_index,inner_instruction_index,block_time,whirlpool,\
                        aToB,preSqrtPrice,postSqrtPrice,inputAmount,outputAmount,inputTransferFee,outputTransferFee,\
                        lpFee,protocolFee\n";

    fn imported(text: &str) -> Result<crate::data::ImportedMarket, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("traded.csv");
        std::fs::write(&path, text).unwrap();
        import(&[path], None).map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "."))
    }

    /// Swaps of a pool as Orca tells them, all but the first, with an eighth of the fee for the protocol; and as they
    /// are. Amounts of token 1 have eight digits fewer, as fit the chain.
    fn told(events: &[Event], fee: u128) -> (String, Vec<Event>) {
        let (mut text, mut kept, mut last) = (HEAD.to_owned(), Vec::new(), None);
        for event in events {
            let Action::Swap { amounts: [first, second], sqrt_price } = event.action else { continue };
            let price = U256::from_limbs(sqrt_price) / U256::from(10_000);
            let Some(before) = last.replace(price) else { continue };
            let (before, after) = (before >> 32, price >> 32);
            let second = second / 100_000_000;
            let falls = first > 0;
            let (paid, given) = if falls { (first, -second) } else { (second, -first) };
            let all = (paid as u128 * fee).div_ceil(1_000_000);
            let [slot, place, log] = event.order;
            writeln!(
                text,
                "5x,{slot},{place},{log},1,{},P,{falls},{before},{after},{paid},{given},0,0,{},{}",
                event.time / 1_000_000,
                all - all / 8,
                all / 8
            )
            .unwrap();
            let action = Action::Swap { amounts: [first, second], sqrt_price: *price.as_limbs() };
            kept.push(Event { action, tick: tick_at(price), liquidity: event.liquidity / 10_000, ..*event });
        }
        (text, kept)
    }

    fn fees(events: &[Event], width: u32) -> f64 {
        let terms = Terms { fee: 500, spacing: 1, decimals: [6, 10], money: 0 };
        let price = |event: &Event| match event.action {
            Action::Swap { sqrt_price, .. } => U256::from_limbs(sqrt_price),
            Action::Liquidity { .. } => unreachable!("all are swaps"),
        };
        let ticks = terms.around(price(&events[0]), width);
        let own = terms.liquidity_worth(10_000_000_000, ticks, price(&events[0])).unwrap();
        estimate(events, &[], &terms, ticks, own, FeeModel::SwapShare).unwrap().1 as f64 / 1e6
    }

    #[test]
    fn swaps_that_orca_tells_have_the_liquidity_and_the_fees_of_the_pool() {
        let mut days = vec![(generated::pool_day(3, 1500).unwrap(), 1e-4)];
        if let Some(path) = crate::tests::real("uniswap-v3-ethereum-usdc-weth-2024-01-05.tick.csv.gz") {
            let Market::Events(events) = import(&[path], None).unwrap().market else { panic!("events") };
            days.push((events, 2e-3));
        }
        for (events, within) in days {
            let (text, known) = told(&events, 500);
            let import = imported(&text).unwrap();
            assert_eq!((import.format, import.fee), (MarketFormat::OrcaSwaps, Some(438)));
            let Market::Events(found) = import.market else { panic!("events") };
            assert_eq!(found.len() + import.silent, known.len());
            let known = &known[import.silent..];
            let mut off: Vec<f64> = (1..known.len())
                .filter(|&at| known[at].liquidity == known[at - 1].liquidity)
                .map(|at| (found[at].liquidity as f64 / known[at].liquidity as f64 - 1.0).abs())
                .collect();
            off.sort_by(f64::total_cmp);
            let (middle, most) = (off[off.len() / 2], off[off.len() * 99 / 100]);
            for width in [20_000, 5_000] {
                let share = fees(&found, width) / fees(known, width) - 1.0;
                eprintln!("+-{width}: fees {:+.4} %, liquidity {middle:.1e}, of 99 % below {most:.1e}", 100.0 * share);
                assert!(share.abs() < within, "{share}");
            }
            assert!(middle < 1e-6 && most < 1e-3, "{middle} {most}");
            assert!(found.iter().zip(known).all(|(found, known)| found.tick.abs_diff(known.tick) <= 1));
        }
    }

    /// A swap and the way back.
    const ROWS: [&str; 2] = [
        "5x,7,0,2,1,2024-01-05 00:00:11 UTC,P,true,18446744073709551616,18428297329635842064,1000501,999000,0,0,436,64",
        "5y,7,0,3,1,2024-01-05 00:00:11 UTC,P,false,18428297329635842064,18446744073709551616,999500,1000000,0,0,436,64",
    ];

    fn rows(change: impl Fn(usize, &str) -> String) -> String {
        format!("{HEAD}{}\n{}\n", change(0, ROWS[0]), change(1, ROWS[1]))
    }

    #[test]
    fn a_swap_tells_its_liquidity_by_what_the_way_took() {
        let import = imported(&rows(|_, row| row.to_owned())).unwrap();
        let Market::Events(events) = import.market else { panic!("events") };
        // A thousandth of a square root of 1 took 1,000,001 of token 0, and gave 999,000 of token 1.
        let seen: Vec<_> = events.iter().map(|event| (event.order, event.tick)).collect();
        assert_eq!(seen, [([7, 0, 2 << 16 | 1], -21), ([7, 0, 3 << 16 | 1], 0)]);
        assert!(events.iter().all(|event| event.liquidity.abs_diff(999_000_000) < 1_000), "{events:?}");
        assert_eq!(events[0].liquidity, events[1].liquidity);
        assert!(matches!(events[0].action, Action::Swap { amounts: [1_000_501, -999_000], .. }));
        assert!(matches!(events[1].action, Action::Swap { amounts: [-1_000_000, 999_500], .. }));
        // Newest first is the same market; a repetition is counted and left out.
        let turned = format!("{HEAD}{}\n{}\n{}\n", ROWS[1], ROWS[0], ROWS[1]);
        let again = imported(&turned).unwrap();
        assert_eq!((again.market, again.duplicates), (Market::Events(events), 1));
        // Too small to tell: the first is left out, a later one goes on with what is known.
        let dust = |which: usize| {
            rows(|at, row| {
                if at == which {
                    row.replace("1000501,999000", "9,8").replace("999500,1000000", "9,8").replace("436,64", "0,0")
                } else {
                    row.to_owned()
                }
            })
        };
        assert_eq!((imported(&dust(0)).unwrap().silent, imported(&dust(1)).unwrap().silent), (1, 0));
    }

    #[test]
    fn what_would_be_another_market_is_refused() {
        let refused = |from: &str, to: &str| {
            imported(&rows(|at, row| if at == 1 { row.replacen(from, to, 1) } else { row.to_owned() })).unwrap_err()
        };
        let said = |column: &str, message: &str| format!("./traded.csv:3:{column}: {message}");
        let before =
            "is not the price after the swap before it, 18428297329635842064: 18428297329635842065; swaps are missing";
        assert_eq!(refused("18428297329635842064", "18428297329635842065"), said("presqrtprice", before));
        assert_eq!(refused(",P,", ",Q,"), said("whirlpool", "is of another market than the rows before it, P: Q"));
        assert_eq!(refused(",false,", ",true,"), said("atob", "is not the way that the price went: true"));
        assert_eq!(refused(",false,", ",up,"), said("atob", "is neither true nor false: up"));
        let transfer = "tokens with a fee for transfers are not read: 5";
        assert_eq!(refused(",0,0,436", ",5,0,436"), said("inputtransferfee", transfer));
        let fees = "fees vary: 436 millionths of all that was paid, here 1563";
        assert_eq!(refused("436,64", "1563,64"), said("lpfee", fees));
        let more = "is, with the protocol's, more than was paid";
        assert_eq!(refused("436,64", "999500,64"), said("lpfee", more));
        let root = "is no square root of a price in Q64.64: 1";
        assert_eq!(refused("18446744073709551616", "1"), said("postsqrtprice", root));
        let wide = "is not a whole number of 64 bits: 99950000000000000000";
        assert_eq!(refused("999500", "99950000000000000000"), said("inputamount", wide));
        assert_eq!(refused(",436,64", ""), "./traded.csv:3:row: the row has 14 columns, 16 are needed");
        let lacking = imported(&rows(|_, row| row.to_owned()).replace("lpFee", "fee")).unwrap_err();
        assert!(lacking.contains("is of a kind that is not read: events of Orca's pools"), "{lacking}");
    }
}
