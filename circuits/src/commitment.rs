//! Pedersen vector commitments to adapter factors, their canonical encoding, and their openings.
//!
//! `STATEMENT.md`, section 3. A commitment says nothing about the size of its entries before
//! [`crate::verify_registration`] has accepted it.

use std::collections::HashSet;

use ff::{Field, PrimeField};
use group::{CurveAffine, GroupEncoding};
use pasta_curves::{EqAffine, Fp};
use rayon::prelude::*;

use crate::bytes::{EncodingError, Reader, header};
use crate::columns::{Committed, Randomness, column_points};
use crate::entropy::fresh_generator;
use crate::error::{CheckFailed, ProveError};
use crate::field::signed;
use crate::hash::{Absorb, Digest, Tag};
use crate::key::{CommitmentKey, UNUSABLE, point_from_bytes, scalar_from_bytes};
use crate::layout::{LEAST_K, Layout, MAX_K, MAX_RANK, MAX_SITES, SiteShape, required_columns, useful_rows};

/// What a commitment begins with, and one that names a transcript; both have one length.
const TAG: &[u8; 12] = b"ftk adapter\0";
const TRAINED_TAG: &[u8; 12] = b"ftk trained\0";
/// What the commitment to a stack begins with.
const STACKED_TAG: &[u8; 12] = b"ftk stacked\0";
const OPENING_TAG: &[u8] = b"ftk opening\0";
/// Least bytes of an encoded site: an empty name would be the shortest.
const MIN_SITE_BYTES: usize = 2 + 3 * 4 + 2;
const POINT_BYTES: usize = 32;

/// The two factors of one site; the weights are `a * 2^-shift_a` and `b * 2^-shift_b`. They are the adapter, and may be
/// secret: `Debug` shows their shape alone.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteFactors {
    /// Name, dimensions, scales.
    pub shape: SiteShape,
    /// A, `(rank, d_in)` row-major.
    pub a: Vec<i16>,
    /// B, `(d_out, rank)` row-major.
    pub b: Vec<i16>,
}

impl std::fmt::Debug for SiteFactors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SiteFactors").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// A hiding commitment to all factors of an adapter, with everything about it that is public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterCommitment {
    base: Digest,
    transcript: Option<Digest>,
    /// Digests of the commitments that it is a stack of; none of one that was made from factors.
    parts: Vec<Digest>,
    shapes: Vec<SiteShape>,
    pub(crate) layout: Layout,
    /// One per column, strip by strip and lane by lane.
    pub(crate) points: Vec<EqAffine>,
}

/// The secret that opens an [`AdapterCommitment`]: one blind per column.
#[derive(Clone, PartialEq, Eq)]
pub struct Opening {
    pub(crate) blinds: Vec<Fp>,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opening of {} columns", self.blinds.len())
    }
}

/// A layer of the base model that an adapter may adapt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSite {
    /// The layer's name.
    pub name: String,
    /// Input dimension.
    pub d_in: u32,
    /// Output dimension.
    pub d_out: u32,
}

impl AdapterCommitment {
    /// Base and sites of a commitment that has not been made, for plans that tell what a proof would take. It commits to
    /// nothing: all its points are one, so that nobody decodes it, and nothing is proved of it.
    ///
    /// # Errors
    /// Shapes that cannot be committed to.
    pub fn outline(base: Digest, shapes: Vec<SiteShape>) -> Result<Self, EncodingError> {
        let columns = required_columns(&shapes)?;
        let layout = Layout::new(&shapes);
        let points = vec![EqAffine::generator(); columns];
        Ok(Self { base, transcript: None, parts: Vec::new(), shapes, layout, points })
    }

    /// Digest of the base model the adapter is for.
    pub fn base(&self) -> Digest {
        self.base
    }

    /// Root of the training transcript that the adapter is said to be the result of. Whoever committed says so; no proof
    /// of this crate does.
    pub fn transcript(&self) -> Option<Digest> {
        self.transcript
    }

    /// The same commitment, said to be to the result of the training whose transcript has this root: a commitment of
    /// another digest, under the same opening. On a stack it changes nothing: its parts name theirs.
    #[must_use]
    pub fn of_transcript(self, root: Digest) -> Self {
        Self { transcript: self.parts.is_empty().then_some(root), ..self }
    }

