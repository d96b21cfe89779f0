//! The exact-integer interpretation of networks: the operations of [`ftk_circuits::fixed`] bound to [`Ops`].
//!
//! One [`Fixed`] runs one pass over any number of sequences. It serves the prover, who has the adapter's factors and needs the
//! inputs and exact deltas of every adapted site, and the verifier, who has the deltas and needs the inputs.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use ftk_circuits::fixed::attention::{self, attention};
use ftk_circuits::fixed::gate::{geglu, gelu, swiglu};
use ftk_circuits::fixed::graph::{self, aggregate, relu};
use ftk_circuits::fixed::linear::{Delta, Matrix, linear, linear_rope};
use ftk_circuits::fixed::norm::{EPS_BITS, layer_norm, norm_rope, rms_norm};
use ftk_circuits::fixed::rope::{self, Rotations};
use ftk_circuits::fixed::{ACTIVATION_BITS, add, greedy, words};
use ftk_kernels::grid;
use ftk_networks::ops::graph::{Features, Propagation};
use ftk_networks::ops::{Bias, Heads, Nodes, Ops, Rope, Segment, TableShape, Tokens};

use crate::deadline::Deadline;
use crate::read::LogitsRow;

mod adaptation;
pub mod base;
mod error;
mod layout;
pub(crate) mod plan;

use self::layout::PassLayout;
pub use adaptation::{Adaptation, Exported, FixedAdapter, SiteDeltas, SiteRecord};
pub use base::FixedBase;
pub use error::PassError;

/// Activations `(rows, features)` at scale `2^-16`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activations {
    /// Positions.
    pub rows: usize,
    /// Width.
    pub features: usize,
    /// Row-major entries.
    pub entries: Vec<i64>,
    /// The site they come from, for errors of operations that have no site of their own.
    pub site: String,
}

impl Activations {
    /// Rows of one width.
    pub fn new(site: &str, rows: usize, entries: Vec<i64>) -> Self {
        Self { rows, features: entries.len() / rows.max(1), entries, site: site.to_owned() }
    }

    /// The most likely token of each row of logits; ties go to the lowest id.
    pub fn greedy(&self) -> Vec<u32> {
        self.entries.chunks_exact(self.features.max(1)).filter_map(greedy).collect()
    }
}

/// Rows of logits that exist at once where they are read: 25 MB of a vocabulary of 49,152.
const HEAD_ROWS: usize = 64;

/// Takes from each row of logits what is wanted of it, by its number.
pub type RowReader<'a> = dyn FnMut(usize, LogitsRow<'_>) -> Result<(), PassError> + 'a;

/// The exact-integer interpretation of one pass.
pub struct Fixed<'a> {
    base: &'a FixedBase,
    adaptation: Adaptation<'a>,
    place: PassLayout,
    records: Vec<SiteRecord>,
    reader: Option<&'a mut RowReader<'a>>,
    deadline: Deadline,
}

impl<'a> Fixed<'a> {
    /// Ready for one forward pass.
    pub fn new(base: &'a FixedBase, adaptation: Adaptation<'a>) -> Self {
        Self {
            base,
            adaptation,
            place: PassLayout::default(),
            records: Vec::new(),
            reader: None,
            deadline: Deadline::NONE,
        }
    }

    /// Stops with [`PassError::Time`] at the first large operation after the deadline.
    pub fn until(self, deadline: Deadline) -> Self {
        Self { deadline, ..self }
    }

    fn in_time(&self) -> Result<(), PassError> {
        if self.deadline.is_past() { Err(PassError::Time) } else { Ok(()) }
    }

    /// Shows every row of logits to a reader, a block at a time; the pass itself then yields none.
    pub fn reading(base: &'a FixedBase, adaptation: Adaptation<'a>, reader: &'a mut RowReader<'a>) -> Self {
        Self { reader: Some(reader), ..Self::new(base, adaptation) }
    }

