use super::*;
use crate::generated::{USUAL, bars};
use crate::import;
use crate::market::Market;

const CONTROLLER: QuoteController =
    QuoteController { base: 200_000, slope: 500_000, size: 100, max_inventory: 250, min_half_spread: 100_000 };
const RULES: BookRules = BookRules { maker_fee: 0, tick: 1, through: 1, queue: 250_000, share: 1_000_000, latency: 1 };

/// A bar in which sellers and buyers took 500 each.
fn bar(open: u64, high: u64, low: u64, close: u64) -> Bar {
    Bar { time: 0, open, high, low, close, volume: 1000, bought: None }
}

#[test]
fn quotes_by_hand_and_within_limits() {
    // Half of 0.0002 + 0.5 * 0.001.
    let shape = |action| CONTROLLER.shape(action, 1_000_000);
    assert_eq!((shape(0), shape(3)), (None, Some(QuoteShape { half: 350_000, shift: 350_000, size: 1 })));
    assert_eq!(shape(ACTIONS - 1), Some(QuoteShape { half: 3_500_000, shift: 14_000_000, size: WHOLE }));
    let all: std::collections::HashSet<_> = (0..ACTIONS).map(|action| format!("{:?}", shape(action))).collect();
    assert_eq!((all.len(), ACTIONS), (71, 71));
    let price = 1_000_000_000;
    let flat = CONTROLLER.quotes(QuoteShape { half: 700_000, shift: 350_000, size: WHOLE }, price, 0, 1);
    assert_eq!(flat, Quotes { bid: 999_300_000, ask: 1_000_700_000, bid_size: 100, ask_size: 100 });
    let long = CONTROLLER.quotes(QuoteShape { half: 700_000, shift: 350_000, size: WHOLE }, price, 250, 1);
    assert_eq!(long, Quotes { bid: 998_950_000, ask: 1_000_350_000, bid_size: 0, ask_size: 100 });
    let nearly = CONTROLLER.quotes(QuoteShape { half: 700_000, shift: 0, size: WHOLE }, price, 200, 1000);
    assert_eq!((nearly.bid_size, nearly.ask_size), (50, 100));
    // Half of a size is rounded up, so that no size is none, and what the inventory leaves room for is the limit.
    let halved = |size, inventory| {
        let controller = QuoteController { size, ..CONTROLLER };
        let quotes = controller.quotes(QuoteShape { half: 700_000, shift: 0, size: 1 }, price, inventory, 1);
        (quotes.bid_size, quotes.ask_size)
    };
    assert_eq!([halved(100, 0), halved(101, 0), halved(1, 0)], [(50, 50), (51, 51), (1, 1)]);
    assert_eq!([halved(100, 230), halved(100, -230)], [(20, 50), (50, 20)]);
    // The least spread holds whatever is asked, on each side.
    let tight = CONTROLLER.quotes(QuoteShape { half: 0, shift: 0, size: WHOLE }, price, 0, 1);
    assert_eq!((tight.bid, tight.ask), (999_900_000, 1_000_100_000));
    let skewed = CONTROLLER.quotes(QuoteShape { half: 200_000, shift: 900_000, size: WHOLE }, price, 250, 1);
    assert_eq!(skewed.ask, 1_000_100_000);
    // Rounding is away from the price.
    let odd = CONTROLLER.quotes(QuoteShape { half: 123_456, shift: 0, size: WHOLE }, price, 0, 1000);
    assert_eq!((odd.bid, odd.ask), (999_876_000, 1_000_124_000));
    let wrong = QuoteController { max_inventory: 50, ..CONTROLLER }.check("controller").unwrap_err().to_string();
    assert_eq!(wrong, format!("controller.max_inventory: must be from 100 to {}: 50", 1i128 << 50));
}

