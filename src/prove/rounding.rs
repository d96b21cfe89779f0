//! What rounding to the 16-bit grid does to an adapter that was made elsewhere.

use std::collections::BTreeMap;

use ftk_adapters::lora::Adapter;
use serde::Serialize;

/// How far rounded values are from those they came from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RoundingError {
    /// Largest absolute difference.
    pub max: f64,
    /// Root of the sum of squared differences, by that of the values; zero where all values are.
    pub relative: f64,
}

/// Of the two factors of a site; `B` with its scale absorbed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SiteError {
    /// Of `A`.
    pub a: RoundingError,
    /// Of `B`.
    pub b: RoundingError,
}

impl SiteError {
    /// The larger relative error of the two.
    pub fn relative(&self) -> f64 {
        self.a.relative.max(self.b.relative)
    }
}

/// Compares an adapter with [`Adapter::on_grid`] of it, site by site.
pub fn errors(adapter: &Adapter, rounded: &Adapter) -> BTreeMap<String, SiteError> {
    let site = |(site, factors): (&String, &ftk_adapters::lora::Factors)| {
        let rounded = rounded.sites.get(site)?;
        let scale = f64::from(factors.scale);
        Some((
            site.clone(),
            SiteError { a: error(&factors.a, 1.0, &rounded.a), b: error(&factors.b, scale, &rounded.b) },
        ))
    };
    adapter.sites.iter().filter_map(site).collect()
}

fn error(values: &[f32], scale: f64, rounded: &[f32]) -> RoundingError {
    let (mut max, mut squares, mut all) = (0f64, 0.0, 0.0);
    for (&value, &rounded) in values.iter().zip(rounded) {
        let value = f64::from(value) * scale;
        let difference = (value - f64::from(rounded)).abs();
        max = max.max(difference);
        squares += difference * difference;
        all += value * value;
    }
    RoundingError { max, relative: if all > 0.0 { (squares / all).sqrt() } else { 0.0 } }
}

#[cfg(test)]
mod tests {
    use ftk_adapters::lora::Factors;

    use super::*;

    #[test]
    fn errors_are_those_of_the_scaled_values() {
        let factors = Factors { rank: 1, d_in: 2, d_out: 2, a: vec![1.0, 0.3], b: vec![0.5, 0.25], scale: 2.0 };
        let adapter = Adapter { sites: [("q".to_owned(), factors)].into() };
        let rounded = adapter.on_grid().unwrap();
        let found = errors(&adapter, &rounded)["q"];
        assert_eq!(found.b, RoundingError { max: 0.0, relative: 0.0 }, "1 and 1/2 are on the grid");
        let step = 2f64.powi(-14);
        assert!(found.a.max > 0.0 && found.a.max <= step / 2.0, "{found:?}");
        assert!((found.a.relative - found.a.max / (1.0 + 0.3f64 * 0.3).sqrt()).abs() < 1e-9);
        assert_eq!(errors(&rounded, &rounded)["q"].relative(), 0.0);
    }
}