    /// What happened at adapted sites, in the network's order of sites.
    ///
    /// # Errors
    /// [`PassError::Unvisited`] if the adaptation names a site the network did not visit.
    pub fn into_records(self) -> Result<Vec<SiteRecord>, PassError> {
        let visited: BTreeSet<&str> = self.records.iter().map(|record| record.site.as_str()).collect();
        let unvisited = match self.adaptation {
            Adaptation::Base => None,
            Adaptation::Factors(adapter) => adapter.sites.keys().find(|site| !visited.contains(site.as_str())),
            Adaptation::Deltas(deltas) => deltas.keys().find(|site| !visited.contains(site.as_str())),
        };
        match unvisited {
            Some(site) => Err(PassError::Unvisited(site.clone())),
            None => Ok(self.records),
        }
    }

    /// A linear site with its delta, if it has one, and the rotation, if it is rotated.
    fn project(
        &mut self,
        site: &str,
        (weight, bias): (&str, Bias),
        x: &Activations,
        rotations: Option<&Rotations>,
    ) -> Result<Activations, PassError> {
        let matrix = self.base.biased(site, weight, bias)?;
        let inputs = words(site, &x.entries)?;
        let (outputs, deltas) = self.outputs(site, matrix, &inputs, None, rotations)?;
        self.record(site, inputs, deltas)?;
        Ok(Activations::new(site, x.rows, outputs))
    }

    /// Outputs of some rows of a linear site, and their deltas where it has any: empty if they were given.
    /// `first` is the first row's number, where these are not all rows.
    fn outputs(
        &self,
        site: &str,
        matrix: &Matrix,
        inputs: &[i32],
        first: Option<usize>,
        rotations: Option<&Rotations>,
    ) -> Result<(Vec<i64>, Option<Vec<i128>>), PassError> {
        self.in_time()?;
        let run = |delta| match rotations {
            Some(rotations) => linear_rope(site, matrix, inputs, delta, rotations),
            None => linear(site, matrix, inputs, delta),
        };
        Ok(match self.adaptation {
            Adaptation::Factors(FixedAdapter { sites }) if sites.contains_key(site) => {
                let factors = &sites[site];
                if (factors.d_in(), factors.d_out()) != (matrix.d_in(), matrix.d_out()) {
                    return Err(PassError::AdapterShape(site.to_owned()));
                }
                let values = factors.delta(site, inputs)?;
                let delta = Delta { values: &values, rank: factors.rank(), shift: factors.shift() };
                (run(Some(delta))?, Some(values))
            }
            Adaptation::Deltas(sites) if sites.contains_key(site) => {
                let SiteDeltas { rank, shift, deltas } = &sites[site];
                let values = match first {
                    None => *deltas,
                    // Too few are refused as a shape.
                    Some(first) => {
                        let count = inputs.len() / matrix.d_in().max(1) * matrix.d_out();
                        deltas.get(first * matrix.d_out()..).and_then(|rest| rest.get(..count)).unwrap_or_default()
                    }
                };
                (run(Some(Delta { values, rank: *rank, shift: *shift }))?, Some(Vec::new()))
            }
            _ => (run(None)?, None),
        })
    }

    /// Notes what an adapted site saw and added.
    fn record(&mut self, site: &str, inputs: Vec<i32>, deltas: Option<Vec<i128>>) -> Result<(), PassError> {
        let Some(deltas) = deltas else { return Ok(()) };
        if self.records.iter().any(|record| record.site == site) {
            return Err(PassError::Twice(site.to_owned()));
        }
        self.records.push(SiteRecord { site: site.to_owned(), inputs, deltas });
        Ok(())
    }

    /// The head in blocks of rows, of which nothing is kept but what is wanted.
    fn read_head(
        &mut self,
        site: &str,
        weight: &str,
        x: &Activations,
        reader: &mut RowReader<'_>,
    ) -> Result<Activations, PassError> {
        let matrix = self.base.matrix(weight)?;
        let inputs = words(site, &x.entries)?;
        let (mut deltas, width) = (None::<Vec<i128>>, x.features.max(1));
        for (block, rows) in inputs.chunks(HEAD_ROWS * width).enumerate() {
            let first = block * HEAD_ROWS;
            let (logits, added) = self.outputs(site, matrix, rows, Some(first), None)?;
            if let Some(added) = added {
                deltas.get_or_insert_default().extend(added);
            }
            for (row, logits) in (first..).zip(logits.chunks_exact(matrix.d_out().max(1))) {
                reader(row, LogitsRow { site, logits })?;
            }
        }
        self.record(site, inputs, deltas)?;
        Ok(Activations::new(site, 0, Vec::new()))
    }
}

