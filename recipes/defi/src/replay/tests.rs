use super::*;
use crate::market::{Market, minutes_of_events};
use crate::range::RangePosition;
use crate::simulation::Simulation;
use crate::simulation::liquidity::Liquidity;
use crate::{generated, import};

/// USDC and WETH at a twentieth of a percent.
const TERMS: Terms = Terms { fee: 500, spacing: 10, decimals: [6, 18], money: 0 };
/// Ten thousand dollars.
const CAPITAL: u128 = 10_000_000_000;

/// The real day, if it is there: in `FTK_MARKET_DATA`, or beside the repository.
fn real_day() -> Option<Vec<Event>> {
    let path = crate::tests::real("uniswap-v3-ethereum-usdc-weth-2024-01-05.tick.csv.gz")?;
    let Market::Events(events) = import(&[path], None).unwrap().market else { panic!("events") };
    Some(events)
}

struct Day {
    events: Vec<Event>,
    minutes: Vec<PoolMinute>,
    first: U256,
}

impl Day {
    fn new(events: Vec<Event>) -> Self {
        let minutes = minutes_of_events(&events).unwrap();
        let first = events.iter().find_map(|event| match event.action {
            Action::Swap { sqrt_price, .. } => Some(U256::from_limbs(sqrt_price)),
            Action::Liquidity { .. } => None,
        });
        Self { events, minutes, first: first.unwrap() }
    }

    fn fees(&self, width: u32, model: FeeModel) -> f64 {
        let ticks = TERMS.around(self.first, width);
        let own = TERMS.liquidity_worth(CAPITAL, ticks, self.first).unwrap();
        estimate(&self.events, &self.minutes, &TERMS, ticks, own, model).unwrap().1 as f64 / 1e6
    }

    /// Fees by share, valued at the last price as [`Day::exact`] values them.
    fn shared(&self, width: u32) -> f64 {
        let ticks = TERMS.around(self.first, width);
        let own = TERMS.liquidity_worth(CAPITAL, ticks, self.first).unwrap();
        let (fees, _) = estimate(&self.events, &self.minutes, &TERMS, ticks, own, FeeModel::SwapShare).unwrap();
        TERMS.value(fees, self.last()).unwrap() as f64 / 1e6
    }

    fn last(&self) -> U256 {
        let last = self.events.iter().rev().find_map(|event| match event.action {
            Action::Swap { sqrt_price, .. } => Some(U256::from_limbs(sqrt_price)),
            Action::Liquidity { .. } => None,
        });
        last.unwrap()
    }

    /// By the pool itself.
    fn exact(&self, width: u32) -> (f64, Exact) {
        let ticks = TERMS.around(self.first, width);
        let own = TERMS.liquidity_worth(CAPITAL, ticks, self.first).unwrap();
        let found = exact(&self.events, &TERMS, ticks, own).unwrap();
        (TERMS.value(found.fees, self.last()).unwrap() as f64 / 1e6, found)
    }
}

fn within(value: f64, of: f64, share: f64) {
    assert!((value / of - 1.0).abs() <= share, "{value} against {of}");
}

#[test]
fn fees_by_share_are_those_of_the_pool_within_half_a_percent() {
    for seed in 0..3 {
        let day = Day::new(generated::pool_day(seed, 1500).unwrap());
        for width in [20_000, 5_000] {
            let (exact, found) = day.exact(width);
            assert_eq!((found.plain, found.reproduced), (found.swaps, found.swaps));
            within(day.shared(width), exact, 0.005);
        }
    }
}

#[test]
fn coarser_models_err_as_they_are_known_to() {
    let day = Day::new(generated::pool_day(7, 6000).unwrap());
    for width in [20_000, 5_000] {
        let reference = day.fees(width, FeeModel::SwapShare);
        within(day.fees(width, FeeModel::PricePath(0)), reference, 0.03);
        let minute = day.fees(width, FeeModel::PricePath(60_000_000)) / reference;
        let hour = day.fees(width, FeeModel::PricePath(3_600_000_000)) / reference;
        assert!(minute < 0.9 && hour < 0.4 * minute, "{minute} {hour}");
    }
}

