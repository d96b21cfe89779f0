//! Several adapters made one: side by side, which adds up their products exactly, or factor by factor, which does not.
//!
//! `sum_i w_i s_i B_i A_i` is a product of higher rank: the rows of all A one below another, the columns of all
//! `w_i s_i B_i` one beside another (FLoRA, Wang et al. 2024). The product of averaged factors, `(sum w_i s_i B_i)
//! (sum w_i A_i)`, has all cross terms in it (as in FedIT, Zhang et al. 2023), and is the same only where all A or all B
//! are. How far apart the two are is measured by [`distance`].

use crate::lora::{Adapter, Factors};

/// Why adapters cannot be made one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AverageError {
    /// Nothing to average, or not one weight an adapter.
    #[error("{adapters} adapters and {weights} weights")]
    Weights {
        /// Adapters.
        adapters: usize,
        /// Weights.
        weights: usize,
    },
    /// An adapter has a site that another has not.
    #[error("adapter {adapter} differs from the first in whether it has site: {site}")]
    Site {
        /// Its number, from 1.
        adapter: usize,
        /// The site.
        site: String,
    },
    /// A site has other dimensions.
    #[error("adapter {adapter} has other dimensions than the first at site: {site}")]
    Dimensions {
        /// Its number, from 1.
        adapter: usize,
        /// The site.
        site: String,
    },
    /// A site has another rank, where factors are added up.
    #[error(
        "adapter {adapter} has rank {rank} in the place of {first}, and its factors have no average, at site: {site}"
    )]
    Rank {
        /// Its number, from 1.
        adapter: usize,
        /// The site.
        site: String,
        /// Its rank there.
        rank: usize,
        /// The first adapter's.
        first: usize,
    },
}

/// Refuses adapters that are not of the same sites and dimensions.
fn check(adapters: &[&Adapter], weights: &[f64]) -> Result<(), AverageError> {
    let [first, others @ ..] = adapters else {
        return Err(AverageError::Weights { adapters: 0, weights: weights.len() });
    };
    if weights.len() != adapters.len() {
        return Err(AverageError::Weights { adapters: adapters.len(), weights: weights.len() });
    }
    for (index, other) in others.iter().enumerate() {
        let adapter = index + 2;
        let differs =
            |one: &Adapter, two: &Adapter| one.sites.keys().find(|site| !two.sites.contains_key(*site)).cloned();
        if let Some(site) = differs(first, other).or_else(|| differs(other, first)) {
            return Err(AverageError::Site { adapter, site });
        }
        let same = |(site, factors): &(&String, &Factors)| {
            let other = &other.sites[*site];
            (other.d_in, other.d_out) == (factors.d_in, factors.d_out)
        };
        if let Some((site, _)) = first.sites.iter().find(|site| !same(site)) {
            return Err(AverageError::Dimensions { adapter, site: site.clone() });
        }
    }
    Ok(())
}

/// `sum_i w_i s_i B_i A_i` at every site, exactly but for the rounding of one multiplication of each entry of B: of the
/// summed rank, with the scale one.
///
/// # Errors
/// Adapters that differ in sites or dimensions.
pub fn stacked(adapters: &[&Adapter], weights: &[f64]) -> Result<Adapter, AverageError> {
    check(adapters, weights)?;
    let at_site = |(site, first): (&String, &Factors)| {
        let parts: Vec<&Factors> = adapters.iter().map(|adapter| &adapter.sites[site]).collect();
        // All A are brought to one magnitude by powers of two, so that none loses bits on a grid that all share.
        let magnitudes: Vec<i32> = parts.iter().map(|part| magnitude(&part.a)).collect();
        let largest = magnitudes.iter().copied().max().unwrap_or(0);
        let lifts: Vec<i32> = magnitudes.iter().map(|own| if *own == i32::MIN { 0 } else { largest - own }).collect();
        let a = parts.iter().zip(&lifts).flat_map(|(part, lift)| {
            let by = libm::scalbn(1.0, *lift);
            part.a.iter().map(move |value| (f64::from(*value) * by) as f32)
        });
        let factor = |((part, weight), lift): ((&&Factors, &f64), &i32)| {
            weight * f64::from(part.scale) * libm::scalbn(1.0, -lift)
        };
        let of_b: Vec<f64> = parts.iter().zip(weights).zip(&lifts).map(factor).collect();
        let row = |out: usize| {
            parts.iter().zip(&of_b).flat_map(move |(part, by)| {
                part.b[out * part.rank..][..part.rank].iter().map(move |value| (f64::from(*value) * by) as f32)
            })
        };
        let Factors { d_in, d_out, .. } = *first;
        let rank = parts.iter().map(|part| part.rank).sum();
        let b = (0..d_out).flat_map(row).collect();
        (site.clone(), Factors { rank, d_in, d_out, a: a.collect(), b, scale: 1.0 })
    };
    Ok(Adapter { sites: adapters[0].sites.iter().map(at_site).collect() })
}

