//! The base model's weights as integers, a function of its tensors alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ftk_circuits::fixed::linear::Matrix;
use ftk_circuits::fixed::norm::Norm;
use ftk_circuits::fixed::{ACTIVATION_BITS, BIAS_BITS, BIAS_LIMIT_BITS};
use ftk_kernels::grid;
use ftk_networks::ops::Bias;
use ftk_networks::sites::{Role, Site};

use super::error::PassError;

/// A table of embeddings or positions, entries at scale `2^-16`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FixedTable {
    hidden: usize,
    entries: Vec<i32>,
}

impl FixedTable {
    /// One row, if the table has so many.
    fn row(&self, index: usize) -> Option<impl Iterator<Item = i64>> {
        let row = self.entries.chunks_exact(self.hidden).nth(index)?;
        Some(row.iter().copied().map(i64::from))
    }
}

/// The integers of every site's weight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FixedBase {
    tables: BTreeMap<String, FixedTable>,
    matrices: BTreeMap<String, Arc<Matrix>>,
    norms: BTreeMap<String, Arc<Norm>>,
}

/// One tensor as integers, in each of the ways that sites use it: a tied head's is a table and a matrix.
#[derive(Debug, Default)]
pub struct Quantised {
    table: Option<FixedTable>,
    matrix: Option<UnbiasedMatrix>,
    norm: Option<(Vec<i32>, u32)>,
    bias: Option<Vec<i64>>,
}

/// A matrix before its bias is known.
#[derive(Debug)]
struct UnbiasedMatrix {
    d_in: usize,
    entries: Vec<i16>,
    shifts: Vec<u8>,
}

/// Which sites use which tensor.
#[derive(Debug)]
pub struct Uses<'a> {
    sites: &'a [Site],
    by_tensor: BTreeMap<String, BTreeSet<Use>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// Its entries multiplied by the f32 with these bits, which have an order.
    Table(u32),
    Matrix,
    Norm,
    Bias,
}

impl<'a> Uses<'a> {
    /// Those of a network's sites.
    pub fn of(sites: &'a [Site]) -> Self {
        let mut by_tensor: BTreeMap<String, BTreeSet<Use>> = BTreeMap::new();
        for site in sites {
            let weight = match site.role {
                Role::Embedding | Role::Positions => Some(Use::Table(site.scale.to_bits())),
                Role::Linear | Role::Head => Some(Use::Matrix),
                Role::Norm => Some(Use::Norm),
                // Has no integer form: `assemble` says so.
                Role::Neighbours => None,
            };
            if let Some(weight) = weight {
                by_tensor.entry(weight_name(site)).or_default().insert(weight);
            }
            if site.bias {
                by_tensor.entry(bias_name(site)).or_default().insert(Use::Bias);
            }
        }
        Self { sites, by_tensor }
    }

    /// Names of the tensors, in order.
    pub fn names(&self) -> Vec<&str> {
        self.by_tensor.keys().map(String::as_str).collect()
    }

    /// The integers of one tensor: its dimensions, outermost first, and its entries, row-major.
    ///
    /// # Errors
    /// A value that does not fit its grid, a shape its sites cannot have.
    pub fn quantise(&self, name: &str, shape: &[usize], values: &[f32]) -> Result<Quantised, PassError> {
        let off_grid = |error| PassError::Grid { name: name.to_owned(), error };
        let misshapen = || PassError::Shape { name: name.to_owned(), shape: shape.to_vec() };
        if shape.iter().product::<usize>() != values.len() {
            return Err(misshapen());
        }
        let width = || if let [_, width] = shape { Ok(*width) } else { Err(misshapen()) };
        let mut quantised = Quantised::default();
        for each in self.by_tensor.get(name).into_iter().flatten() {
            match each {
                Use::Table(scale) => {
                    let hidden = width()?;
                    let entries = match f32::from_bits(*scale) {
                        1.0 => grid::fixed_32(values, ACTIVATION_BITS),
                        scale => {
                            let scaled: Vec<f32> = values.iter().map(|value| value * scale).collect();
                            grid::fixed_32(&scaled, ACTIVATION_BITS)
                        }
                    };
                    quantised.table = Some(FixedTable { hidden, entries: entries.map_err(off_grid)? });
                }
                Use::Matrix => {
                    let d_in = width()?;
                    let (entries, shifts) = grid::quantise_16_rows(values, d_in).map_err(off_grid)?;
                    quantised.matrix = Some(UnbiasedMatrix { d_in, entries, shifts });
                }
                Use::Norm => {
                    if shape.len() != 1 {
                        return Err(misshapen());
                    }
                    quantised.norm = Some(grid::quantise_24(values).map_err(off_grid)?);
                }
                Use::Bias => {
                    let limit = (1 << BIAS_LIMIT_BITS) - 1;
                    quantised.bias = Some(grid::fixed_64(values, BIAS_BITS, limit).map_err(off_grid)?);
                }
            }
        }
        Ok(quantised)
    }

