//! Writes a plan down, operation by operation.

mod stated;

use std::sync::Arc;

use super::arrangement::{Adapted, Arrangement, CellSpan, Class, LIMB, LookupLeaf, Space, Tensor, WORD_LIMBS};
use super::equations::SealedOperation;
use super::operations::attention::{Attend, head_class, pair_class};
use super::operations::gate::{self, Gate};
use super::operations::graph::{Aggregate, Messages, Rectify, rectified_class};
use super::operations::linear::{LinearOperation, Project, Rounded};
use super::operations::norm::{Normalise, Normalised, root_class, whole_limbs};
use super::operations::rope::{ProjectRotated, Rotate};
use super::plan::SealedPlan;
use super::tables::LookupTable;
use crate::fixed::FixedError;
use crate::fixed::attention;
use crate::fixed::gate::GateFunction;
use crate::fixed::graph::{COEFFICIENT_BITS, SparseRows};
use crate::fixed::linear::{MAX_SHIFT, Matrix};
use crate::fixed::norm::Norm;
use crate::fixed::rope::{ROTATION_BITS, Rotations};
use crate::hash::{Absorb, Tag};
use crate::{AdapterCommitment, SiteShape};

/// Writes down what a network does with rows, of which nothing is known here but shapes.
///
/// The same calls make the same plan: the prover's and the verifier's must be made alike.
pub struct Builder {
    spaces: Vec<usize>,
    groups: Vec<(Space, Class, usize)>,
    operations: Vec<Box<dyn SealedOperation>>,
    adapter: Adapted,
    used: Vec<bool>,
    /// Everything that is public of what was written down, but the base's weights.
    record: Absorb,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Builder of {} operations", self.operations.len())
    }
}

impl Builder {
    /// For an adapter of these shapes.
    pub fn new(adapter: &AdapterCommitment) -> Self {
        let (shapes, layout) = (adapter.shapes().to_vec(), adapter.layout.clone());
        let used = vec![false; shapes.len()];
        Self {
            spaces: Vec::new(),
            groups: Vec::new(),
            operations: Vec::new(),
            adapter: Adapted { shapes, layout },
            used,
            record: Absorb::new(Tag::SealedPlan),
        }
    }

    /// So many rows.
    pub fn space(&mut self, rows: usize) -> Space {
        let known = self.spaces.iter().position(|own| *own == rows);
        Space(known.unwrap_or_else(|| {
            self.spaces.push(rows);
            self.spaces.len() - 1
        }))
    }

    /// Rows of a tensor.
    pub fn rows_of(&self, x: &Tensor) -> usize {
        self.rows(x.space)
    }

    fn rows(&self, space: Space) -> usize {
        self.spaces[space.0]
    }

    fn span(&mut self, space: Space, class: Class, width: usize) -> CellSpan {
        let known = self.groups.iter().position(|(own, other, _)| (*own, other) == (space, &class));
        let group = known.unwrap_or_else(|| {
            self.groups.push((space, class, 0));
            self.groups.len() - 1
        });
        let length = &mut self.groups[group].2;
        *length += width;
        CellSpan { group, offset: *length - width, width, space }
    }

    fn rounded(&mut self, space: Space, width: usize, least: u32) -> Rounded {
        let shift = whole_limbs(least);
        let rest = (shift / LIMB) as usize;
        let leaves = LookupLeaf::limbs(LookupTable::Signed, 0, WORD_LIMBS).chain(LookupLeaf::limbs(
            LookupTable::Unsigned,
            WORD_LIMBS,
            rest,
        ));
        let class = Class { planes: WORD_LIMBS + rest, leaves: leaves.collect() };
        Rounded { span: self.span(space, class, width), shift }
    }

