//! The elementary functions against f64; the kernels themselves are compared with candle's
//! operations where they are used.

use super::elementary::{exp, largest, reduce};

#[test]
fn the_exponential_is_right_to_a_few_units_in_the_last_place() {
    for step in -8700..8800 {
        let x = step as f32 / 100.0 + 0.003;
        let error = f64::from(exp(x)) / f64::from(x).exp() - 1.0;
        assert!(error.abs() < 3e-7, "exp({x}) is off by {error:e}");
    }
    assert_eq!(exp(0.0), 1.0);
    assert!(exp(f32::NEG_INFINITY) < 1e-37);
}

#[test]
fn reductions_take_every_entry_once() {
    for length in [1, 15, 16, 17, 100] {
        let x: Vec<f32> = (0..length).map(|i| i as f32).collect();
        assert_eq!(reduce([&x, &x], |[x, y]| x + y), (length * (length - 1)) as f32);
        assert_eq!(largest(&x), (length - 1) as f32);
    }
}
