//! Ticks: `1.0001^tick` is a price, and its square root a number in Q64.96. The rounding is the one that Uniswap v3
//! fixed on chain, so that prices are equal to the last bit.

use ruint::aliases::U256;

/// Lowest tick.
pub const MIN_TICK: i32 = -887_272;
/// Highest tick.
pub const MAX_TICK: i32 = 887_272;

/// Square root of the price at the lowest tick, which every swap compares with.
pub const MIN_SQRT: U256 = U256::from_limbs([4_295_128_739, 0, 0, 0]);
/// Square root of the price at the highest tick.
pub const MAX_SQRT: U256 = U256::from_limbs([0x5d95_1d52_6398_8d26, 0xefd1_fc6a_5064_8849, 0xfffd_8963, 0]);

/// `1.0001^(-2^i / 2)` in Q128 for every bit `i` of a tick, as the contracts have it.
const ROOTS: [u128; 20] = [
    0xfffc_b933_bd6f_ad37_aa2d_162d_1a59_4001,
    0xfff9_7272_373d_4132_59a4_6990_580e_213a,
    0xfff2_e50f_5f65_6932_ef12_357c_f3c7_fdcc,
    0xffe5_caca_7e10_e4e6_1c36_24ea_a094_1cd0,
    0xffcb_9843_d60f_6159_c9db_5883_5c92_6644,
    0xff97_3b41_fa98_c081_472e_6896_dfb2_54c0,
    0xff2e_a164_66c9_6a38_43ec_78b3_26b5_2861,
    0xfe5d_ee04_6a99_a2a8_11c4_61f1_969c_3053,
    0xfcbe_86c7_900a_88ae_dcff_c83b_479a_a3a4,
    0xf987_a725_3ac4_1317_6f2b_074c_f781_5e54,
    0xf339_2b08_22b7_0005_940c_7a39_8e4b_70f3,
    0xe715_9475_a2c2_9b74_43b2_9c7f_a6e8_89d9,
    0xd097_f3bd_fd20_22b8_845a_d8f7_92aa_5825,
    0xa9f7_4646_2d87_0fdf_8a65_dc1f_90e0_61e5,
    0x70d8_69a1_56d2_a1b8_90bb_3df6_2baf_32f7,
    0x31be_135f_97d0_8fd9_8123_1505_542f_cfa6,
    0x09aa_508b_5b7a_84e1_c677_de54_f3e9_9bc9,
    0x005d_6af8_dedb_8119_6699_c329_225e_e604,
    0x0000_2216_e584_f5fa_1ea9_2604_1bed_fe98,
    0x0000_0000_048a_1703_91f7_dc42_444e_8fa2,
];

/// High half of a product of 128-bit numbers.
fn high(a: u128, b: u128) -> u128 {
    let (a1, a0, b1, b0) = (a >> 64, a & u128::from(u64::MAX), b >> 64, b & u128::from(u64::MAX));
    let low = a0 * b0;
    let cross = a1 * b0 + (low >> 64);
    let other = a0 * b1 + (cross & u128::from(u64::MAX));
    a1 * b1 + (cross >> 64) + (other >> 64)
}

/// Square root of the price at a tick, Q64.96, rounded up.
///
/// # Panics
/// On a tick out of range.
pub fn sqrt_at(tick: i32) -> U256 {
    assert!((MIN_TICK..=MAX_TICK).contains(&tick), "tick out of range: {tick}");
    let bits = tick.unsigned_abs();
    // A product of roots in Q128; 1 itself does not fit and is the product of none.
    let mut product: Option<u128> = None;
    for (bit, &root) in ROOTS.iter().enumerate() {
        if (bits >> bit) & 1 == 1 {
            product = Some(product.map_or(root, |product| high(product, root)));
        }
    }
    let ratio = match product {
        None => U256::ONE << 128,
        Some(product) if tick > 0 => U256::MAX / U256::from(product),
        Some(product) => U256::from(product),
    };
    let rest = ratio.as_limbs()[0] & 0xffff_ffff;
    (ratio >> 32) + U256::from(u8::from(rest > 0))
}

/// The highest tick whose price is not above a square root of a price in range.
pub fn tick_at(sqrt_price: U256) -> i32 {
    let (mut low, mut high) = (MIN_TICK, MAX_TICK);
    while low < high {
        let middle = low + (high - low + 1) / 2;
        if sqrt_at(middle) <= sqrt_price { low = middle } else { high = middle - 1 }
    }
    low
}
