use ftk_adapters::hint::Hint;
use std::path::{Path, PathBuf};

use super::*;
use crate::market::{Bar, MINUTE, Taker};

fn file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn imported(text: &str) -> Result<ImportedMarket, DefiError> {
    let folder = tempfile::tempdir().unwrap();
    import(&[file(folder.path(), "market.csv", text)], None)
}

#[test]
fn a_file_that_is_cut_off_is_told_so() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, KLINE.as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("market.csv.gz");
    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    let refused = import(&[path], None).unwrap_err();
    let DefiError::Io { source, .. } = &refused else { panic!("{refused}") };
    assert_eq!(source.to_string(), "is cut off inside its compressed data");
    assert_eq!(refused.hint().unwrap(), ftk_adapters::foreign::CUT_OFF);
}

const KLINE: &str = "46319.0,46385.5,46310.00000001,46377.0,23.5";

#[test]
fn klines_in_milliseconds_and_microseconds_with_and_without_header_are_the_same_bars() {
    let header = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,\
                  taker_buy_quote_volume,ignore\n";
    let row =
        |zeros: &str| format!("1640991660000{zeros},{KLINE},1640991719999{zeros},1088000.1,120,11.25,521000.0,0\n");
    let bar = Bar {
        time: 1_640_991_660_000_000,
        open: 463_190_000_000_000,
        high: 463_855_000_000_000,
        low: 463_100_000_000_100,
        close: 463_770_000_000_000,
        volume: 2_350_000_000,
        bought: Some(1_125_000_000),
    };
    let remarked = format!("# where it is from\n# and when\n{}", header.replace("open_time", "date"));
    let dated = remarked.clone() + &row("").replace("1640991660000", "2021-12-31 23:01:00");
    let headed = header.to_owned();
    let bare = format!("# a remark\n{}", row(""));
    for text in [row(""), row("000"), headed.clone() + &row(""), headed + &row("000"), dated, bare] {
        let import = imported(&text).unwrap();
        assert_eq!((import.format, import.market), (MarketFormat::Klines, Market::Bars(vec![bar])), "{text}");
    }
    let late = imported(&(remarked + "2021-12-31 23:01:00,1,1\n")).unwrap_err().to_string();
    assert!(late.contains(":4:row: the row has 3 columns"), "{late}");
    let error = imported(&(row("") + &row("000"))).unwrap_err().to_string();
    assert!(
        error.ends_with(":2:open_time: is in microseconds, the rows before it are in milliseconds: 1640991660000000")
    );
}

#[test]
fn trades_of_every_shape_are_told_apart() {
    let spot = "5,46319.1,0.002,92.6382,1640991660123,True,True\n6,46319.2,0.001,46.3192,1640991660124,False,True\n";
    let future = "5,46319.1,0.002,92.6382,1640991660123,true\n6,46319.2,0.001,46.3192,1640991660124,false\n";
    let agg = "5,46319.1,0.002,9,9,1640991660123,True,True\n6,46319.2,0.001,10,12,1640991660124,False,True\n";
    let agg_future = "5,46319.1,0.002,9,9,1640991660123,true\n6,46319.2,0.001,10,12,1640991660124,false\n";
    let headed = format!("id,price,qty,quote_qty,time,is_buyer_maker\n{future}");
    let prints = "1640991660123,46319.1,-0.002\n1640991660124,46319.2,0.001\n";
    let headed_prints = format!("timestamp,price,size\n{prints}");
    let known = [
        (spot, MarketFormat::Trades),
        (future, MarketFormat::Trades),
        (&headed, MarketFormat::Trades),
        (agg, MarketFormat::AggTrades),
        (agg_future, MarketFormat::AggTrades),
        (prints, MarketFormat::Prints),
        (&headed_prints, MarketFormat::Prints),
    ];
    for (text, format) in known {
        let import = imported(text).unwrap();
        assert_eq!(import.format, format, "{text}");
        let Market::Trades(trades) = import.market else { panic!("{text}") };
        let seen: Vec<_> = trades.iter().map(|it| (it.time, it.price, it.size, it.taker)).collect();
        let expected = [
            (1_640_991_660_123_000, 463_191_000_000_000, 200_000, Taker::Seller),
            (1_640_991_660_124_000, 463_192_000_000_000, 100_000, Taker::Buyer),
        ];
        assert_eq!(seen, expected, "{text}");
    }
}