#[test]
fn fills_by_hand() {
    let quotes = Quotes { bid: 990, ask: 1010, bid_size: 100, ask_size: 100 };
    let meet = |bar: Bar, rules: BookRules| {
        let mut account = QuoterAccount::default();
        let filled = meet(&mut account, &quotes, &bar, &rules).unwrap();
        (account, filled)
    };
    assert_eq!(meet(bar(1000, 1009, 991, 1000), RULES), (QuoterAccount::default(), Filled::default()));
    // Touched: a quarter of an eleventh of 500. Traded through: a quarter and the whole of a twelfth each; all, at the
    // quote's own price, where the bar lies beyond it.
    assert_eq!(meet(bar(1000, 1000, 990, 1000), RULES).0, QuoterAccount { cash: -11 * 990, inventory: 11 });
    assert_eq!(meet(bar(1000, 1000, 989, 1000), RULES).0, QuoterAccount { cash: -52 * 990, inventory: 52 });
    assert_eq!(meet(bar(970, 975, 960, 970), RULES).0, QuoterAccount { cash: -100 * 990, inventory: 100 });
    assert_eq!(meet(bar(1000, 1011, 1000, 1000), RULES).0, QuoterAccount { cash: 52 * 1010, inventory: -52 });
    // Two steps are needed and one was traded: it counts as touched. Others quote, too: half of what is beyond.
    assert_eq!(meet(bar(1000, 1000, 989, 1000), BookRules { through: 2, ..RULES }).0.inventory, 10);
    assert_eq!(meet(bar(1000, 1000, 989, 1000), BookRules { share: 500_000, ..RULES }).0.inventory, 31);
    // Never more than was traded, on the side that was taken.
    let traded = |volume, bought| meet(Bar { volume, bought, ..bar(970, 975, 960, 970) }, RULES).0.inventory;
    assert_eq!((traded(2, None), traded(1, Some(0)), traded(0, None), traded(70, Some(70))), (1, 1, 0, 0));
    assert_eq!(traded(90, Some(20)), 70);
    // Both sides: the one the close makes worse.
    assert_eq!(meet(bar(1000, 1020, 980, 1005), RULES).0.inventory, -100);
    assert_eq!(meet(bar(1000, 1020, 980, 995), RULES).0.inventory, 100);
    // Fees are rounded up, rebates down.
    let fee = |maker_fee| meet(bar(1000, 1000, 989, 1000), BookRules { maker_fee, ..RULES }).1.fee;
    assert_eq!((fee(100), fee(-100), fee(1), fee(-1)), (6, -5, 1, 0));
}

/// Mean markout five bars later, millionths, of symmetric quotes around a price that `centre` takes from the bars
/// before and the bar itself.
fn markouts(bars: &[Bar], half: i128, rules: &BookRules, centre: impl Fn(&Bar, &Bar) -> u64) -> (f64, f64, usize) {
    let controller = QuoteController { max_inventory: 1 << 50, min_half_spread: 1, ..CONTROLLER };
    let mut all = Vec::new();
    for at in 1..bars.len() - 5 {
        let quotes =
            controller.quotes(QuoteShape { half, shift: 0, size: WHOLE }, centre(&bars[at - 1], &bars[at]), 0, 1);
        // Each side alone: the rule about both is about inventory.
        for side in [true, false] {
            let one = if side { Quotes { ask_size: 0, ..quotes } } else { Quotes { bid_size: 0, ..quotes } };
            let filled = meet(&mut QuoterAccount::default(), &one, &bars[at], rules).unwrap();
            all.extend(filled.fill.map(|fill| markout(&fill, bars[at + 5].close)));
        }
    }
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let spread = all.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>() / all.len() as f64;
    (mean, (spread / all.len() as f64).sqrt(), all.len())
}

#[test]
fn who_knows_nothing_gains_nothing_and_a_look_ahead_is_caught() {
    let bars = bars(11, 40_000, USUAL);
    for half in [200_000, 500_000, 1_000_000] {
        let (mean, error, fills) = markouts(&bars, half, &RULES, |before, _| before.close);
        assert!(fills > 1000 && mean <= 2.0 * error, "{half}: {mean} +- {error} in {fills}");
        // The bar's own close as its centre is one bar of the future.
        let (mean, error, _) = markouts(&bars, half, &RULES, |_, bar| bar.close);
        assert!(mean > 10.0 * error, "{half}: a look-ahead was not caught: {mean} +- {error}");
    }
}

#[test]
fn real_bars_pay_no_uninformed_quoter() {
    let Some(path) = crate::tests::real("btc-perp-1m-2021-12-31-to-2022-02-01.csv.gz") else { return };
    let Market::Bars(bars) = import(&[path], None).unwrap().market else { panic!("bars") };
    // Basis points: half-spread, then the means known for touch, for trading through by one, and for a look-ahead.
    for (half, touch, through, ahead) in [(2, -1.11, -2.06, 2.10), (5, -0.85, -1.80, 5.24), (10, -0.68, -1.72, 10.47)] {
        let touching = BookRules { through: 0, ..RULES };
        let beyond = BookRules { through: 4_630_000_000, tick: 10, ..RULES };
        let beyond = BookRules { queue: 0, ..beyond };
        let at = |rules: &BookRules| markouts(&bars, half * 100_000, rules, |before, _| before.close).0 / 100.0;
        let (touched, passed) = (at(&touching), at(&beyond));
        let planted = markouts(&bars, half * 100_000, &touching, |_, bar| bar.close).0 / 100.0;
        eprintln!(
            "{half} bps: touch {touched:.2} ({touch}), through {passed:.2} ({through}), ahead {planted:.2} ({ahead})"
        );
        assert!(touched <= 0.0 && passed <= touched, "{half}: {touched} {passed}");
        assert!(planted > 0.0, "{half}: a look-ahead was not caught");
    }
}
