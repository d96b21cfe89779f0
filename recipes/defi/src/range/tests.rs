use super::*;
use crate::market::MINUTE;

const TERMS: Terms = Terms { fee: 500, spacing: 10, decimals: [6, 18], money: 0 };
const RULES: PoolRules = PoolRules { gas: 50_000, swap_cost: None, latency: 1 };
const CONTROLLER: RangeController = RangeController { capital: 10_000_000_000, min_width: 5_000, max_moves: 2 };
const POOL: u128 = 12_000_000_000_000_000_000;

fn minute(low: i32, high: i32, close: i32, paid: [u128; 2]) -> PoolMinute {
    PoolMinute { time: 0, net: [0; 2], paid, open: low, high, low, close, liquidity: POOL }
}

fn value(holding: &Holding, at: U256) -> u128 {
    TERMS.value(holding.tokens(at).unwrap(), at).unwrap()
}

#[test]
fn orders_stay_within_limits() {
    let holding = Holding::default();
    let order = |asked, holding: &Holding| CONTROLLER.order(asked, 199_003, 0, holding, &TERMS);
    let around = |width, shift| RangeAsk::Around { width, shift };
    // Half a percent are 49 ticks.
    assert_eq!(order(around(5_000, 0), &holding), RangeOrder::Range { lower: 198_950, upper: 199_050 });
    assert_eq!(order(around(100, 0), &holding), order(around(5_000, 0), &holding));
    assert_eq!(order(around(20_000, 500), &holding), RangeOrder::Range { lower: 198_900, upper: 199_300 });
    assert_eq!(order(RangeAsk::Exit, &holding), RangeOrder::Hold);
    let spent = Holding { moves: (0, 2), ..holding };
    assert_eq!(order(around(5_000, 0), &spent), RangeOrder::Hold);
    assert_ne!(CONTROLLER.order(around(5_000, 0), 199_003, DAY, &spent, &TERMS), RangeOrder::Hold);
    let position = Some(RangePosition { lower: 198_950, upper: 199_050, liquidity: 1 });
    let placed = Holding { position, ..spent };
    assert_eq!(order(RangeAsk::Exit, &placed), RangeOrder::Exit);
    assert_eq!(order(around(5_000, 0), &Holding { position, ..holding }), RangeOrder::Hold);
    assert_eq!(
        (asked(HOLD), asked(EXIT), asked(1), asked(ACTIONS - 2)),
        (RangeAsk::Hold, RangeAsk::Exit, around(5_000, -500), around(200_000, 500))
    );
}

#[test]
fn a_move_costs_gas_fee_and_slippage_and_nothing_is_created() {
    let at = sqrt_at(199_003);
    let mut holding = Holding::new(CONTROLLER.capital, &TERMS, at).unwrap();
    let start = value(&holding, at);
    assert!(CONTROLLER.capital - start < 10, "{start}");
    let order = CONTROLLER.order(RangeAsk::Around { width: 20_000, shift: 0 }, 199_003, 0, &holding, &TERMS);
    let cost = holding.execute(order, (at, POOL, 0), &TERMS, &RULES).unwrap();
    // Centred: hardly anything is swapped, so little more than gas.
    assert!((50_000..100_000).contains(&cost), "{cost}");
    assert_eq!(value(&holding, at) as i128, start as i128 - cost);
    // All below the price: everything becomes one token, five basis points of half of it and what the price gives.
    let order = RangeOrder::Range { lower: 198_000, upper: 198_900 };
    let cost = holding.execute(order, (at, POOL, MINUTE), &TERMS, &RULES).unwrap();
    let least = 50_000 + 5_000_000_000 * 5 / 10_000;
    assert!((least..least + 200_000).contains(&cost), "{cost}");
    assert_eq!((holding.placed(at).unwrap()[0], holding.moves), (0, (0, 2)));
    // In a pool a thousandth as deep the same swap pays more for the price.
    let mut other = Holding::new(CONTROLLER.capital, &TERMS, at).unwrap();
    let thin = other.execute(order, (at, POOL / 1000, 0), &TERMS, &RULES).unwrap();
    assert!(thin > 10 * cost, "{thin}");
    // Elsewhere it costs what the rules say, however thin the pool.
    let mut other = Holding::new(CONTROLLER.capital, &TERMS, at).unwrap();
    let rules = PoolRules { swap_cost: Some(500), ..RULES };
    let routed = other.execute(order, (at, POOL / 1000, 0), &TERMS, &rules).unwrap();
    assert!((routed - 50_000 - 5_000_000_000 * 5 / 10_000).abs() < 100, "{routed}");
    let exit = holding.execute(RangeOrder::Exit, (at, POOL, DAY), &TERMS, &RULES).unwrap();
    assert!((50_000..50_010).contains(&exit), "{exit}");
    assert_eq!((holding.position, holding.moves), (None, (1, 1)));
}

#[test]
fn fees_and_loss_are_of_one_path_and_loss_is_convexity() {
    let at = sqrt_at(199_003);
    let position = RangePosition { lower: 198_900, upper: 199_100, liquidity: POOL };
    let mut holding = Holding { position: Some(position), ..Holding::default() };
    let here = holding.pass(at, &minute(199_003, 199_003, 199_003, [2_000_000_000, 0]), None, &TERMS).unwrap();
    // As much liquidity as the pool has, which was paid a twentieth of a percent of 2000 dollars on this way: as much;
    // half of it had nobody traded more.
    assert_eq!((here.fees, here.least, holding.fees), (1_000_000, 500_000, [1_000_000, 0]));
    // The end of a minute is known to the tick only.
    assert!(here.lost.abs() < 10, "{here:?}");
    let none = holding.pass(at, &minute(199_200, 199_210, 199_205, [2_000_000_000, 0]), None, &TERMS).unwrap();
    assert_eq!((none.fees, none.least), (0, 0));
    let mut total = 0;
    for (from, to) in [(199_000, 199_050), (199_050, 198_950), (198_950, 199_300), (199_300, 199_000)] {
        let lost = loss(&TERMS, &position, sqrt_at(from), sqrt_at(to)).unwrap();
        assert!(lost >= -2, "{from} to {to}: {lost}");
        total += lost;
    }
    assert!(total > 1_000_000, "{total}");
    // Of a way of r in the log price, L sqrt(P) r^2 / 4.
    let lost = loss(&TERMS, &position, sqrt_at(199_000), sqrt_at(199_020)).unwrap() as f64;
    let root = 1.0001f64.powi(199_000).sqrt();
    let known = POOL as f64 / root * (20.0 * 1.0001f64.ln()).powi(2) / 4.0;
    assert!((lost / known - 1.0).abs() < 0.01, "{lost} {known}");
}