#[test]
fn who_took_is_read_and_books_and_mixtures_are_no_trades() {
    let head = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n";
    let row =
        |side: &str, symbol: &str| format!("venue,{symbol},1640991660123000,1640991660130000,7,{side},46319.1,0.002\n");
    let takers = |text: &str| {
        let Market::Trades(trades) = imported(text).unwrap().market else { panic!("{text}") };
        trades.iter().map(|trade| trade.taker).collect::<Vec<_>>()
    };
    let two = head.to_owned() + &row("sell", "BTCUSD") + &row("buy", "BTCUSD").replace("123000", "124000");
    assert_eq!(takers(&two), [Taker::Seller, Taker::Buyer]);
    let flagged = "timestamp,price,qty,is_buyer_maker\n1640991660123,46319.1,1,true\n1640991660124,46319.1,1,False\n";
    assert_eq!(takers(flagged), [Taker::Seller, Taker::Buyer]);
    let refused = |text: &str, says: &str| {
        let error = imported(text).unwrap_err().to_string();
        assert!(error.ends_with(says), "{error}");
    };
    assert_eq!(takers(&(head.to_owned() + &row("unknown", "BTCUSD"))), [Taker::Unknown]);
    refused(&(head.to_owned() + &row("up", "BTCUSD")), ":2:side: is neither buy nor sell: up");
    refused(&(head.to_owned() + &row("bid", "BTCUSD")), ":2:side: is a side of an order book, not of a trade: bid");
    let mixed = head.to_owned() + &row("buy", "BTCUSD") + &row("buy", "ETHUSD");
    refused(&mixed, ":3:symbol: is of another market than the rows before it, BTCUSD: ETHUSD");
    let book = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n\
                venue,BTCUSD,1640991660123000,1640991660130000,false,bid,46319.1,0.002\n";
    refused(book, "holds updates of an order book, and no trades: it has the column is_snapshot");
    let signed = "timestamp,price,size,side\n1640991660123,46319.1,-1,buy\n";
    refused(signed, ":2:size: is a sale, and the row says that a buyer took: -1");
}

#[test]
fn what_could_be_two_formats_or_none_is_refused() {
    // Names for both a kline and a plain bar.
    let both = "open_time,timestamp,open,high,low,close,volume,taker_buy_volume\n";
    assert!(imported(both).is_err());
    let both = "timestamp,open,high,low,close,volume,price,size\n1640991660,1,1,1,1,1,1,1\n";
    let error = imported(both).unwrap_err();
    assert!(error.to_string().ends_with("could be bars or prints"), "{error}");
    assert_eq!(error.hint().as_deref(), Some("name the format with --format"));
    let none = imported("when,what\n1,2\n").unwrap_err().to_string();
    assert!(none.ends_with("has columns of no known format: when,what"), "{none}");
    let folder = tempfile::tempdir().unwrap();
    let bars = file(folder.path(), "bars.csv", "timestamp,open,high,low,close,volume\n1640991660,1,1,1,1,1\n");
    let prints = file(folder.path(), "prints.csv", "1640991660123,46319.1,-0.002\n");
    let error = import(&[bars, prints], None).unwrap_err().to_string();
    assert!(error.ends_with("prints.csv: is prints, the files before it are bars"), "{error}");
}

#[test]
fn oddities_are_counted_and_contradictions_refused() {
    let bar = |minute: i64, close: u64, volume: u32| {
        format!("{},{close},{close},{close},{close},{volume}\n", 1_640_991_600 + 60 * minute)
    };
    let rows = [bar(0, 5, 1), bar(2, 5, 0), bar(1, 5, 1), bar(1, 5, 1), bar(3, 5, 1), bar(7, 5, 1)].concat();
    let import = imported(&rows).unwrap();
    assert_eq!((import.read, import.market.rows(), import.unordered, import.duplicates, import.zero), (6, 5, 1, 1, 1));
    let gaps = import.gaps.unwrap();
    assert_eq!((gaps.step, gaps.count, gaps.missing, gaps.longest), (MINUTE, 1, 3, 4 * MINUTE));
    let error = imported(&(bar(0, 5, 1) + &bar(0, 6, 1))).unwrap_err().to_string();
    assert!(error.ends_with("has two different rows for one time: 2021-12-31 23:00:00"), "{error}");
    for (row, says) in [
        ("1640991660,5,4,3,5,1", ":1:high: high and low do not span open and close"),
        ("1640991660,5,5,5,5,-1", "has columns of no known format: 1640991660,5,5,5,5,-1"),
        (
            "timestamp,open,high,low,close,volume\n1640991660,5,5,5,x,1",
            ":2:close: is not a price of at most 10 decimals: x",
        ),
        ("timestamp,open,high,low,close,volume\n1640991660,5", ":2:row: the row has 2 columns, 6 are needed"),
        ("timestamp,open,high,low,close,volume\n99,5,5,5,5,1", ":2:timestamp: is not a time: 99"),
    ] {
        let error = imported(row).unwrap_err().to_string();
        assert!(error.ends_with(says), "{error}");
    }
}