    /// Notes an operation, of what kind, where, and what is public of it: the numbers are gone through twice, and not kept,
    /// since there may be as many as pairs of rows.
    fn note(&mut self, what: &str, site: &str, numbers: impl IntoIterator<Item = i64, IntoIter: Clone>) {
        let numbers = numbers.into_iter();
        let record = std::mem::replace(&mut self.record, Absorb::new(Tag::SealedPlan));
        let lengths = [what.len(), site.len(), size_of::<i64>() * numbers.clone().count()];
        let record = lengths.into_iter().fold(record, |record, length| record.bytes(&(length as u64).to_le_bytes()));
        self.record = record.bytes(what.as_bytes()).bytes(site.as_bytes()).integers(numbers);
    }

    /// Notes an operation on a tensor.
    fn note_of(&mut self, what: &str, site: &str, x: &Tensor, numbers: impl IntoIterator<Item = i64, IntoIter: Clone>) {
        let own = [self.rows(x.space) as i64, x.width as i64, self.operations.len() as i64];
        self.note(what, site, own.into_iter().chain(numbers));
    }

    fn add(&mut self, operation: impl SealedOperation + 'static) {
        self.operations.push(Box::new(operation));
    }

    /// Numbers that everybody knows, row by row.
    ///
    /// # Panics
    /// If they are not rows of `width`.
    pub fn public(&mut self, space: Space, width: usize, values: Vec<i64>) -> Tensor {
        assert_eq!(values.len(), self.rows(space) * width, "values fill the rows");
        self.note("public", "", [width as i64].into_iter().chain(values.iter().copied()));
        Tensor::public(space, width, values)
    }

    fn linear(
        &mut self,
        site: &str,
        matrix: Arc<Matrix>,
        x: &Tensor,
        shift: u32,
    ) -> Result<LinearOperation, FixedError> {
        let known = self.adapter.shapes.iter().zip(&self.used).any(|(shape, used)| *used && shape.name == site);
        FixedError::require(!known, "adapter", site)?;
        let adapter = self.adapter_of(site, &matrix)?;
        self.noted_linear(site, matrix, x, shift, adapter)
    }

    /// Number and shape of the adapter of a site, which has these weights.
    fn adapter_of(&mut self, site: &str, matrix: &Matrix) -> Result<Option<(usize, SiteShape)>, FixedError> {
        let Some(number) = self.adapter.shapes.iter().position(|shape| shape.name == site) else { return Ok(None) };
        let shape = self.adapter.shapes[number].clone();
        if u32::from(shape.shift_a.max(shape.shift_b)) > MAX_SHIFT {
            return Err(FixedError::Parameter { what: "adapter shift", site: site.to_owned() });
        }
        let fits = (shape.d_in as usize, shape.d_out as usize) == (matrix.d_in(), matrix.d_out());
        FixedError::require(fits, "adapter", site)?;
        self.used[number] = true;
        Ok(Some((number, shape)))
    }

    fn noted_linear(
        &mut self,
        site: &str,
        matrix: Arc<Matrix>,
        x: &Tensor,
        shift: u32,
        adapter: Option<(usize, SiteShape)>,
    ) -> Result<LinearOperation, FixedError> {
        self.note_of("linear", site, x, [matrix.d_out() as i64, shift.into()]);
        FixedError::require(matrix.d_in() == x.width, "input", site)?;
        Ok(LinearOperation { site: site.to_owned(), matrix, input: x.clone(), adapter, listed: None, shift })
    }

    fn shape_of(&self, site: &str) -> Option<&SiteShape> {
        self.adapter.shapes.iter().find(|shape| shape.name == site)
    }

    /// As [`crate::fixed::linear::linear`], with the adapter's delta where the site has one.
    ///
    /// # Errors
    /// [`FixedError::Shape`] of an input that does not fit, or of a site that is met twice.
    pub fn project(&mut self, site: &str, matrix: Arc<Matrix>, x: &Tensor) -> Result<Tensor, FixedError> {
        let least = LinearOperation::least_shift(&matrix, self.shape_of(site));
        let linear = self.linear(site, matrix, x, whole_limbs(least))?;
        let rounded = self.rounded(x.space, linear.width(), least);
        let out = rounded.out();
        self.add(Project { linear, rounded });
        Ok(out)
    }

