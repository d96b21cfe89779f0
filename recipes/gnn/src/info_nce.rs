//! The loss of telling the nodes of one view of a graph in another, as contrast learns it.

use candle_core::{Device, Tensor};
use ftk_adapters::train::product;
use rayon::prelude::*;

/// Nodes compared with all others at once: bounds the matrix of likenesses.
const AT_ONCE: usize = 512;

/// Rows shorter than this have no direction: of a node without features next to biases that are still zero.
const SHORT: f64 = 1e-6;

/// Rows at unit length, and their lengths; a short row becomes zero, and of infinite length, so that it learns nothing.
pub(super) fn unit(x: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
    let length = along(x, x)?.sqrt()?;
    let infinite = Tensor::full(f32::INFINITY, length.shape(), length.device())?;
    let length = length.gt(SHORT)?.where_cond(&length, &infinite)?;
    Ok((x.broadcast_div(&length)?, length))
}

/// The product of each row with the row of the other matrix `(rows, 1)`, added up from its first entry on.
fn along(x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
    let sum = |(x, y): (&Vec<f32>, &Vec<f32>)| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    let sums: Vec<f32> = x.to_vec2::<f32>()?.iter().zip(&y.to_vec2()?).map(sum).collect();
    Tensor::from_vec(sums, (x.dim(0)?, 1), x.device())
}

/// The loss of telling, for each of the `anchors` in either of two views `(nodes, width)`, the same node in the other
/// view from all other nodes in both: the cross-entropy of a softmax over cosines divided by `temperature`, half of it
/// for either view, summed over anchors (Oord et al. 2018; Zhu et al. 2020). With it how often the right one is the
/// most alike, as a sum over anchors, and the gradients of both views.
///
/// # Errors
/// The device's.
pub fn info_nce(
    views: [&Tensor; 2],
    anchors: &[usize],
    temperature: f64,
) -> candle_core::Result<(f64, f64, [Tensor; 2])> {
    let (nodes, width) = views[0].dims2()?;
    let [(u, u_length), (v, v_length)] = [unit(views[0])?, unit(views[1])?];
    let (mut sum, mut hits) = (0.0, 0.0);
    let mut gradients = [u.zeros_like()?, v.zeros_like()?];
    for side in 0..2 {
        let (own, other) = if side == 0 { (&u, &v) } else { (&v, &u) };
        let all = Tensor::cat(&[own, other], 0)?;
        let mut of_all = all.zeros_like()?;
        for chunk in anchors.chunks(AT_ONCE) {
            let places: Vec<u32> = chunk.iter().map(|&anchor| anchor as u32).collect();
            let places = Tensor::from_slice(&places, places.len(), &Device::Cpu)?;
            let these = own.index_select(&places, 0)?;
            let mut alike = product(1.0, &these, &all.t()?)?.flatten_all()?.to_vec1::<f32>()?;
            let judged: Vec<(f64, bool)> = alike
                .par_chunks_exact_mut(2 * nodes)
                .zip(chunk)
                .map(|(row, &anchor)| tell(row, anchor, nodes + anchor, temperature as f32))
                .collect();
            sum += judged.iter().map(|(loss, _)| 0.5 * loss).sum::<f64>();
            hits += judged.iter().map(|(_, hit)| 0.5 * f64::from(u8::from(*hit))).sum::<f64>();
            let slope = Tensor::from_vec(alike, (chunk.len(), 2 * nodes), &Device::Cpu)?;
            gradients[side] = gradients[side].index_add(&places, &product(1.0, &slope, &all)?, 0)?;
            of_all = (of_all + product(1.0, &slope.t()?, &these)?)?;
        }
        gradients[side] = (&gradients[side] + of_all.narrow(0, 0, nodes)?)?;
        gradients[1 - side] = (&gradients[1 - side] + of_all.narrow(0, nodes, nodes)?)?;
    }
    debug_assert_eq!(gradients[0].dims(), [nodes, width]);
    // Through the division by the length: only what stands upright on the row is left.
    let through = |gradient: &Tensor, unit: &Tensor, length: &Tensor| -> candle_core::Result<Tensor> {
        let along = along(gradient, unit)?;
        (gradient - unit.broadcast_mul(&along)?)?.broadcast_div(length)
    };
    Ok((sum, hits, [through(&gradients[0], &u, &u_length)?, through(&gradients[1], &v, &v_length)?]))
}

