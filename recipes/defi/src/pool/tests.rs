use proptest::prelude::*;

use super::*;

fn number(text: &str) -> U256 {
    U256::from_str_radix(text, 10).unwrap()
}

/// Uniswap v3's own test vectors for ticks.
#[test]
fn square_roots_at_ticks_are_the_published_ones() {
    for (tick, root) in [
        (MIN_TICK, "4295128739"),
        (MIN_TICK + 1, "4295343490"),
        (-1, "79224201403219477170569942574"),
        (0, "79228162514264337593543950336"),
        (50, "79426470787362580746886972461"),
        (100, "79625275426524748796330556128"),
        (250, "80224679980005306637834519095"),
        (500, "81233731461783161732293370115"),
        (1000, "83290069058676223003182343270"),
        (2500, "89776708723587163891445672585"),
        (3000, "92049301871182272007977902845"),
        (4000, "96768528593268422080558758223"),
        (5000, "101729702841318637793976746270"),
        (50_000, "965075977353221155028623082916"),
        (150_000, "143194173941309278083010301478497"),
        (250_000, "21246587762933397357449903968194344"),
        (500_000, "5697689776495288729098254600827762987878"),
        (738_203, "847134979253254120489401328389043031315994541"),
        (MAX_TICK - 1, "1461373636630004318706518188784493106690254656249"),
        (MAX_TICK, "1461446703485210103287273052203988822378723970342"),
    ] {
        assert_eq!(sqrt_at(tick), number(root), "{tick}");
        assert_eq!(tick_at(number(root)), tick);
        if tick > MIN_TICK {
            assert_eq!(tick_at(number(root) - U256::ONE), tick - 1);
        }
    }
}

#[test]
fn the_ends_are_the_roots_at_their_ticks() {
    assert_eq!((MIN_SQRT, MAX_SQRT), (sqrt_at(MIN_TICK), sqrt_at(MAX_TICK)));
}

/// The roots in the table are each other's squares, up to the last bits that rounding leaves open.
#[test]
fn the_table_of_roots_holds_together() {
    for bit in 0..19 {
        let (root, square) = (sqrt_at(-(1 << bit)), sqrt_at(-(1 << (bit + 1))));
        let product: ruint::aliases::U512 = root.widening_mul(root);
        let product = U256::checked_from_limbs_slice((product >> 96usize).as_limbs()).unwrap();
        let off = if product > square { product - square } else { square - product };
        assert!(off <= U256::from(4), "{bit}: {off}");
    }
}

fn root(numerator: u128, denominator: u128) -> U256 {
    let ratio: ruint::aliases::U512 =
        (ruint::aliases::U512::from(numerator) << 192usize) / ruint::aliases::U512::from(denominator);
    U256::checked_from_limbs_slice(ratio.root(2).as_limbs()).unwrap()
}

const E18: u128 = 1_000_000_000_000_000_000;

/// Uniswap v3's own test vectors for amounts and steps.
#[test]
fn amounts_and_steps_are_the_published_ones() {
    let (one, more) = (root(1, 1), root(121, 100));
    assert_eq!(amount0(one, more, E18, true).unwrap(), 90_909_090_909_090_910);
    assert_eq!(amount0(one, more, E18, false).unwrap(), 90_909_090_909_090_909);
    assert_eq!(amount1(one, more, E18, true).unwrap(), 100_000_000_000_000_000);
    assert_eq!(amount1(one, more, E18, false).unwrap(), 99_999_999_999_999_999);
    // 0.1 of token 1 and of token 0 into liquidity 1 at price 1.
    assert_eq!(step::after_one(one, E18, E18 / 10).unwrap(), number("87150978765690771352898345369"));
    assert_eq!(step::after_zero(one, E18, E18 / 10).unwrap().0, number("72025602285694852357767227579"));
    let capped = step(one, root(101, 100), 2 * E18, E18, 600).unwrap();
    assert_eq!(
        (capped.paid, capped.fee, capped.given),
        (9_975_124_224_178_055, 5_988_667_735_148, 9_925_619_580_021_728)
    );
    let spent = step(one, root(1000, 100), 2 * E18, E18, 600).unwrap();
    assert_eq!(
        (spent.paid, spent.fee, spent.given),
        (999_400_000_000_000_000, 600_000_000_000_000, 666_399_946_655_997_866)
    );
    assert!(spent.sqrt_price < root(1000, 100));
    // One unit of a token that is all fee.
    let fee = step(root(1, 1), root(1, 2), E18, 1, 600).unwrap();
    assert_eq!((fee.paid + fee.fee, fee.given), (1, 0));
}