#[test]
fn the_real_day_is_reproduced() {
    let Some(events) = real_day() else { return };
    let day = Day::new(events);
    for (width, reference, models) in [
        (
            20_000,
            88.12,
            [
                (FeeModel::MinuteClose, 89.05),
                (FeeModel::PricePath(0), 87.96),
                (FeeModel::PricePath(60_000_000), 58.21),
                (FeeModel::PricePath(3_600_000_000), 9.78),
            ],
        ),
        (
            5_000,
            88.44,
            [
                (FeeModel::MinuteClose, 77.50),
                (FeeModel::PricePath(0), 89.21),
                (FeeModel::PricePath(60_000_000), 45.99),
                (FeeModel::PricePath(3_600_000_000), 9.00),
            ],
        ),
    ] {
        let (exact, found) = day.exact(width);
        // What the chain did, to the last unit.
        assert!(found.reproduced == found.plain && found.plain * 100 > found.swaps * 90, "{found:?}");
        within(day.shared(width), exact, 0.005);
        // The figures others got, who took the liquidity after each swap for all of its way.
        let shared = day.fees(width, FeeModel::SwapShare);
        within(shared, reference, 0.02);
        for (model, known) in models {
            let (found, known) = (day.fees(width, model) / shared, known / reference);
            eprintln!("+-{width} {model:?}: {:+.1} %, known {:+.1} %", 100.0 * found - 100.0, 100.0 * known - 100.0);
            assert!((found - known).abs() < 0.04, "{width} {model:?}: {found} {known}");
        }
    }
}

/// What the simulator of decisions earns over a day, minute after minute, is what every swap paid.
#[test]
fn the_desk_accrues_what_the_pool_does() {
    let mut days = vec![Day::new(generated::pool_day(5, 3000).unwrap())];
    days.extend(real_day().map(Day::new));
    for day in days {
        for width in [20_000, 5_000] {
            let ticks = TERMS.around(day.first, width);
            let own = TERMS.liquidity_worth(CAPITAL, ticks, day.first).unwrap();
            let rules = crate::rules::PoolRules { gas: 0, swap_cost: None, latency: 1 };
            let controller = crate::range::RangeController { capital: CAPITAL, min_width: 1000, max_moves: 9 };
            let simulation = Liquidity::of_events(&day.events, TERMS, rules, controller, 0).unwrap();
            let mut state = simulation.start(0).unwrap();
            state.holding.position = Some(RangePosition { lower: ticks.0, upper: ticks.1, liquidity: own });
            for bar in 1..simulation.bars() {
                simulation.pass(&mut state, bar).unwrap();
            }
            let earned = TERMS.value(state.holding.fees, day.last()).unwrap() as f64 / 1e6;
            // All but the first minute's swaps.
            within(earned, day.exact(width).0, 0.005);
        }
    }
}

#[test]
fn shares_and_overlaps_by_hand() {
    let at = |tick| sqrt_at(tick);
    assert_eq!(overlap((at(0), at(100)), (at(-10), at(200))), 1 << 64);
    assert_eq!(overlap((at(0), at(100)), (at(100), at(200))), 0);
    assert_eq!(overlap((at(5), at(5)), (at(0), at(10))), 1 << 64);
    assert_eq!(overlap((at(10), at(10)), (at(0), at(10))), 0);
    let half = overlap((at(100), at(-100)), (at(0), at(200))) as f64 / 2f64.powi(64);
    assert!((half - 0.5).abs() < 0.01, "{half}");
    let both = |fee, part, own, pool| paid(fee, part, own, pool).map(|it| (it.path, it.volume)).unwrap();
    assert_eq!(both(1000, 1 << 64, 1, 3), (333, 250));
    assert_eq!(both(1000, 1 << 63, 1, 3), (166, 125));
    assert_eq!((both(1000, 1 << 64, 0, 0), both(1000, 1 << 64, 5, 0)), ((0, 0), (0, 0)));
    assert_eq!(paid(1 << 100, 1 << 64, 1 << 99, 1).unwrap_err().to_string(), "an amount leaves its range: fees");
    assert_eq!((fee_of(1_000_000, 500), fee_of(1, 500)), (500, 1));
    // 1e12 / 1.0001^tick dollars for a token of 18 decimals, at tick 200000: 2061.5...
    let dollars = TERMS.value([0, 1_000_000_000_000_000_000], at(200_000)).unwrap() as f64 / 1e6;
    assert!((dollars - 1e12 / 1.0001f64.powi(200_000)).abs() < 1e-3, "{dollars}");
    assert_eq!((ticks_of(20_000), ticks_of(5_000)), (198, 49));
}