    /// Digests of the commitments that this one is a stack of ([`crate::stack`]); empty if it is none.
    pub fn parts(&self) -> &[Digest] {
        &self.parts
    }

    /// A stack of parts with these digests, in columns of the layout's length.
    pub(crate) fn of_parts(
        base: Digest,
        parts: Vec<Digest>,
        shapes: Vec<SiteShape>,
        layout: Layout,
        points: Vec<EqAffine>,
    ) -> Self {
        Self { base, transcript: None, parts, shapes, layout, points }
    }

    /// The sites, in canonical order.
    pub fn shapes(&self) -> &[SiteShape] {
        &self.shapes
    }

    /// The k of the commitment key it needs.
    pub fn k(&self) -> u32 {
        self.layout.k
    }

    /// How many columns hold the factors, each with its point.
    pub fn columns(&self) -> usize {
        self.points.len()
    }

    /// `C_adapter`.
    pub fn digest(&self) -> Digest {
        Absorb::new(Tag::Commitment).bytes(&self.encode()).finish()
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = header(match (self.parts.as_slice(), self.transcript) {
            ([_, ..], _) => STACKED_TAG,
            (_, Some(_)) => TRAINED_TAG,
            _ => TAG,
        });
        bytes.extend(self.base.0);
        bytes.extend(self.transcript.iter().flat_map(|root| root.0));
        if !self.parts.is_empty() {
            bytes.push(self.layout.k as u8);
            bytes.extend((self.parts.len() as u32).to_le_bytes());
            bytes.extend(self.parts.iter().flat_map(|part| part.0));
        }
        bytes.extend((self.shapes.len() as u32).to_le_bytes());
        for shape in &self.shapes {
            shape.encode(&mut bytes);
        }
        bytes.extend(self.points.iter().flat_map(|point| point.to_bytes()));
        bytes
    }