const LIMIT_DOWN: i32 = -60_000;
const LIMIT_UP: i32 = 60_000;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Mint(u32, i32, i32, u128),
    Burn(usize, u8),
    Collect(usize),
    Swap(bool, u128, i32),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    // Few ticks, so that edges are shared; tiny and huge amounts, so that rounding shows.
    let tick = || (-8i32..8).prop_map(|tick| tick * 60);
    let amount = || prop_oneof![1u128..1000, 1u128..E18, 1u128..1_000_000 * E18];
    let operation = prop_oneof![
        (0u32..3, tick(), 1i32..9, amount())
            .prop_map(|(who, low, width, size)| { Operation::Mint(who, low, low + 60 * width, size) }),
        (0usize..8, 1u8..=4).prop_map(|(which, part)| Operation::Burn(which, part)),
        (0usize..8).prop_map(Operation::Collect),
        (any::<bool>(), amount(), -900i32..900).prop_map(|(zero, size, limit)| Operation::Swap(zero, size, limit)),
        (any::<bool>(), amount(), Just(100_000)).prop_map(|(zero, size, limit)| Operation::Swap(zero, size, limit)),
    ];
    prop::collection::vec(operation, 1..60)
}

/// What everyone outside has paid in, less what they took out.
#[derive(Default)]
struct Outside([i128; 2]);

impl Outside {
    fn pays(&mut self, amounts: [u128; 2]) {
        (0..2).for_each(|side| self.0[side] += amounts[side] as i128);
    }