    /// As [`crate::fixed::linear::linear_rope`].
    ///
    /// # Errors
    /// As [`Builder::project`].
    pub fn project_rotated(
        &mut self,
        site: &str,
        matrix: Arc<Matrix>,
        x: &Tensor,
        rotations: Arc<Rotations>,
    ) -> Result<Tensor, FixedError> {
        let fits = matrix.d_out().is_multiple_of(rotations.dim) && rotations.positions() >= self.rows(x.space);
        FixedError::require(fits, "rotation table", site)?;
        let least = LinearOperation::least_shift(&matrix, self.shape_of(site)) + ROTATION_BITS;
        let linear = self.linear(site, matrix, x, whole_limbs(least) - ROTATION_BITS)?;
        let rounded = self.rounded(x.space, linear.width(), least);
        let out = rounded.out();
        self.add(ProjectRotated { linear: Arc::new(linear), rotations, rounded });
        Ok(out)
    }

    /// As [`crate::fixed::rope::rotate`].
    ///
    /// # Errors
    /// [`FixedError::Shape`].
    pub fn rotate(&mut self, site: &str, x: &Tensor, rotations: Arc<Rotations>) -> Result<Tensor, FixedError> {
        let fits = x.width.is_multiple_of(rotations.dim) && rotations.positions() >= self.rows(x.space);
        FixedError::require(fits, "rotation table", site)?;
        self.note_of("rotate", site, x, [rotations.dim as i64]);
        let rounded = self.rounded(x.space, x.width, ROTATION_BITS);
        let out = rounded.out();
        self.add(Rotate { site: site.to_owned(), input: x.clone(), rotations, rounded });
        Ok(out)
    }

    fn normalise(
        &mut self,
        site: &str,
        kind: Normalised,
        norm: Arc<Norm>,
        eps: i64,
        x: &Tensor,
    ) -> Result<Tensor, FixedError> {
        let n = norm.features();
        FixedError::require(x.width.is_multiple_of(n), "norm weight", site)?;
        if eps <= 0 {
            return Err(FixedError::Parameter { what: "norm eps", site: site.to_owned() });
        }
        let least = Normalise::least_shift(&norm, &kind);
        self.note_of("norm", site, x, [n as i64, eps, least.into()]);
        let root = self.span(x.space, root_class(), x.width / n);
        let rounded = self.rounded(x.space, x.width, least);
        let out = rounded.out();
        self.add(Normalise { site: site.to_owned(), kind, norm, eps, input: x.clone(), root, rounded });
        Ok(out)
    }

    /// As [`crate::fixed::norm::rms_norm`], of whole rows.
    ///
    /// # Errors
    /// [`FixedError::Shape`], [`FixedError::Parameter`].
    pub fn rms_norm(&mut self, site: &str, norm: Arc<Norm>, eps: i64, x: &Tensor) -> Result<Tensor, FixedError> {
        FixedError::require(x.width == norm.features(), "norm weight", site)?;
        self.normalise(site, Normalised::Rows, norm, eps, x)
    }

    /// As [`crate::fixed::norm::layer_norm`], of whole rows.
    ///
    /// # Errors
    /// [`FixedError::Shape`], [`FixedError::Parameter`].
    pub fn layer_norm(&mut self, site: &str, norm: Arc<Norm>, eps: i64, x: &Tensor) -> Result<Tensor, FixedError> {
        FixedError::require(x.width == norm.features() && norm.bias().is_some(), "norm weight", site)?;
        self.normalise(site, Normalised::Layer, norm, eps, x)
    }

    /// As [`crate::fixed::norm::norm_rope`].
    ///
    /// # Errors
    /// [`FixedError::Shape`], [`FixedError::Parameter`].
    pub fn norm_rotated(
        &mut self,
        site: &str,
        norm: Arc<Norm>,
        eps: i64,
        x: &Tensor,
        rotations: Arc<Rotations>,
    ) -> Result<Tensor, FixedError> {
        let fits = rotations.dim == norm.features() && rotations.positions() >= self.rows(x.space);
        FixedError::require(fits, "rotation table", site)?;
        self.normalise(site, Normalised::Heads(rotations), norm, eps, x)
    }