    /// Reads [`AdapterCommitment::encode`]'s bytes.
    ///
    /// # Errors
    /// [`CheckFailed::CommitmentEncoding`] for anything but the canonical encoding of a well-formed commitment.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckFailed> {
        Self::parse(bytes).map_err(CheckFailed::CommitmentEncoding)
    }

    fn parse(bytes: &[u8]) -> Result<Self, EncodingError> {
        let mut reader = Reader::new(bytes);
        let tag = [TRAINED_TAG, STACKED_TAG].into_iter().find(|tag| bytes.starts_with(*tag)).unwrap_or(TAG);
        reader.header(tag)?;
        let base = Digest(reader.array()?);
        let transcript = if tag == TRAINED_TAG { Some(Digest(reader.array()?)) } else { None };
        let (mut length, mut parts) = (None, Vec::new());
        if tag == STACKED_TAG {
            let k = u32::from(reader.u8()?);
            if !(LEAST_K..=MAX_K).contains(&k) {
                return Err(EncodingError::Bounds { what: "k", value: k.into() });
            }
            let count = reader.count("parts", MAX_RANK, POINT_BYTES)?;
            if count < 2 {
                return Err(EncodingError::Bounds { what: "parts", value: count as u64 });
            }
            parts = (0..count).map(|_| reader.array().map(Digest)).collect::<Result<Vec<_>, _>>()?;
            length = Some(k);
        }
        let sites = reader.count("sites", MAX_SITES, MIN_SITE_BYTES)?;
        if sites == 0 {
            return Err(EncodingError::Bounds { what: "sites", value: 0 });
        }
        let shapes = (0..sites).map(|_| SiteShape::decode(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        check_names(&shapes)?;
        let layout = length.map_or_else(|| Layout::new(&shapes), |k| Layout::with(&shapes, k));
        let points = decode_items(&mut reader, layout.columns(), |index, bytes| {
            let point = point_from_bytes(bytes).ok_or(EncodingError::Point(index))?;
            if bool::from(point.is_identity()) { Err(EncodingError::IdentityPoint(index)) } else { Ok(point) }
        })?;
        let distinct: HashSet<[u8; POINT_BYTES]> = points.iter().map(GroupEncoding::to_bytes).collect();
        if distinct.len() != points.len() {
            return Err(EncodingError::RepeatedPoint);
        }
        Ok(Self { base, transcript, parts, shapes, layout, points })
    }

    /// Checks that the sites are layers of the model, in the model's order, with its dimensions.
    ///
    /// # Errors
    /// [`CheckFailed::Coverage`] with the first site that is not.
    pub fn fits(&self, model: &[ModelSite]) -> Result<(), CheckFailed> {
        let mut rest = model.iter();
        for shape in &self.shapes {
            let site = rest.find(|site| site.name == shape.name).ok_or_else(|| {
                CheckFailed::Coverage(format!("site is not in the model or out of order: {}", shape.name))
            })?;
            if (site.d_in, site.d_out) != (shape.d_in, shape.d_out) {
                return Err(CheckFailed::Coverage(format!("site has other dimensions in the model: {}", shape.name)));
            }
        }
        Ok(())
    }

    /// Refuses factors of other sites, shapes or scales, and openings of another number of columns.
    pub(crate) fn check_secret(&self, opening: &Opening, factors: &[SiteFactors]) -> Result<(), ProveError> {
        let shapes = shapes_of(factors)?;
        for site in 0..shapes.len().max(self.shapes.len()) {
            let (given, committed) = (shapes.get(site), self.shapes.get(site));
            if let Some(shape) = given.or(committed).filter(|_| given != committed) {
                return Err(ProveError::Factors(shape.name.clone()));
            }
        }
        if opening.blinds.len() == self.points.len() { Ok(()) } else { Err(ProveError::Opening) }
    }

    /// Its columns, as a prover knows them.
    pub(crate) fn committed(&self, opening: &Opening) -> impl Iterator<Item = Committed> {
        self.points.iter().zip(&opening.blinds).map(|(point, blind)| Committed {
            point: *point,
            randomness: Randomness { unusable: [Fp::ZERO; UNUSABLE], blind: *blind },
        })
    }

    /// Refuses a key of another size.
    pub(crate) fn check_key(&self, key: &CommitmentKey) -> Result<(), CheckFailed> {
        if key.k() == self.layout.k { Ok(()) } else { Err(CheckFailed::Key(self.layout.k)) }
    }
}

impl Opening {
    /// The secret bytes; whoever has them and the adapter can prove with it.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = header(OPENING_TAG);
        bytes.extend((self.blinds.len() as u32).to_le_bytes());
        bytes.extend(self.blinds.iter().flat_map(PrimeField::to_repr));
        bytes
    }

    /// Reads [`Opening::encode`]'s bytes.
    ///
    /// # Errors
    /// [`CheckFailed::OpeningEncoding`] for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckFailed> {
        let parse = || {
            let mut reader = Reader::new(bytes);
            reader.header(OPENING_TAG)?;
            let count = reader.count("columns", u32::MAX, 32)?;
            let blinds = decode_items(&mut reader, count, |index, bytes| {
                scalar_from_bytes(bytes).ok_or(EncodingError::Scalar(index))
            })?;
            Ok(Self { blinds })
        };
        parse().map_err(CheckFailed::OpeningEncoding)
    }
}

/// Exactly `count` items of 32 bytes until the end, decoded on all cores.
fn decode_items<T: Send>(
    reader: &mut Reader<'_>,
    count: usize,
    item: impl Fn(usize, &[u8; POINT_BYTES]) -> Result<T, EncodingError> + Sync,
) -> Result<Vec<T>, EncodingError> {
    let bytes = reader.take(count.checked_mul(POINT_BYTES).ok_or(EncodingError::Truncated)?)?;
    reader.end()?;
    let (chunks, _) = bytes.as_chunks::<POINT_BYTES>();
    chunks.par_iter().enumerate().map(|(index, chunk)| item(index, chunk)).collect()
}

fn check_names(shapes: &[SiteShape]) -> Result<(), EncodingError> {
    let mut seen = HashSet::new();
    match shapes.iter().find(|shape| !seen.insert(&shape.name)) {
        Some(shape) => Err(EncodingError::RepeatedSite(shape.name.clone())),
        None => Ok(()),
    }
}