/// The exponent of the largest magnitude; the least there is for zeros alone.
fn magnitude(values: &[f32]) -> i32 {
    let largest = values.iter().fold(0f32, |most, value| most.max(value.abs()));
    if largest == 0.0 { i32::MIN } else { ((largest.to_bits() >> 23) & 0xff) as i32 - 127 }
}

/// `sum_i w_i A_i` and `sum_i w_i s_i B_i` at every site, with the scale one.
///
/// # Errors
/// Adapters that differ in sites, dimensions or ranks.
pub fn averaged(adapters: &[&Adapter], weights: &[f64]) -> Result<Adapter, AverageError> {
    check(adapters, weights)?;
    let at_site = |(site, first): (&String, &Factors)| {
        let parts: Vec<&Factors> = adapters.iter().map(|adapter| &adapter.sites[site]).collect();
        if let Some(index) = parts.iter().position(|part| part.rank != first.rank) {
            let rank = parts[index].rank;
            return Err(AverageError::Rank { adapter: index + 1, site: site.clone(), rank, first: first.rank });
        }
        let sum = |values: &dyn Fn(&Factors) -> (f64, &[f32]), count: usize| -> Vec<f32> {
            let mut sums = vec![0f64; count];
            for (part, weight) in parts.iter().zip(weights) {
                let (scale, values) = values(part);
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * scale * f64::from(*value));
            }
            sums.into_iter().map(|sum| sum as f32).collect()
        };
        let a = sum(&|part| (1.0, &part.a), first.a.len());
        let b = sum(&|part| (f64::from(part.scale), &part.b), first.b.len());
        Ok((site.clone(), Factors { a, b, scale: 1.0, ..*first }))
    };
    Ok(Adapter { sites: adapters[0].sites.iter().map(at_site).collect::<Result<_, _>>()? })
}

/// How far the products of an adapter are from `sum_i w_i s_i B_i A_i`: the Frobenius norm of the difference over all
/// sites, relative to that of the sum. Computed in f64 without any product of `(d_out, d_in)`; differences below some
/// 1e-7 are not told from none.
///
/// # Errors
/// Adapters that differ in sites or dimensions; `result` counts as the last of them.
pub fn distance(adapters: &[&Adapter], weights: &[f64], result: &Adapter) -> Result<f64, AverageError> {
    let (mut all, mut weights) = (adapters.to_vec(), weights.to_vec());
    all.push(result);
    weights.push(-1.0);
    check(&all, &weights)?;
    let (mut apart, mut whole) = (0.0, 0.0);
    for site in result.sites.keys() {
        let parts: Vec<(&Factors, f64)> = all.iter().zip(&weights).map(|(one, by)| (&one.sites[site], *by)).collect();
        let (of_result, of_sum) = squares(&parts);
        apart += of_result;
        whole += of_sum;
    }
    Ok(if whole > 0.0 { (apart.max(0.0) / whole).sqrt() } else { apart.max(0.0).sqrt() })
}