    /// As [`attention::attention`], of rows of which each sees some: `sees` says so of each pair, row by row.
    ///
    /// # Errors
    /// [`FixedError::Shape`], also of more rows, heads or features than there may be; a row that sees none is one of `mask`.
    pub fn attention(
        &mut self,
        site: &str,
        heads: attention::HeadCounts,
        sees: Arc<[bool]>,
        [q, k, v]: [&Tensor; 3],
    ) -> Result<Tensor, FixedError> {
        let attention::HeadCounts { query, key_value, dim } = heads;
        heads.check(site)?;
        FixedError::require(q.width == query * dim, "query", site)?;
        FixedError::require(k.width == key_value * dim && k.space == q.space, "key", site)?;
        FixedError::require(v.width == key_value * dim && v.space == q.space, "value", site)?;
        let rows = self.rows(q.space);
        attention::HeadCounts::check_rows(site, rows)?;
        let some = sees.len() == rows * rows && sees.chunks_exact(rows.max(1)).all(|row| row.contains(&true));
        FixedError::require(some, "mask", site)?;
        let numbers = [query, key_value, dim].map(|number| number as i64);
        self.note_of("attention", site, q, numbers.into_iter().chain(sees.iter().map(|sees| i64::from(*sees))));
        let pairs = self.span(q.space, pair_class(), query * rows);
        let of_heads = self.span(q.space, head_class(), query);
        let rounded = self.rounded(q.space, q.width, attention::RECIPROCAL_BITS);
        let out = rounded.out();
        self.add(Attend {
            site: site.to_owned(),
            heads,
            sees,
            query: q.clone(),
            key: k.clone(),
            value: v.clone(),
            pairs,
            of_heads,
            rounded,
        });
        Ok(out)
    }

    fn curve(
        &mut self,
        site: &str,
        curve: GateFunction,
        gate: &Tensor,
        up: Option<&Tensor>,
    ) -> Result<Tensor, FixedError> {
        let alike = |up: &Tensor| (up.width, up.space) == (gate.width, gate.space);
        FixedError::require(up.is_none_or(alike), "gate", site)?;
        self.note_of("curve", site, gate, [curve as i64, i64::from(up.is_some())]);
        let place = self.span(gate.space, gate::class(curve), gate.width);
        let rounded = self.rounded(gate.space, gate.width, Gate::least_shift(curve, up.is_some()));
        let out = rounded.out();
        self.add(Gate { site: site.to_owned(), curve, gate: gate.clone(), up: up.cloned(), place, rounded });
        Ok(out)
    }

    /// As [`crate::fixed::gate::swiglu`] and [`crate::fixed::gate::geglu`].
    ///
    /// # Errors
    /// [`FixedError::Shape`].
    pub fn gate(&mut self, site: &str, curve: GateFunction, gate: &Tensor, up: &Tensor) -> Result<Tensor, FixedError> {
        self.curve(site, curve, gate, Some(up))
    }

    /// As [`crate::fixed::gate::gelu`].
    ///
    /// # Errors
    /// [`FixedError::Shape`].
    pub fn gelu(&mut self, site: &str, x: &Tensor) -> Result<Tensor, FixedError> {
        self.curve(site, GateFunction::Gelu, x, None)
    }

    /// `x + y`, exactly.
    ///
    /// # Errors
    /// [`FixedError::Shape`].
    pub fn sum(&mut self, site: &str, x: &Tensor, y: &Tensor) -> Result<Tensor, FixedError> {
        FixedError::require((x.space, x.width) == (y.space, y.width), "second term", site)?;
        let public = match (&x.public, &y.public) {
            (Some(x), Some(y)) => Some(Arc::new(x.iter().zip(y.iter()).map(|(x, y)| x + y).collect())),
            (one, other) => one.clone().or_else(|| other.clone()),
        };
        self.note_of("sum", site, x, []);
        let terms = x.terms.iter().chain(&y.terms).cloned().collect();
        Ok(Tensor { terms, public, constant: x.constant + y.constant, ..*x })
    }

