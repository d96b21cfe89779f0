use super::*;
use crate::generated::pool_days;
use crate::market::{Bar, PoolMinute, minutes_of_events};
use crate::plan::{Plan, Provider, SHIPPED};
use crate::quoter::{ACTIONS, QuoteController};
use crate::rules::BookRules;
use crate::simulation::book::Book;
use crate::simulation::liquidity::Liquidity;

fn simulation(bars: Vec<Bar>) -> Book {
    let rules = BookRules { maker_fee: 0, tick: 1_000_000, through: 1, queue: 200_000, share: 1_000_000, latency: 1 };
    let controller = QuoteController {
        base: 100_000,
        slope: 500_000,
        size: 100_000_000,
        max_inventory: 500_000_000,
        min_half_spread: 50_000,
    };
    Book::new(bars, rules, controller, 100).unwrap()
}

const SETTINGS: Decisions =
    Decisions { every: 10, horizon: 30, past: 120, margin: 600_000_000_000_000_000, rejected: 2 };

#[test]
fn pairs_are_what_rolling_out_says_and_see_nothing_beyond_their_bars() {
    let market = bars(2, 1200, USUAL);
    let all = simulation(market.clone());
    let rows = make(&all, 0..1000, &SETTINGS).unwrap();
    assert!(
        rows.pairs.len() > 20 && rows.compared[1] > 0 && rows.compared[1] < rows.compared[0],
        "{:?}",
        rows.compared
    );
    assert_eq!(rows.taught.len(), rows.decisions);
    let action = |id: u32| (id - window::QUOTES) as usize;
    assert!(
        rows.pairs.iter().all(|(ids, a, b)| a != b && action(*a) < ACTIONS && action(*b) < ACTIONS && ids.len() == 79)
    );
    // Whatever comes after the stretch: the same rows.
    let mut other = market.clone();
    for bar in &mut other[1000..] {
        (bar.high, bar.low) = (bar.high * 2, bar.low / 2);
    }
    assert_eq!(make(&simulation(other), 0..1000, &SETTINGS).unwrap(), rows);
    // Whatever comes after a decision: the same lesson, and the same window.
    let mut other = market;
    let last = rows.taught.len() - 1;
    let at = window::warm_up() + SETTINGS.every * last;
    for bar in &mut other[at + 1..] {
        (bar.high, bar.low) = (bar.high * 2, bar.low / 2);
    }
    assert_eq!(make(&simulation(other), 0..1000, &SETTINGS).unwrap().taught, rows.taught);
    let dear = make(&all, 0..1000, &Decisions { margin: i128::MAX >> 8, ..SETTINGS }).unwrap();
    assert_eq!((dear.pairs.len(), dear.dropped), (0, dear.decisions));
    assert_eq!(dear.compared[0], dear.compared[1]);
}

#[test]
fn a_horizon_with_a_gap_in_it_teaches_nothing() {
    let market = bars(2, 1200, USUAL);
    let whole = make(&simulation(market.clone()), 0..1000, &SETTINGS).unwrap();
    let late = |hours: i64| {
        let mut late = market.clone();
        late[700..].iter_mut().for_each(|bar| bar.time += hours * crate::HOUR);
        make(&simulation(late), 0..1000, &SETTINGS).unwrap()
    };
    // A horizon is half an hour: three decisions look across.
    assert_eq!((whole.decisions - late(24).decisions, whole.decisions - late(0).decisions), (3, 0));
    assert_eq!(late(24).taught.len(), late(24).decisions);
}

/// Bars of which so many are missing before one; the hour of the day goes on as before where whole days are.
fn parted(at: usize, minutes: i64) -> Vec<Bar> {
    let mut market = bars(2, 1200, USUAL);
    market[at..].iter_mut().for_each(|bar| bar.time += minutes * crate::market::MINUTE);
    market
}