    fn takes(&mut self, amounts: [u128; 2]) {
        (0..2).for_each(|side| self.0[side] -= amounts[side] as i128);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is done, in whatever order: the pool holds what was paid in less what was taken out, liquidity in
    /// range is that of the positions in range, everything that is owed can be paid, and what remains when all have
    /// left is dust of rounding.
    #[test]
    fn no_path_of_operations_creates_value(operations in operations(), fee in prop_oneof![Just(0u32), Just(500), Just(3000)]) {
        let mut pool = Pool::new(sqrt_at(7), fee).unwrap();
        let mut outside = Outside::default();
        let mut places: Vec<PositionKey> = Vec::new();
        for operation in &operations {
            match *operation {
                Operation::Mint(owner, lower, upper, liquidity) => {
                    let place = PositionKey { owner, lower, upper };
                    if let Ok(amounts) = pool.mint(place, liquidity) {
                        outside.pays(amounts);
                        if !places.contains(&place) {
                            places.push(place);
                        }
                    }
                }
                Operation::Burn(which, part) => {
                    let Some(&place) = places.get(which) else { continue };
                    let held = pool.positions.get(&place).map_or(0, |it| it.liquidity);
                    let _ = pool.burn(place, held / u128::from(part));
                }
                Operation::Collect(which) => {
                    let Some(&place) = places.get(which) else { continue };
                    if let Ok(amounts) = pool.collect(place) {
                        outside.takes(amounts);
                    }
                }
                Operation::Swap(zero, amount, tick) => {
                    let (side, limit) = if zero { (SwapDirection::Zero, -tick.abs()) } else { (SwapDirection::One, tick.abs()) };
                    let limit = sqrt_at(limit.clamp(LIMIT_DOWN, LIMIT_UP));
                    let before = pool.sqrt_price;
                    if let Ok(done) = pool.swap(side, amount, limit) {
                        let mut paid = [0; 2];
                        paid[side.paid()] = done.paid;
                        outside.pays(paid);
                        outside.takes([if zero { 0 } else { done.given }, if zero { done.given } else { 0 }]);
                        prop_assert!(done.paid <= amount);
                        let moved = if zero { pool.sqrt_price <= before } else { pool.sqrt_price >= before };
                        prop_assert!(moved);
                    }
                }
            }
            let reserves = pool.reserves().map(|it| it as i128);
            prop_assert_eq!(reserves, outside.0);
            let active: u128 = pool.positions.iter().map(|(place, it)| {
                let at = |tick| pool.edges.iter().position(|edge| edge.tick == tick);
                let inside = at(place.lower).is_some_and(|at| at < pool.below) && at(place.upper).is_some_and(|at| at >= pool.below);
                if inside { it.liquidity } else { 0 }
            }).sum();
            prop_assert_eq!(active, pool.liquidity);
        }
        for place in places {
            let held = pool.positions.get(&place).map_or(0, |it| it.liquidity);
            if held > 0 {
                pool.burn(place, held).unwrap();
            }
            if pool.positions.contains_key(&place) {
                outside.takes(pool.collect(place).expect("everything that is owed can be paid"));
            }
        }
        prop_assert_eq!(pool.liquidity, 0);
        prop_assert!(pool.edges.is_empty());
        // Each step, mint and burn may round a unit away, and each growth a unit per unit of liquidity at most.
        for side in 0..2 {
            prop_assert!(outside.0[side] >= 0, "value was created: {:?}", outside.0);
        }
    }

    /// A step is that of the contracts, which first price the target and round every division on its own.
    #[test]
    fn a_step_is_that_of_the_contracts(
        from in -300_000i32..300_000, way in 1i32..2000, zero in any::<bool>(), liquidity in 1u128..1 << 90,
        left in prop_oneof![1u128..1000, 1u128..1 << 60, 1u128..1 << 100], nudge in 0u64..1 << 40,
    ) {
        let price = sqrt_at(from) + U256::from(nudge % 1000);
        let target = sqrt_at(if zero { from - way } else { from + way });
        let found = step(price, target, liquidity, left, 3000);
        let fee_less = U256::from(left) * U256::from(997_000) / U256::from(1_000_000);
        let twice = |a: U256, b: U256| -> U256 {
            let (low, high) = (a.min(b), a.max(b));
            let product: ruint::aliases::U512 = (U256::from(liquidity) << 96usize).widening_mul(high - low);
            let first = product.div_ceil(ruint::aliases::U512::from(high));
            U256::checked_from_limbs_slice(first.div_ceil(ruint::aliases::U512::from(low)).as_limbs()).unwrap()
        };
        let second = |a: U256, b: U256| -> U256 {
            let product: ruint::aliases::U512 = (a.max(b) - a.min(b)).widening_mul(U256::from(liquidity));
            U256::checked_from_limbs_slice(product.div_ceil(ruint::aliases::U512::ONE << 96usize).as_limbs()).unwrap()
        };
        let cost = |to: U256| if zero { twice(price, to) } else { second(price, to) };
        let after = if fee_less >= cost(target) {
            target
        } else {
            let spent = u128::try_from(fee_less).unwrap();
            if zero { step::after_zero(price, liquidity, spent).unwrap().0 } else { step::after_one(price, liquidity, spent).unwrap() }
        };
        if let Ok(found) = found {
            prop_assert_eq!(found.sqrt_price, after);
            prop_assert_eq!(U256::from(found.paid), cost(after));
            prop_assert!(found.paid + found.fee <= left);
        } else {
            prop_assert!(cost(after) > U256::from(u128::MAX));
        }
    }

    /// There and back costs at least the fees.
    #[test]
    fn a_round_trip_never_pays(amount in 1u128..1000 * E18, liquidity in 1000u128..100_000 * E18, fee in prop_oneof![Just(0u32), Just(500), Just(10_000)], zero in any::<bool>()) {
        let mut pool = Pool::new(sqrt_at(0), fee).unwrap();
        pool.mint(PositionKey { owner: 0, lower: -6000, upper: 6000 }, liquidity).unwrap();
        let (there, back) = if zero { (SwapDirection::Zero, SwapDirection::One) } else { (SwapDirection::One, SwapDirection::Zero) };
        let limit = |side| sqrt_at(if side == SwapDirection::Zero { LIMIT_DOWN } else { LIMIT_UP });
        let first = pool.swap(there, amount, limit(there)).unwrap();
        if first.given > 0 {
            let second = pool.swap(back, first.given, limit(back)).unwrap();
            prop_assert!(second.given <= first.paid);
        }
    }

    /// Two positions share fees by liquidity, to a unit a swap.
    #[test]
    fn fees_are_shared_by_liquidity(swaps in prop::collection::vec((any::<bool>(), 1_000_000u128..E18), 1..20), share in 1u128..100) {
        let mut pool = Pool::new(sqrt_at(0), 3000).unwrap();
        let [big, small] = [0, 1].map(|owner| PositionKey { owner, lower: -600, upper: 600 });
        pool.mint(big, share * 10 * E18).unwrap();
        pool.mint(small, 10 * E18).unwrap();
        for (zero, amount) in &swaps {
            let side = if *zero { SwapDirection::Zero } else { SwapDirection::One };
            let limit = sqrt_at(if *zero { -500 } else { 500 });
            let _ = pool.swap(side, *amount, limit);
        }
        let (big, small) = (pool.owed(big).unwrap(), pool.owed(small).unwrap());
        for token in 0..2 {
            let off = big[token].abs_diff(small[token] * share);
            prop_assert!(off <= (share + 1) * (swaps.len() as u128 + 1), "{big:?} {small:?}");
        }
    }
}

#[test]
fn a_position_beside_the_price_earns_nothing_until_the_price_comes() {
    let mut pool = Pool::new(sqrt_at(0), 3000).unwrap();
    let (all, side) =
        (PositionKey { owner: 0, lower: -6000, upper: 6000 }, PositionKey { owner: 1, lower: 60, upper: 120 });
    pool.mint(all, 100 * E18).unwrap();
    assert_eq!(pool.mint(side, 100 * E18).unwrap()[1], 0);
    pool.swap(SwapDirection::One, E18 / 1000, sqrt_at(50)).unwrap();
    assert_eq!(pool.owed(side).unwrap(), [0, 0]);
    let done = pool.swap(SwapDirection::One, 100 * E18, sqrt_at(90)).unwrap();
    assert_eq!((done.steps, pool.liquidity()), (2, 200 * E18));
    let earned = pool.owed(side).unwrap()[1];
    // Half the fees of the part beyond tick 60.
    let paid = amount1(sqrt_at(60), sqrt_at(90), 100 * E18, true).unwrap();
    assert!(earned.abs_diff(paid * 3000 / 997_000) < 10, "{earned} of {paid}");
}

#[test]
fn what_a_pool_refuses_changes_nothing() {
    let mut pool = Pool::new(sqrt_at(0), 3000).unwrap();
    let place = PositionKey { owner: 0, lower: -60, upper: 60 };
    pool.mint(place, E18).unwrap();
    let before = format!("{pool:?}");
    let refused = |result: Result<_, DefiError>, says: &str| {
        let error = result.map(|_: ()| ()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refused(pool.burn(place, E18 + 1).map(drop), "has less liquidity");
    refused(pool.mint(PositionKey { lower: 60, upper: 60, ..place }, 1).map(drop), "two ticks in order");
    refused(pool.mint(place, 1 << 126).map(drop), "liquidity in the pool");
    refused(pool.swap(SwapDirection::Zero, 1, sqrt_at(1)).map(drop), "not ahead");
    refused(pool.swap(SwapDirection::Zero, MAX_AMOUNT, sqrt_at(-1)).map(drop), "reserves");
    refused(pool.collect(PositionKey { owner: 1, ..place }).map(drop), "no such position");
    assert_eq!(format!("{pool:?}"), before);
    assert!(Pool::new(sqrt_at(MAX_TICK), 3000).is_err() && Pool::new(sqrt_at(0), FEE_ONE).is_err());
}