#[test]
fn numbers_and_times_are_exact() {
    assert_eq!(cells::decimal("0.00000801", 10), Some(80_100));
    assert_eq!(cells::decimal("1e-8", 10), Some(100));
    assert_eq!(cells::decimal("1.5E3", 2), Some(150_000));
    assert_eq!(cells::decimal("2.50000000000000000000", 1), Some(25));
    for wrong in ["", ".", "-1", "1.25", "1e-2", "nan", "1 2", "340282366920938463463374607431768211456"] {
        assert_eq!(cells::decimal(wrong, 1), None, "{wrong}");
    }
    let read = |text: &str| Clock::default().time(text);
    for same in ["2024-02-29 23:59:58.5", "2024-02-29T23:59:58.500000Z", "2024-02-29 23:59:58.500000000+00:00"] {
        assert_eq!(read(same), Ok(1_709_251_198_500_000), "{same}");
    }
    assert_eq!(cells::date(1_709_251_198_500_000), "2024-02-29 23:59:58");
    for wrong in ["2023-02-29 00:00:00", "2024-13-01", "2024-01-01 24:00:00", "2024-01-01 00:00:00.x", "yesterday"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

const EVENTS: &str = "block_number,block_timestamp,tx_type,transaction_hash,pool_tx_index,pool_log_index,\
    proxy_log_index,sender,receipt,amount0,amount1,total_liquidity,total_liquidity_delta,sqrtPriceX96,current_tick,\
    position_id,tick_lower,tick_upper,liquidity\n\
    7,2024-01-05 00:00:23,SWAP,0x0,3,1,,0x1,0x2,1000,-990,500,0,79228162514264337593543950336,-1.0,,,,\n\
    7,2024-01-05 00:00:23,MINT,0x0,4,2,,0x1,0x2,10,10,700,200,79228162514264337593543950336,-1.0,,-10.0,10.0,200\n\
    8,2024-01-05 00:02:23,BURN,0x0,4,2,,0x1,0x2,0,0,700,0,79228162514264337593543950336,-1.0,,-10.0,10.0,50\n\
    8,2024-01-05 00:02:23,COLLECT,0x0,4,3,,0x1,0x2,10,10,700,0,79228162514264337593543950336,-1.0,,-10.0,10.0,\n";

#[test]
fn events_become_minutes_and_canonical_files_come_back() {
    let import = imported(EVENTS).unwrap();
    assert_eq!((import.read, import.silent, import.format), (4, 1, MarketFormat::PoolEvents));
    let Market::Events(events) = &import.market else { panic!("events") };
    let burn = Action::Liquidity { lower: -10, upper: 10, delta: -50 };
    assert_eq!((events[2].action, events[2].liquidity), (burn, 700));
    let minutes = crate::market::minutes_of_events(events).unwrap();
    let seen: Vec<_> = minutes.iter().map(|it| (it.paid, it.net, it.liquidity)).collect();
    assert_eq!(seen, [([1000, 0], [1000, -990], 700), ([0; 2], [0; 2], 700), ([0; 2], [0; 2], 700)]);

    let trades = imported("1640991660123,46319.1,-0.002\n1640991660124,46319.2,0.001\n").unwrap().market;
    let bars = imported("1640991660,5,6,4,5.5,1\n").unwrap().market;
    for market in [import.market, Market::Minutes(minutes), trades, bars] {
        let (text, digest) = canonical::encode(&market);
        assert_eq!(canonical::decode(Path::new("x"), &text).unwrap(), (market, digest));
        // Another digit in a row, with and without its digest.
        let at = text.rfind(',').unwrap() - 1;
        let digit = if &text[at..=at] == "4" { "5" } else { "4" };
        let changed = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
        let error = canonical::decode(Path::new("x"), &changed).unwrap_err().to_string();
        assert!(error.ends_with("its last line is not the digest of the others"), "{error}");
        let body = text.rsplit_once("# ").unwrap().0.replace(&format!("\n{}", text.lines().nth(2).unwrap()), "\n01");
        let forged = format!("{body}# {}\n", blake3::hash(body.as_bytes()).to_hex());
        let error = canonical::decode(Path::new("x"), &forged).unwrap_err().to_string();
        assert!(error.ends_with("line 3 is wrong"), "{error}");
    }
}

#[test]
fn krakens_bars_have_no_header_and_the_number_of_trades() {
    let found = imported("1381095240,123.61,123.7,123.5,123.61,0.1,1\n1381095300,123.61,124,123,123.9,2.5,12\n");
    let import = found.unwrap();
    let Market::Bars(bars) = import.market else { panic!("bars") };
    assert_eq!((import.format, bars.len(), bars[1].high), (MarketFormat::Bars, 2, 1_240_000_000_000));
    assert_eq!((bars[1].time, bars[1].volume, bars[1].bought), (1_381_095_300_000_000, 250_000_000, None));
}

/// Dune's `Pair_evt_Swap`, with the two swaps of one block in the order in which they are listed there: the last first.
const DUNE: &str = "contract_address,evt_tx_hash,evt_tx_index,evt_index,evt_block_time,evt_block_number,amount0,amount1,\
    liquidity,recipient,sender,sqrtPriceX96,tick\n\
    0x88e6,0xb,7,31,2024-01-05 00:00:11.000 UTC,18937000,-2270,1000000,700,0x1,0x2,1663103222222222222222222222222222,199045\n\
    0x88e6,0xa,3,12,2024-01-05 00:00:11.000 UTC,18937000,2270,-999000,700,0x1,0x2,1663103111111111111111111111111111,199045\n";

#[test]
fn swaps_as_dune_decodes_them_are_events_of_one_pool() {
    let import = imported(DUNE).unwrap();
    assert_eq!((import.format, import.read), (MarketFormat::PoolSwaps, 2));
    let Market::Events(events) = import.market else { panic!("events") };
    assert_eq!(events.iter().map(|event| event.order[2]).collect::<Vec<_>>(), [12, 31]);
    assert!(matches!(events[0].action, Action::Swap { amounts: [2270, -999_000], .. }), "{:?}", events[0]);
    assert_eq!((events[1].time, events[1].tick, events[1].liquidity), (1_704_412_811_000_000, 199_045, 700));
    let two = imported(&DUNE.replace("0x88e6,0xa", "0x99e6,0xa")).unwrap_err().to_string();
    assert!(
        two.ends_with(":3:contract_address: is of another market than the rows before it, 0x88e6: 0x99e6"),
        "{two}"
    );
    let broken = imported(&DUNE.replace("1663103222222222222222222222222222", "4.1e4")).unwrap_err().to_string();
    assert!(broken.ends_with(":2:sqrtpricex96: is not a whole number: 4.1e4"), "{broken}");
}

#[test]
fn files_that_say_too_little_are_refused_by_what_they_are() {
    for (header, said) in [
        ("periodStartUnix,open,high,low,close,tick,liquidity,volumeUSD", "hours or days of a pool from a subgraph"),
        ("id,timestamp,amount0,amount1,sqrtPriceX96,tick,logIndex", "swaps from a subgraph"),
        ("signature,blockTime,whirlpool,a_to_b,amount_in,amount_out,post_sqrt_price", "events of Orca's pools"),
        ("call_block_time,account_whirlpool,amount,aToB,sqrtPriceLimit", "calls of Orca's program"),
        ("signature,block_time,lb_pair,start_bin_id,end_bin_id,amount_in", "events of a pool of bins (Meteora)"),
        ("evt_block_time,lbPair,startBinId,endBinId,amountIn,amountOut,feeBps", "events of a pool of bins (Meteora)"),
        ("timestamp,bin_id,amount_x,amount_y", "events of a pool of bins (Meteora)"),
        ("block_time,project,token_bought_symbol,token_sold_symbol,amount_usd", "trades over several pools"),
    ] {
        let error = imported(&format!("{header}\n")).unwrap_err();
        // No format would read it.
        assert_eq!(error.hint(), None);
        let refused = error.to_string();
        assert!(refused.contains(&format!("is of a kind that is not read: {said}")), "{header}: {refused}");
    }
}