    /// The base made of all its tensors, each quantised as above.
    ///
    /// # Errors
    /// A missing tensor, a shape a site cannot have, attention over neighbours.
    pub fn assemble(&self, mut tensors: BTreeMap<String, Quantised>) -> Result<FixedBase, PassError> {
        let mut base = FixedBase::default();
        for site in self.sites {
            let bias = match site.bias {
                true => Some(part(&mut tensors, bias_name(site), |tensor| tensor.bias.take())?),
                false => None,
            };
            let (name, weight) = (weight_name(site), &site.weight);
            match site.role {
                Role::Embedding | Role::Positions => {
                    let table = part(&mut tensors, name, |tensor| tensor.table.take())?;
                    base.tables.insert(weight.clone(), table);
                }
                Role::Linear | Role::Head => {
                    let UnbiasedMatrix { d_in, entries, shifts } =
                        part(&mut tensors, name, |tensor| tensor.matrix.take())?;
                    let mut matrix = Matrix::new(weight, d_in, entries, shifts)?;
                    if let Some(bias) = bias {
                        matrix = matrix.with_bias(&site.name, bias)?;
                    }
                    base.matrices.insert(weight.clone(), Arc::new(matrix));
                }
                Role::Norm => {
                    let (entries, shift) = part(&mut tensors, name, |tensor| tensor.norm.take())?;
                    let mut norm = Norm::new(weight, entries, shift)?;
                    if let Some(bias) = bias {
                        norm = norm.with_bias(&site.name, bias)?;
                    }
                    base.norms.insert(weight.clone(), Arc::new(norm));
                }
                Role::Neighbours => return Err(PassError::Neighbours(site.name.clone())),
            }
        }
        Ok(base)
    }
}

fn weight_name(site: &Site) -> String {
    format!("{}.weight", site.weight)
}

fn bias_name(site: &Site) -> String {
    format!("{}.bias", site.name)
}

/// Takes one form of a tensor, which no other site takes.
fn part<T>(
    tensors: &mut BTreeMap<String, Quantised>,
    name: String,
    take: impl FnOnce(&mut Quantised) -> Option<T>,
) -> Result<T, PassError> {
    tensors.get_mut(&name).and_then(take).ok_or(PassError::MissingWeight(name))
}

impl FixedBase {
    /// The integer matrix of a weight (module path without `.weight`).
    ///
    /// # Errors
    /// [`PassError::MissingSite`].
    pub fn matrix(&self, weight: &str) -> Result<&Arc<Matrix>, PassError> {
        self.matrices.get(weight).ok_or_else(|| PassError::MissingSite(weight.to_owned()))
    }

    /// The matrix of a linear site, which has a bias or has none as the network says.
    pub(super) fn biased(&self, site: &str, weight: &str, bias: Bias) -> Result<&Arc<Matrix>, PassError> {
        let matrix = self.matrix(weight)?;
        if matrix.bias().is_some() != (bias == Bias::Present) {
            return Err(PassError::Bias(site.to_owned()));
        }
        Ok(matrix)
    }

    /// Rows of a table of embeddings, for each id.
    pub(super) fn embedded(&self, site: &str, ids: &[u32]) -> Result<Vec<i64>, PassError> {
        let table = self.table(site)?;
        let mut entries = Vec::with_capacity(ids.len() * table.hidden);
        for &id in ids {
            entries.extend(table.row(id as usize).ok_or(PassError::Token(id))?);
        }
        Ok(entries)
    }

    /// Rows of a table of positions.
    pub(super) fn positioned(&self, site: &str, positions: &[u32]) -> Result<Vec<i64>, PassError> {
        let table = self.table(site)?;
        let known = table.entries.len() / table.hidden;
        let mut entries = Vec::with_capacity(positions.len() * table.hidden);
        for &position in positions {
            entries.extend(table.row(position as usize).ok_or(PassError::Positions(known))?);
        }
        Ok(entries)
    }

    fn table(&self, site: &str) -> Result<&FixedTable, PassError> {
        self.tables.get(site).ok_or_else(|| PassError::MissingSite(site.to_owned()))
    }

    pub(super) fn norm(&self, site: &str) -> Result<&Arc<Norm>, PassError> {
        self.norms.get(site).ok_or_else(|| PassError::MissingSite(site.to_owned()))
    }
}