#[test]
fn states_begin_anew_behind_a_hole() {
    let (whole, late) = (simulation(bars(2, 1200, USUAL)), simulation(parted(700, 24 * 60)));
    let [undone, done] = [&whole, &late].map(|simulation| make(simulation, 0..1000, &SETTINGS).unwrap());
    // The decision after bar 701: of a maker that was there all along, and of one that began after bar 700.
    let (at, turn) = (701, (701 - window::warm_up()) / SETTINGS.every);
    assert_eq!((window::warm_up() + SETTINGS.every * turn, turn % 3), (at, 0));
    let fresh = |simulation: &Book| simulation.window(&simulation.start(at).unwrap(), at).unwrap();
    assert_ne!(undone.taught[turn].0, fresh(&whole), "it held nothing, by chance");
    // Three decisions before the hole look across it.
    assert_eq!(done.taught[turn - 3].0, fresh(&late));
    // An action that was left alone reaches up to the hole from either side.
    let holes = Holes::of(&late, 0..1200);
    let alone = |bars: Range<usize>| left_alone(&late, &holes, bars, late.action(0)).unwrap();
    assert!(alone(600..699).is_some() && alone(700..820).is_some());
    assert!(alone(699..700).is_none() && alone(600..800).is_none());
}

#[test]
fn an_outcome_reaches_across_no_hole_even_if_it_lasts_longer() {
    // Eighty minutes are more than a maker waits for and less than a horizon of 120 may lack.
    let settings = Decisions { horizon: 120, ..SETTINGS };
    let count = |minutes: i64| make(&simulation(parted(700, minutes)), 0..1000, &settings).unwrap().decisions;
    assert_eq!((count(0) - count(80), count(0) - count(50)), (12, 0));
}

#[test]
fn horizons_beyond_all_time_are_no_overflow() {
    let market = simulation(parted(700, 24 * 60));
    let settings = Decisions { horizon: usize::MAX / 2, ..SETTINGS };
    assert_eq!(make(&market, 0..1000, &settings).unwrap(), MarketRows::default());
}

#[test]
fn the_teacher_takes_what_earned_most_all_along() {
    let all = simulation(bars(2, 1200, USUAL));
    let rows = make(&all, 0..1000, &Decisions { past: 500, ..SETTINGS }).unwrap();
    let at = 501 + SETTINGS.every * 7;
    let earned = |action: usize| {
        let passed = run(&all, 2..at + 1, SETTINGS.every, |_, _| Ok(all.action(action))).unwrap();
        passed[at - 500 - 1..].iter().map(|bar| bar.tally.utility()).sum::<i128>()
    };
    let best = (0..ACTIONS).max_by_key(|&action| (earned(action), ACTIONS - action)).unwrap();
    assert_eq!(rows.taught[7].1, window::QUOTES + best as u32);
}

#[test]
fn decisions_that_follow_each_other_are_told_apart() {
    // A market in which nothing happens but a fall that is to come: every window is as the one before.
    let mut still = bars(2, 1, USUAL);
    let first = still[0];
    let day = |at: i64| Bar { time: first.time + at * crate::DAY, ..first };
    still = (0..400).map(day).collect();
    still.iter_mut().for_each(|bar| (bar.high, bar.low, bar.close) = (bar.open, bar.open, bar.open));
    for bar in still.iter_mut().filter(|bar| (bar.time - first.time) / crate::DAY > 330) {
        bar.low = bar.open / 2;
        (bar.close, bar.bought) = (bar.open / 2, None);
    }
    let settings = Decisions { every: 1, horizon: 60, margin: 0, rejected: 3, past: 5 };
    let rows = make(&simulation(still), 0..390, &settings).unwrap();
    let runs = rows.pairs.chunk_by(|a, b| (&a.0, a.1) == (&b.0, b.1));
    let lengths: Vec<usize> = runs.map(<[_]>::len).collect();
    assert!(lengths.iter().all(|&length| length <= 3), "{lengths:?}");
    assert_eq!(lengths.len() + rows.dropped, rows.decisions);
    let alike = rows.taught.windows(2).filter(|pair| pair[0].0 == pair[1].0).count();
    assert!(alike > 0 && !lengths.is_empty() && rows.dropped > 0, "{alike} {} {lengths:?}", rows.dropped);
}

/// A pool of USDC and WETH, and the minutes of it.
fn pool(minutes: Vec<PoolMinute>) -> Liquidity {
    let Some(Provider { controller, rules, terms }) = Plan::parse("provider", SHIPPED[1].1).unwrap().provider else {
        panic!("a provider")
    };
    Liquidity::new(minutes, terms, rules, controller, 2).unwrap()
}