/// Turns cosines into the gradient of half the loss by them; the loss, and whether the right one is the most alike.
fn tell(row: &mut [f32], own: usize, right: usize, temperature: f32) -> (f64, bool) {
    row[own] = f32::NEG_INFINITY;
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let aim = row[right];
    // One that is as alike as the right one is not told from it.
    let hit = row.iter().enumerate().all(|(at, &value)| at == right || value < aim);
    let mut total = 0.0f64;
    for value in row.iter_mut() {
        *value = libm::expf((*value - top) / temperature);
        total += f64::from(*value);
    }
    let scale = (0.5 / (total * f64::from(temperature))) as f32;
    row.iter_mut().for_each(|value| *value *= scale);
    row[right] -= 0.5 / temperature;
    (libm::log(total) + f64::from((top - aim) / temperature), hit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u64, rows: usize, width: usize) -> Tensor {
        let values = ftk_adapters::train::normal_values("view", rows * width, 1.0, seed);
        Tensor::from_vec(values, (rows, width), &Device::Cpu).unwrap()
    }

    #[test]
    fn the_loss_of_views_is_its_definition() {
        let (a, b) = (values(1, 3, 4), values(2, 3, 4));
        let rows = |x: &Tensor| x.to_vec2::<f32>().unwrap();
        let cosine = |x: &[f32], y: &[f32]| {
            let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from(x * y)).sum::<f64>();
            dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
        };
        let (u, v) = (rows(&a), rows(&b));
        let one = |u: &[Vec<f32>], v: &[Vec<f32>], at: usize| {
            let e = |x: &[f32], y: &[f32]| (cosine(x, y) / 0.7).exp();
            let others: f64 = (0..3).filter(|&other| other != at).map(|other| e(&u[at], &u[other])).sum();
            let across: f64 = (0..3).map(|other| e(&u[at], &v[other])).sum();
            -(e(&u[at], &v[at]) / (others + across)).ln()
        };
        let expected: f64 = [0, 2].into_iter().map(|at| 0.5 * one(&u, &v, at) + 0.5 * one(&v, &u, at)).sum();
        let (sum, ..) = info_nce([&a, &b], &[0, 2], 0.7).unwrap();
        assert!((sum - expected).abs() < 1e-5, "{sum} {expected}");
        // A row without a direction is alike to nothing and learns nothing.
        let flat = Tensor::cat(&[&a.narrow(0, 0, 2).unwrap(), &a.zeros_like().unwrap().narrow(0, 0, 1).unwrap()], 0);
        let (sum, _, [gradient, _]) = info_nce([&flat.unwrap(), &b], &[2], 0.7).unwrap();
        assert!(sum.is_finite() && rows(&gradient)[2] == [0.0; 4] && rows(&gradient)[0] != [0.0; 4]);
        // Views that are the same are told apart from everything.
        let (_, hits, _) = info_nce([&a, &a], &[0, 1, 2], 0.7).unwrap();
        assert_eq!(hits, 3.0);
    }

    #[test]
    fn the_loss_of_views_has_the_gradients_it_says() {
        let views = [values(3, 5, 3), values(4, 5, 3)];
        let anchors = [1, 3, 4];
        let (_, _, gradients) = info_nce([&views[0], &views[1]], &anchors, 0.5).unwrap();
        for side in 0..2 {
            let own = views[side].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let gradient = gradients[side].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (at, gradient) in gradient.into_iter().enumerate() {
                let loss = |step: f32| {
                    let mut moved = own.clone();
                    moved[at] += step;
                    let moved = Tensor::from_vec(moved, (5, 3), &Device::Cpu).unwrap();
                    let pair = if side == 0 { [&moved, &views[1]] } else { [&views[0], &moved] };
                    info_nce(pair, &anchors, 0.5).unwrap().0
                };
                let step = 1e-2;
                let difference = (loss(step) - loss(-step)) / (2.0 * f64::from(step));
                assert!((difference - f64::from(gradient)).abs() < 2e-3, "{side} {at}: {gradient} {difference}");
            }
        }
    }
}
