//! Linear forms in cells: sums of entries of tensors, each weighed by a factor of its row times one of its feature.

use std::collections::BTreeMap;
use std::sync::Arc;

use ff::Field;
use pasta_curves::Fp;
use rayon::prelude::*;

use super::arrangement::{Arrangement, PlanePattern, Tensor};
use crate::field::signed;
use crate::folding::Strip;
use crate::layout::useful_rows;

/// Group, weights of rows and pattern: cells of these have their coefficients in common.
type Lanes = (usize, usize, usize);

/// Coefficients of some entries of lanes, times a weight.
#[derive(Clone)]
struct LaneTerm {
    lanes: Lanes,
    begin: usize,
    weight: Fp,
    features: Arc<[Fp]>,
}

/// A linear form in cells.
#[derive(Clone, Default)]
pub(crate) struct Claims {
    /// Weights of rows that occur.
    rows: Vec<Vec<Fp>>,
    patterns: Vec<PlanePattern>,
    parts: Vec<LaneTerm>,
    pub(crate) constant: Fp,
}

fn number<T: PartialEq>(known: &mut Vec<T>, item: T) -> usize {
    known.iter().position(|other| *other == item).unwrap_or_else(|| {
        known.push(item);
        known.len() - 1
    })
}

impl Claims {
    /// Adds `weight sum_t sum_j rows_t features_j tensor_tj`.
    pub(crate) fn add(&mut self, arrangement: &Arrangement, weight: Fp, tensor: &Tensor, rows: &[Fp], features: &[Fp]) {
        debug_assert_eq!((rows.len(), features.len()), (arrangement.rows(tensor.space), tensor.width));
        if tensor.constant != 0 {
            let all = |weights: &[Fp]| weights.iter().sum::<Fp>();
            self.constant += weight * signed(tensor.constant) * all(rows) * all(features);
        }
        if let Some(public) = &tensor.public {
            let row = |(row, values): (&Fp, &[i64])| {
                let sum: Fp =
                    features.iter().zip(values).map(|(weight, value)| *weight * signed((*value).into())).sum();
                *row * sum
            };
            self.constant += weight * rows.iter().zip(public.chunks_exact(tensor.width.max(1))).map(row).sum::<Fp>();
        }
        let shared: Arc<[Fp]> = features.into();
        for term in &tensor.terms {
            let group = &arrangement.groups[term.group];
            let mut of_rows = vec![Fp::ZERO; arrangement.rows(group.space)];
            match &term.rows {
                None => of_rows.copy_from_slice(rows),
                Some(selected) => selected.iter().zip(rows).for_each(|(row, weight)| of_rows[*row] += weight),
            }
            let pattern = number(&mut self.patterns, term.pattern.clone());
            let flat = group.lanes == 1;
            let lanes = number(&mut self.rows, if flat { vec![Fp::ONE] } else { of_rows.clone() });
            let mut put = |begin: usize, weight: Fp| {
                self.parts.push(LaneTerm {
                    lanes: (term.group, lanes, pattern),
                    begin,
                    weight,
                    features: shared.clone(),
                });
            };
            match flat {
                false => put(term.offset, weight),
                true => of_rows
                    .iter()
                    .enumerate()
                    .filter(|(_, of_row)| **of_row != Fp::ZERO)
                    .for_each(|(row, of_row)| put(row * group.length + term.offset, weight * of_row)),
            }
        }
    }

    /// Adds `weight` times another form.
    pub(crate) fn merge(&mut self, weight: Fp, other: &Self) {
        self.constant += weight * other.constant;
        let rows: Vec<usize> = other.rows.iter().map(|rows| number(&mut self.rows, rows.clone())).collect();
        let patterns: Vec<usize> =
            other.patterns.iter().map(|pattern| number(&mut self.patterns, pattern.clone())).collect();
        self.parts.extend(other.parts.iter().map(|part| {
            let (group, lanes, pattern) = part.lanes;
            LaneTerm { lanes: (group, rows[lanes], patterns[pattern]), weight: weight * part.weight, ..part.clone() }
        }));
    }

    /// The strips that it comes to; `before` columns stand before those of cells.
    pub(crate) fn strips(&self, arrangement: &Arrangement, before: usize) -> Vec<Strip> {
        let rows = useful_rows(arrangement.k);
        let mut by_lanes: BTreeMap<Lanes, Vec<&LaneTerm>> = BTreeMap::new();
        for part in &self.parts {
            by_lanes.entry(part.lanes).or_default().push(part);
        }
        let all: Vec<(Lanes, Vec<&LaneTerm>)> = by_lanes.into_iter().collect();
        let of_lanes = |((group, lanes, pattern), parts): (Lanes, Vec<&LaneTerm>)| {
            let group = &arrangement.groups[group];
            let mut coefficients = vec![Fp::ZERO; group.vector];
            for LaneTerm { begin, weight, features, .. } in parts {
                let own = coefficients[*begin..].iter_mut().zip(&**features);
                own.for_each(|(own, feature)| *own += *weight * feature);
            }
            let planes = group.class.planes;
            let mut weights = vec![Fp::ZERO; group.lanes * planes];
            for (own, lane) in weights.chunks_exact_mut(planes).zip(&self.rows[lanes]) {
                for (plane, factor) in self.patterns[pattern].iter() {
                    own[*plane] += *lane * signed(*factor);
                }
            }
            let strip = |(piece, coefficients): (usize, &[Fp])| {
                let nothing = coefficients.iter().all(|coefficient| *coefficient == Fp::ZERO);
                (!nothing).then(|| Strip {
                    first: before + group.column(piece, 0, 0),
                    weights: weights.clone(),
                    coefficients: coefficients.to_vec(),
                })
            };
            coefficients.chunks(rows).enumerate().filter_map(strip).collect::<Vec<Strip>>()
        };
        all.into_par_iter().flat_map_iter(of_lanes).collect()
    }
}