fn pool_minutes() -> Vec<PoolMinute> {
    minutes_of_events(&pool_days(7, 1500).unwrap()).unwrap()
}

const POOL: Decisions = Decisions { every: 15, horizon: 60, past: 300, margin: 200_000, rejected: 2 };

#[test]
fn the_provider_s_teacher_sees_nothing_of_the_future() {
    let minutes = pool_minutes();
    let rows = make(&pool(minutes.clone()), 0..1400, &POOL).unwrap();
    let actions: std::collections::BTreeSet<u32> = rows.taught.iter().map(|row| row.1).collect();
    assert!(rows.taught.len() > 50 && rows.pairs.len() > 20 && actions.len() > 1, "{actions:?}");
    // Whatever comes after a decision, in the middle and at the end: the same windows and lessons up to it.
    for turn in [rows.taught.len() / 2, rows.taught.len() - 1] {
        let at = (POOL.past + 1).max(window::warm_up()) + POOL.every * turn;
        let mut other = minutes.clone();
        for minute in &mut other[at + 1..] {
            for tick in [&mut minute.open, &mut minute.high, &mut minute.low, &mut minute.close] {
                *tick -= 900;
            }
            minute.paid = [1, 1];
        }
        let changed = make(&pool(other), 0..1400, &POOL).unwrap();
        assert_eq!(changed.taught[..=turn], rows.taught[..=turn]);
        assert_ne!(changed.pairs, rows.pairs, "outcomes are of the future");
    }
    // Whatever comes after the stretch: all rows.
    let mut other = minutes;
    other[1400..].iter_mut().for_each(|minute| minute.paid = [1, 1]);
    assert_eq!(make(&pool(other), 0..1400, &POOL).unwrap(), rows);
}

#[test]
fn the_provider_s_teacher_takes_what_earned_most_all_along() {
    let all = pool(pool_minutes());
    let rows = make(&all, 0..1400, &POOL).unwrap();
    let begin = POOL.past + 1;
    assert!(begin > window::warm_up());
    let mut moved = 0;
    // Decisions of which the second in three is shown to a maker that has just begun, and holds no range to keep.
    for turn in (1..rows.taught.len()).step_by(3) {
        let at = begin + POOL.every * turn;
        let earned = |action: usize| {
            let always = |state: &_, at| Ok(all.action(all.patient(state, at, action)));
            let passed = run(&all, 2..at + 1, POOL.every, always).unwrap();
            passed[at - POOL.past - 1..].iter().map(|bar| bar.tally.utility()).sum::<i128>()
        };
        let actions = crate::range::ACTIONS;
        let best = (0..actions).max_by_key(|&action| (earned(action), actions - action)).unwrap();
        assert_eq!(rows.taught[turn].1, window::RANGE_ACTIONS + best as u32, "{turn}");
        moved += usize::from(best > 0);
    }
    assert!(moved > 0, "holding nothing was best all along");
}

#[test]
fn lines_are_rows_of_ids() {
    let rows =
        MarketRows { taught: vec![(vec![1, 5], 90)], pairs: vec![(vec![1, 5], 90, 91)], ..MarketRows::default() };
    assert_eq!(rows.taught_lines(), "{\"input_ids\":[1,5,90],\"labels\":[-100,-100,90]}\n");
    assert_eq!(rows.pair_lines(), "{\"prompt_ids\":[1,5],\"chosen_ids\":[90],\"rejected_ids\":[91]}\n");
}

#[test]
fn pretraining_is_the_same_for_a_seed_and_knows_both_makers() {
    let rows = pretraining(1, 700).unwrap();
    assert_eq!(rows, pretraining(1, 700).unwrap());
    assert_ne!(rows, pretraining(2, 700).unwrap());
    let ends: std::collections::BTreeSet<u32> = rows.iter().map(|ids| *ids.last().unwrap()).collect();
    assert!(ends.contains(&window::QUOTES) && ends.contains(&window::RANGE_ACTIONS), "{ends:?}");
    assert!(ends.iter().all(|&id| (window::QUOTES..window::VOCABULARY).contains(&id)));
}