/// Commits to an adapter with fresh blinds; the order of sites is the network's and part of the commitment.
///
/// # Errors
/// If shapes are out of bounds or repeated, factors have other sizes, or `key` is not for [`crate::required_k`].
pub fn commit(
    key: &CommitmentKey,
    base: Digest,
    factors: &[SiteFactors],
) -> Result<(AdapterCommitment, Opening), ProveError> {
    let shapes = shapes_of(factors)?;
    let layout = Layout::new(&shapes);
    if layout.k != key.k() {
        return Err(ProveError::Public(CheckFailed::Key(layout.k)));
    }
    commit_columns(key, base, shapes, &arrange(&layout, factors))
}

/// Commits to columns as [`arrange`] makes them.
pub(crate) fn commit_columns(
    key: &CommitmentKey,
    base: Digest,
    shapes: Vec<SiteShape>,
    columns: &[Vec<Fp>],
) -> Result<(AdapterCommitment, Opening), ProveError> {
    let layout = Layout::new(&shapes);
    let mut generator = fresh_generator()?;
    let blinds: Vec<_> = columns.iter().map(|_| Fp::random(&mut generator)).collect();
    let points = column_points(key, columns, &blinds);
    Ok((AdapterCommitment { base, transcript: None, parts: Vec::new(), shapes, layout, points }, Opening { blinds }))
}

/// Checks that a commitment is to these factors, with this opening.
///
/// # Errors
/// [`CheckFailed::Coverage`] if the shapes differ, [`CheckFailed::Opening`] with the first column that differs.
pub fn opens(
    key: &CommitmentKey,
    commitment: &AdapterCommitment,
    opening: &Opening,
    factors: &[SiteFactors],
) -> Result<(), CheckFailed> {
    commitment.check_key(key)?;
    let shapes = shapes_of(factors).map_err(|error| CheckFailed::Coverage(error.to_string()))?;
    if shapes != commitment.shapes {
        return Err(CheckFailed::Coverage("the adapter has other sites, shapes or scales".into()));
    }
    if opening.blinds.len() != commitment.points.len() {
        return Err(CheckFailed::Opening(opening.blinds.len().min(commitment.points.len())));
    }
    let points = column_points(key, &arrange(&commitment.layout, factors), &opening.blinds);
    match points.iter().zip(&commitment.points).position(|(ours, theirs)| ours != theirs) {
        Some(column) => Err(CheckFailed::Opening(column)),
        None => Ok(()),
    }
}

/// Shapes of factors whose sizes and names are in order.
fn shapes_of(factors: &[SiteFactors]) -> Result<Vec<SiteShape>, ProveError> {
    if factors.is_empty() || factors.len() > MAX_SITES as usize {
        return Err(ProveError::Sites(factors.len()));
    }
    let mut shapes = Vec::with_capacity(factors.len());
    for site in factors {
        let shape = &site.shape;
        shape.check()?;
        let (rank, d_in, d_out) = (shape.rank as usize, shape.d_in as usize, shape.d_out as usize);
        if site.a.len() != rank * d_in || site.b.len() != d_out * rank {
            return Err(ProveError::Factors(shape.name.clone()));
        }
        shapes.push(shape.clone());
    }
    check_names(&shapes)?;
    Ok(shapes)
}

/// The columns of the commitment, `(columns, useful rows)`.
pub(crate) fn arrange(layout: &Layout, factors: &[SiteFactors]) -> Vec<Vec<Fp>> {
    let mut columns = vec![vec![Fp::ZERO; useful_rows(layout.k)]; layout.columns()];
    for (site, start) in factors.iter().zip(&layout.starts) {
        let (rank, d_in) = (site.shape.rank as usize, site.shape.d_in as usize);
        let mut put = |lane: usize, entry: usize, value: i16| {
            let (strip, row) = layout.cell(start + entry);
            columns[strip * layout.lanes + lane][row] = signed(value.into());
        };
        for lane in 0..rank {
            for (i, value) in site.a[lane * d_in..(lane + 1) * d_in].iter().enumerate() {
                put(lane, i, *value);
            }
            for (j, row) in site.b.chunks_exact(rank).enumerate() {
                put(lane, d_in + j, row[lane]);
            }
        }
    }
    columns
}
