//! Bases as exact integers, from tensors.

use std::collections::BTreeMap;

use candle_core::Tensor;
use ftk_adapters::weights::Weights;
use ftk_bases::digest;
use ftk_bases::{BaseModel, ModelError};
use ftk_circuits::Digest;
use ftk_proofs::fixed::base::Uses;
use ftk_proofs::{FixedModel, Net};
use rayon::prelude::*;

use super::fixed::{self, WeightsError};

/// Why a base has no exact-integer form.
#[derive(Debug, thiserror::Error)]
pub enum FixedModelError {
    /// The digest could not be computed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The integers could not.
    #[error(transparent)]
    Fixed(#[from] WeightsError),
}

/// Values of weights read ahead while others are hashed: enough to occupy all cores, little beside the base.
const READ_AHEAD: usize = 8 << 20;

/// The integer form of a loaded base.
///
/// # Errors
/// A weight that does not fit its grid; see [`fixed::of_weights`].
pub fn of(source: &BaseModel, weights: &Weights) -> Result<FixedModel, FixedModelError> {
    build(source, |name| Ok(weights.get(name).map_err(WeightsError::from)?))
}

/// The integer form of a base whose weights are read one after another: there is never a copy of all of them in
/// floats.
///
/// # Errors
/// As [`of`], and those of [`BaseModel::weights`].
pub fn read(source: &BaseModel) -> Result<FixedModel, FixedModelError> {
    build(source, |name| Ok(source.weight(name)?))
}

fn build(
    source: &BaseModel,
    weight: impl Fn(&str) -> Result<Tensor, FixedModelError> + Sync,
) -> Result<FixedModel, FixedModelError> {
    let network = source.network().clone();
    let (all, shapes) = (network.sites(), network.shapes());
    let uses = Uses::of(&all);
    let read = |(name, _): &(String, usize)| {
        let tensor = weight(name)?;
        let quantised = fixed::quantised(&uses, name, &tensor)?;
        Ok::<_, FixedModelError>((name.clone(), tensor, quantised))
    };
    let mut digesting = source.digesting();
    let mut hash = |tensors: Vec<(String, Tensor)>| {
        tensors.iter().try_for_each(|(name, tensor)| digest::add(&mut digesting, name, tensor))
    };
    // The digest takes tensors in order, one at a time; the next ones are read meanwhile.
    let sized: Vec<_> = shapes.iter().map(|(name, shape)| (name.clone(), shape.iter().product())).collect();
    let (mut waiting, mut quantised) = (Vec::new(), BTreeMap::new());
    for window in windows(&sized) {
        let (hashed, tensors) =
            rayon::join(|| hash(std::mem::take(&mut waiting)), || window.par_iter().map(read).collect::<Vec<_>>());
        hashed?;
        for tensor in tensors {
            let (name, tensor, integers) = tensor?;
            quantised.insert(name.clone(), integers);
            waiting.push((name, tensor));
        }
    }
    hash(waiting)?;
    let base = uses.assemble(quantised).map_err(WeightsError::from)?;
    let stop = source.special().stop.clone();
    Ok(FixedModel::assembled(Net::Tokens(network), base, Digest(digesting.finish().0), stop))
}

/// Consecutive tensors, by name and number of values, of at most [`READ_AHEAD`] values together, or one that has more.
fn windows(mut sized: &[(String, usize)]) -> Vec<&[(String, usize)]> {
    let mut windows = Vec::new();
    while !sized.is_empty() {
        let mut total = 0;
        let fits = |(_, values): &&(String, usize)| {
            total += values;
            total <= READ_AHEAD
        };
        let (window, rest) = sized.split_at(sized.iter().take_while(fits).count().max(1));
        windows.push(window);
        sized = rest;
    }
    windows
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::Device;
    use ftk_proofs::FloatWeight;

    use super::*;

    #[test]
    fn a_base_read_piece_by_piece_is_the_loaded_one() {
        let source = BaseModel::open(Path::new("village")).unwrap();
        let weights = source.weights(&Device::Cpu).unwrap();
        let read = read(&source).unwrap();
        let loaded = of(&source, &weights).unwrap();
        assert_eq!(read.digest().0, source.digest(&weights).unwrap().0);
        assert_eq!((read.digest(), read.sites()), (loaded.digest(), loaded.sites()));
        assert_eq!(read.base(), loaded.base());
        let given = FixedModel::new(loaded.net().clone(), source.texts(), |name| {
            let tensor = weights.get(name).ok()?;
            let values = tensor.flatten_all().and_then(|tensor| tensor.to_vec1::<f32>()).ok()?;
            Some(FloatWeight { shape: tensor.dims().to_vec().into(), values: values.into() })
        });
        let given = given.unwrap();
        assert_eq!((given.digest(), given.sites(), given.base()), (read.digest(), read.sites(), read.base()));
        assert_eq!(given.stop_ids(), read.stop_ids());
        assert_eq!(read.base(), &fixed::of_weights(&weights, &source.network().sites()).unwrap());
    }

    #[test]
    fn windows_are_all_tensors_in_order() {
        let sized = |sizes: &[usize]| sizes.iter().map(|&size| (size.to_string(), size)).collect::<Vec<_>>();
        let all = sized(&[1, READ_AHEAD - 1, 1, 2 * READ_AHEAD, 5, 6]);
        let sizes: Vec<usize> = windows(&all).iter().map(|window| window.len()).collect();
        assert_eq!(sizes, [2, 1, 1, 2]);
        assert_eq!(windows(&all).concat(), all);
        assert!(windows(&[]).is_empty());
    }
}