/// The `eps` of a norm as an integer.
fn fixed_eps(site: &str, eps: f64) -> Result<i64, PassError> {
    grid::round(eps, EPS_BITS, i64::MAX).map_err(|error| PassError::Grid { name: format!("eps of {site}"), error })
}

impl Ops for Fixed<'_> {
    type Value = Activations;
    type Error = PassError;

    fn embed(&mut self, site: &str, _: TableShape, tokens: &Tokens) -> Result<Activations, PassError> {
        self.place = PassLayout::of(tokens);
        let entries = self.base.embedded(site, tokens.ids())?;
        Ok(Activations::new(site, tokens.ids().len(), entries))
    }

    fn add_positions(&mut self, site: &str, _: usize, x: &Activations) -> Result<Activations, PassError> {
        let entries = self.base.positioned(site, &self.place.positions)?;
        Ok(Activations::new(site, x.rows, add(site, &x.entries, &entries)?))
    }

    fn linear(&mut self, site: &str, _: usize, bias: Bias, x: &Activations) -> Result<Activations, PassError> {
        self.project(site, (site, bias), x, None)
    }

    fn linear_rope(
        &mut self,
        site: &str,
        _: usize,
        bias: Bias,
        x: &Activations,
        rope: &Rope,
    ) -> Result<Activations, PassError> {
        let rotations = self.place.rotations(site, rope)?;
        self.project(site, (site, bias), x, Some(&rotations))
    }

    fn rms_norm(&mut self, site: &str, x: &Activations, eps: f64) -> Result<Activations, PassError> {
        let entries = rms_norm(site, self.base.norm(site)?, fixed_eps(site, eps)?, &x.entries)?;
        Ok(Activations::new(site, x.rows, entries))
    }

    fn norm_rope(&mut self, site: &str, x: &Activations, eps: f64, rope: &Rope) -> Result<Activations, PassError> {
        let rotations = self.place.rotations(site, rope)?;
        let norm = self.base.norm(site)?;
        let heads = x.features / norm.features();
        let entries = norm_rope(site, norm, fixed_eps(site, eps)?, &x.entries, heads, &rotations)?;
        Ok(Activations::new(site, x.rows, entries))
    }

    fn layer_norm(&mut self, site: &str, x: &Activations, eps: f64) -> Result<Activations, PassError> {
        let entries = layer_norm(site, self.base.norm(site)?, fixed_eps(site, eps)?, &x.entries)?;
        Ok(Activations::new(site, x.rows, entries))
    }

    fn part(&mut self, x: &Activations, features: Range<usize>) -> Result<Activations, PassError> {
        if features.end > x.features {
            return Err(PassError::Parts { site: x.site.clone(), features: x.features, end: features.end });
        }
        let rows = x.entries.chunks_exact(x.features);
        let entries = rows.flat_map(|row| &row[features.clone()]).copied().collect();
        Ok(Activations::new(&x.site, x.rows, entries))
    }

    fn rope(&mut self, x: &Activations, rope: &Rope) -> Result<Activations, PassError> {
        let rotations = self.place.rotations(&x.site, rope)?;
        let entries = rope::rotate(&x.site, x.features, &words(&x.site, &x.entries)?, &rotations)?;
        Ok(Activations::new(&x.site, x.rows, entries))
    }

    fn attention(
        &mut self,
        site: &str,
        q: &Activations,
        k: &Activations,
        v: &Activations,
        heads: Heads,
        window: Option<usize>,
    ) -> Result<Activations, PassError> {
        self.place.within(site, window)?;
        let heads = attention::HeadCounts { query: heads.query, key_value: heads.key_value, dim: heads.dim };
        let words = |value: &Activations| words(&value.site, &value.entries);
        let (q_words, k_words, v_words) = (words(q)?, words(k)?, words(v)?);
        let mut entries = Vec::with_capacity(q_words.len());
        for Segment { tokens, after } in &self.place.segments {
            self.in_time()?;
            let seen = |words: &[i32], width: usize| -> Vec<i32> {
                [after, tokens]
                    .into_iter()
                    .flat_map(|rows| &words[rows.start * width..rows.end * width])
                    .copied()
                    .collect()
            };
            let (q_seen, k_seen, v_seen) =
                (seen(&q_words, q.features), seen(&k_words, k.features), seen(&v_words, v.features));
            let all = attention(site, heads, &q_seen, &k_seen, &v_seen)?;
            entries.extend(&all[after.len() * q.features..]);
        }
        Ok(Activations::new(site, q.rows, entries))
    }

    fn gelu(&mut self, x: &Activations) -> Result<Activations, PassError> {
        Ok(Activations::new(&x.site, x.rows, gelu(&words(&x.site, &x.entries)?)))
    }

    fn swiglu(&mut self, gate: &Activations, up: &Activations) -> Result<Activations, PassError> {
        let entries = swiglu(&gate.site, &words(&gate.site, &gate.entries)?, &words(&up.site, &up.entries)?)?;
        Ok(Activations::new(&gate.site, gate.rows, entries))
    }

    fn geglu(&mut self, gate: &Activations, up: &Activations) -> Result<Activations, PassError> {
        let entries = geglu(&gate.site, &words(&gate.site, &gate.entries)?, &words(&up.site, &up.entries)?)?;
        Ok(Activations::new(&gate.site, gate.rows, entries))
    }

    fn add(&mut self, x: &Activations, y: &Activations) -> Result<Activations, PassError> {
        Ok(Activations::new(&y.site, x.rows, add(&y.site, &x.entries, &y.entries)?))
    }

    fn select(&mut self, x: &Activations, rows: &[usize]) -> Result<Activations, PassError> {
        let mut entries = Vec::with_capacity(rows.len() * x.features);
        for &row in rows {
            if row >= x.rows {
                return Err(PassError::Row(row));
            }
            entries.extend(&x.entries[row * x.features..][..x.features]);
        }
        Ok(Activations::new(&x.site, rows.len(), entries))
    }

    fn convolve(
        &mut self,
        site: &str,
        _: usize,
        bias: Bias,
        x: Nodes<'_, Activations>,
        over: &Arc<Propagation>,
    ) -> Result<Activations, PassError> {
        let given;
        let x = match x {
            Nodes::Value(x) => x,
            Nodes::Features(features) => {
                given = integers(site, features)?;
                &given
            }
        };
        let messages = words(&x.site, &x.entries)?;
        let coefficients = over.coefficients();
        let over = graph::SparseRows {
            starts: coefficients.starts(),
            senders: coefficients.columns(),
            coefficients: coefficients.values(),
        };
        let rows = coefficients.rows();
        let gathered = Activations::new(site, rows, aggregate(site, over, &messages, x.features)?);
        self.project(site, (site, bias), &gathered, None)
    }

    fn attend_neighbours(
        &mut self,
        site: &str,
        _: &Activations,
        _: usize,
        _: &Arc<Propagation>,
    ) -> Result<Activations, PassError> {
        Err(PassError::Neighbours(site.to_owned()))
    }

    fn relu(&mut self, x: &Activations) -> Result<Activations, PassError> {
        Ok(Activations::new(&x.site, x.rows, relu(&x.entries)))
    }

    fn dropout(&mut self, x: &Activations) -> Result<Activations, PassError> {
        Ok(x.clone())
    }

    fn head(&mut self, site: &str, weight: &str, _: usize, x: &Activations) -> Result<Activations, PassError> {
        match self.reader.take() {
            None => self.project(site, (weight, Bias::Absent), x, None),
            Some(reader) => self.read_head(site, weight, x, reader),
        }
    }
}

// Networks and circuits mean the same by a coefficient.
const _: () = assert!(graph::COEFFICIENT_BITS == ftk_networks::ops::graph::COEFFICIENT_BITS);

/// Features of nodes as activations, each rounded once.
fn integers(site: &str, features: &Features) -> Result<Activations, PassError> {
    let mut entries = Vec::with_capacity(features.rows() * features.width());
    for row in 0..features.rows() {
        let off_grid = |error| PassError::Grid { name: format!("features that enter {site}"), error };
        entries
            .extend(grid::fixed_32(&features.row(row), ACTIVATION_BITS).map_err(off_grid)?.into_iter().map(i64::from));
    }
    Ok(Activations::new(site, features.rows(), entries))
}