    /// The features of a range.
    ///
    /// # Errors
    /// [`FixedError::Shape`] where there are not so many.
    pub fn part(&mut self, site: &str, x: &Tensor, features: std::ops::Range<usize>) -> Result<Tensor, FixedError> {
        FixedError::require(features.start <= features.end && features.end <= x.width, "part", site)?;
        self.note_of("part", site, x, [features.start as i64, features.end as i64]);
        let mut part = x.clone();
        part.width = features.len();
        part.terms.iter_mut().for_each(|term| term.offset += features.start);
        part.public = x.public.as_ref().map(|public| {
            Arc::new(public.chunks_exact(x.width).flat_map(|row| &row[features.clone()]).copied().collect())
        });
        Ok(part)
    }

    /// Some rows, in a space of their own.
    ///
    /// # Errors
    /// [`FixedError::Shape`] of a row that is not there.
    pub fn select(&mut self, site: &str, x: &Tensor, rows: &[usize]) -> Result<Tensor, FixedError> {
        FixedError::require(rows.iter().all(|row| *row < self.rows(x.space)), "row", site)?;
        self.note_of("select", site, x, rows.iter().map(|row| *row as i64));
        let space = self.space(rows.len());
        let mut selected = Tensor { space, ..x.clone() };
        for term in &mut selected.terms {
            term.rows = Some(match &term.rows {
                None => rows.into(),
                Some(before) => rows.iter().map(|row| before[*row]).collect(),
            });
        }
        selected.public = x
            .public
            .as_ref()
            .map(|public| Arc::new(rows.iter().flat_map(|row| &public[row * x.width..][..x.width]).copied().collect()));
        Ok(selected)
    }

    /// As [`crate::fixed::graph::aggregate`], with receivers in a space of their own.
    ///
    /// # Errors
    /// [`FixedError::Shape`].
    pub fn aggregate(&mut self, site: &str, x: &Tensor, over: SparseRows<'_>) -> Result<Tensor, FixedError> {
        over.check(site, self.rows(x.space))?;
        let ends = over.starts.iter().map(|start| *start as i64);
        let messages = over.senders.iter().chain(over.coefficients).map(|number| i64::from(*number));
        self.note_of("aggregate", site, x, ends.chain(messages));
        let space = self.space(over.starts.len() - 1);
        let messages = Messages {
            starts: over.starts.to_vec(),
            senders: over.senders.to_vec(),
            coefficients: over.coefficients.to_vec(),
        };
        let rounded = self.rounded(space, x.width, COEFFICIENT_BITS);
        let out = rounded.out();
        self.add(Aggregate { site: site.to_owned(), input: x.clone(), messages: Arc::new(messages), rounded });
        Ok(out)
    }

    /// `max(x, 0)`
    pub fn relu(&mut self, x: &Tensor) -> Tensor {
        self.note_of("relu", "", x, []);
        let span = self.span(x.space, rectified_class(), x.width);
        let rectify = Rectify { input: x.clone(), span };
        let out = rectify.out();
        self.add(rectify);
        out
    }

    /// The plan of all of it.
    ///
    /// # Errors
    /// [`FixedError::Shape`] of the first adapted site that was not met.
    pub fn finish(self) -> Result<SealedPlan, FixedError> {
        if let Some((shape, _)) = self.adapter.shapes.iter().zip(&self.used).find(|(_, used)| !**used) {
            return Err(FixedError::Shape { what: "adapter", site: shape.name.clone() });
        }
        Ok(self.laid_out())
    }

    fn laid_out(self) -> SealedPlan {
        let arrangement = Arrangement::new(self.spaces, self.groups, self.adapter);
        SealedPlan { arrangement, operations: self.operations, digest: self.record.finish() }
    }

    /// The plan of a part of a network, whatever sites it has met.
    #[cfg(test)]
    pub(crate) fn unfinished(self) -> SealedPlan {
        self.laid_out()
    }
}