/// The squared Frobenius norms of `sum_i w_i s_i B_i A_i` over all parts, and over all but the last. With the columns of
/// all B side by side as U and the rows of all A as V, the norm of U V is `< U^T U, V V^T >`.
fn squares(parts: &[(&Factors, f64)]) -> (f64, f64) {
    let columns: Vec<Vec<f64>> = parts
        .iter()
        .flat_map(|(part, weight)| {
            let by = weight * f64::from(part.scale);
            (0..part.rank)
                .map(move |lane| part.b[lane..].iter().step_by(part.rank).map(|b| by * f64::from(*b)).collect())
        })
        .collect();
    let rows: Vec<Vec<f64>> = parts
        .iter()
        .flat_map(|(part, _)| part.a.chunks(part.d_in).map(|row| row.iter().map(|a| f64::from(*a)).collect()))
        .collect();
    let dot = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| x * y).sum() };
    let last = columns.len() - parts.last().map_or(0, |(part, _)| part.rank);
    let (mut all, mut but_last) = (0.0, 0.0);
    for one in 0..columns.len() {
        for two in 0..=one {
            let term =
                dot(&columns[one], &columns[two]) * dot(&rows[one], &rows[two]) * if one == two { 1.0 } else { 2.0 };
            all += term;
            if one < last {
                but_last += term;
            }
        }
    }
    (all, but_last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(rank: usize, seed: u64, scale: f32) -> Factors {
        let (d_in, d_out) = (7, 5);
        let values = |count: usize, name: &str| crate::train::normal_values(name, count, 0.3, seed);
        Factors { rank, d_in, d_out, a: values(rank * d_in, "a"), b: values(d_out * rank, "b"), scale }
    }

    fn adapter(factors: Factors) -> Adapter {
        Adapter { sites: [("q".to_owned(), factors)].into() }
    }

    /// `(d_out, d_in)` in f64.
    fn product(adapter: &Adapter) -> Vec<f64> {
        let Factors { rank, d_in, d_out, a, b, scale } = &adapter.sites["q"];
        let entry = |(out, input): (usize, usize)| -> f64 {
            let sum = (0..*rank).map(|lane| f64::from(b[out * rank + lane]) * f64::from(a[lane * d_in + input]));
            f64::from(*scale) * sum.sum::<f64>()
        };
        (0..*d_out).flat_map(|out| (0..*d_in).map(move |input| (out, input))).map(entry).collect()
    }

    #[test]
    fn a_stack_is_the_weighted_sum_of_products_and_averaged_factors_are_not() {
        let mut parts = [factors(2, 1, 0.5), factors(3, 2, 2.0), factors(2, 3, 1.0)];
        // One that has all its size in B: on a grid with the others its A would be lost.
        parts[1].a.iter_mut().for_each(|a| *a *= 1e-5);
        parts[1].b.iter_mut().for_each(|b| *b *= 1e5);
        let parts = parts.map(adapter);
        let (all, weights) = (parts.each_ref(), [0.2, 0.5, 0.3]);
        let whole = stacked(&all, &weights).unwrap();
        assert_eq!((whole.sites["q"].rank, whole.sites["q"].scale), (7, 1.0));
        let sum: Vec<f64> =
            (0..35).map(|at| all.iter().zip(weights).map(|(part, weight)| weight * product(part)[at]).sum()).collect();
        let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
        let apart = |adapter: &Adapter| {
            let difference: Vec<f64> = product(adapter).iter().zip(&sum).map(|(one, other)| one - other).collect();
            norm(&difference) / norm(&sum)
        };
        assert!(apart(&whole) < 1e-6, "{}", apart(&whole));
        let on_grid = whole.on_grid().unwrap();
        assert!(apart(&on_grid) < 1e-3, "{}", apart(&on_grid));
        assert!((distance(&all, &weights, &on_grid).unwrap() - apart(&on_grid)).abs() < 1e-6);

        let pair = [all[0], all[2]];
        let sum_of_pair = stacked(&pair, &[0.5, 0.5]).unwrap();
        let factored = averaged(&pair, &[0.5, 0.5]).unwrap();
        let measured = distance(&pair, &[0.5, 0.5], &factored).unwrap();
        let (exact, cross) = (product(&sum_of_pair), product(&factored));
        let difference: Vec<f64> = exact.iter().zip(&cross).map(|(one, other)| one - other).collect();
        assert!((measured - norm(&difference) / norm(&exact)).abs() < 1e-6 && measured > 0.3, "{measured}");
        // Where all have one A, the averages of factors are the average of products.
        let mut same = pair.map(Clone::clone);
        same[1].sites.get_mut("q").unwrap().a = same[0].sites["q"].a.clone();
        let same = same.each_ref();
        let factored = averaged(&same, &[0.5, 0.5]).unwrap();
        assert!(distance(&same, &[0.5, 0.5], &factored).unwrap() < 1e-6);
    }

    #[test]
    fn what_cannot_be_averaged_is_refused_by_name() {
        let (one, wide) = (adapter(factors(2, 1, 1.0)), adapter(factors(3, 1, 1.0)));
        let renamed = Adapter { sites: [("v".to_owned(), factors(2, 1, 1.0))].into() };
        let other = adapter(Factors { d_in: 14, d_out: 5, a: vec![0.0; 28], ..factors(2, 1, 1.0) });
        let said = |refused: Result<Adapter, AverageError>| refused.unwrap_err().to_string();
        assert_eq!(
            said(averaged(&[&one, &wide], &[0.5; 2])),
            "adapter 2 has rank 3 in the place of 2, and its factors have no average, at site: q"
        );
        assert!(stacked(&[&one, &wide], &[0.5; 2]).is_ok());
        let site = "adapter 2 differs from the first in whether it has site: q";
        assert_eq!(said(stacked(&[&one, &renamed], &[0.5; 2])), site);
        let dimensions = "adapter 2 has other dimensions than the first at site: q";
        assert_eq!(said(stacked(&[&one, &other], &[0.5; 2])), dimensions);
        assert_eq!(said(stacked(&[&one, &wide], &[1.0])), "2 adapters and 1 weights");
        assert_eq!(said(stacked(&[], &[])), "0 adapters and 0 weights");
    }
}
