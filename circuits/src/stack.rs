//! Stacks: the commitment to several adapters side by side, which follows from theirs without a new proof
//! (`STATEMENT.md`, section 12). Who made which part is public; what a part holds stays its maker's secret.

use std::collections::HashSet;

use ftk_kernels::grid::MAX_SHIFT as GRID_SHIFT;
use group::GroupEncoding;

use crate::bytes::{EncodingError, Reader, header};
use crate::check::{Checks, Stop, go_on, never};
use crate::commitment::{AdapterCommitment, Opening, SiteFactors};
use crate::error::CheckFailed;
use crate::hash::{Absorb, Digest, Tag};
use crate::key::CommitmentKey;
use crate::layout::{Layout, MAX_RANK, SiteShape};
use crate::registration;

const TAG: &[u8] = b"ftk parts\0";

/// A part of a stack: what its maker has published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackPart {
    /// The commitment.
    pub commitment: AdapterCommitment,
    /// Its registration.
    pub registration: Vec<u8>,
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, CheckFailed> {
    Err(CheckFailed::Stack(reason.into()))
}

/// The commitment to `sum_i 2^-halvings_i B_i A_i`: the columns of the parts side by side, lane by lane.
///
/// # Errors
/// [`CheckFailed::Stack`] with what keeps parts from standing side by side: fewer than two, one twice, a stack among them,
/// other bases or sites, ranks that differ from site to site, columns of another length, scales that do not meet.
pub fn stack(parts: &[&AdapterCommitment], halvings: &[i32]) -> Result<AdapterCommitment, CheckFailed> {
    let (&[first, ref others @ ..], true) = (parts, parts.len() > 1) else {
        return refuse(format!("needs two parts or more, and has: {}", parts.len()));
    };
    if halvings.len() != parts.len() {
        return refuse(format!("has {} parts and weights: {}", parts.len(), halvings.len()));
    }
    let digests: Vec<Digest> = parts.iter().map(|part| part.digest()).collect();
    for (at, (part, digest)) in parts.iter().zip(&digests).enumerate() {
        if digests[..at].contains(digest) {
            return refuse(format!("part is there twice: {digest}"));
        }
        if !part.parts().is_empty() {
            return refuse(format!("part is a stack itself, whose parts are to be given: {digest}"));
        }
        let lanes = part.layout.lanes;
        if let Some(shape) = part.shapes().iter().find(|shape| shape.rank as usize != lanes) {
            return refuse(format!("part has rank {lanes} elsewhere and {} at {}: {digest}", shape.rank, shape.name));
        }
    }
    for (part, digest) in others.iter().zip(&digests[1..]) {
        if part.base() != first.base() {
            return refuse(format!("part is for another base, {}: {digest}", part.base()));
        }
        let site = |shape: &SiteShape| (shape.name.clone(), shape.d_in, shape.d_out);
        if !part.shapes().iter().map(site).eq(first.shapes().iter().map(site)) {
            return refuse(format!("part has other sites than the first: {digest}"));
        }
        if part.k() != first.k() {
            let (own, of_first) = (part.k(), first.k());
            return refuse(format!("part has columns of 2^{own} rows in the place of 2^{of_first}: {digest}"));
        }
    }
    let rank: usize = parts.iter().map(|part| part.layout.lanes).sum();
    let Some(rank) = u32::try_from(rank).ok().filter(|rank| *rank <= MAX_RANK) else {
        return refuse(format!("ranks together are more than {MAX_RANK}: {rank}"));
    };
    let shapes = (0..first.shapes().len()).map(|site| {
        let sum = |(part, halvings): (&&AdapterCommitment, &i32)| scale(&part.shapes()[site]) + halvings;
        let sums: Vec<i32> = parts.iter().zip(halvings).map(sum).collect();
        let shape = &first.shapes()[site];
        if let Some(other) = sums.iter().position(|sum| *sum != sums[0]) {
            let (of_first, own) = (sums[0], sums[other]);
            let (site, part) = (&shape.name, digests[other]);
            return Err(CheckFailed::StackScales(format!(
                "scales of {site} are 2^-{of_first} and, of part {part}, 2^-{own}"
            )));
        }
        // As the first has it, if what is left to B is a scale that a factor may have.
        let most = GRID_SHIFT as i32;
        let shift_a = i32::from(shape.shift_a).min(sums[0]).max(sums[0] - most);
        let shift_b = sums[0] - shift_a;
        if sums[0] < 0 || shift_a > most {
            return refuse(format!("scale of {} is none that factors may have: 2^{}", shape.name, -sums[0]));
        }
        Ok(SiteShape { rank, shift_a: shift_a as u8, shift_b: shift_b as u8, ..shape.clone() })
    });
    let shapes = shapes.collect::<Result<Vec<_>, _>>()?;
    let layout = Layout::with(&shapes, first.k());
    let points = parts.iter().map(|part| (part.layout.lanes, part.points.as_slice()));
    let points = side_by_side(&points.collect::<Vec<_>>());
    let distinct: HashSet<_> = points.iter().map(GroupEncoding::to_bytes).collect();
    if distinct.len() != points.len() {
        return refuse("two parts have a column in common");
    }
    Ok(AdapterCommitment::of_parts(first.base(), digests, shapes, layout, points))
}

/// The power of two that a site's product is divided by.
fn scale(shape: &SiteShape) -> i32 {
    i32::from(shape.shift_a) + i32::from(shape.shift_b)
}

/// What belongs to columns of the parts, in the order of the stack's: strip by strip, part by part, lane by lane. A part is
/// its lanes, and what belongs to its columns.
fn side_by_side<T: Clone>(parts: &[(usize, &[T])]) -> Vec<T> {
    let strips = parts.first().map_or(0, |(lanes, columns)| columns.len() / lanes);
    let of_strip = |strip: usize| parts.iter().map(move |(lanes, columns)| &columns[strip * lanes..][..*lanes]);
    (0..strips).flat_map(of_strip).flatten().cloned().collect()
}

/// The opening of a stack, from those of its parts.
///
/// # Errors
/// [`CheckFailed::Opening`] if one has another number of columns than its part.
pub fn stack_opening(parts: &[(&AdapterCommitment, &Opening)]) -> Result<Opening, CheckFailed> {
    for (part, opening) in parts {
        if opening.blinds.len() != part.columns() {
            return Err(CheckFailed::Opening(opening.blinds.len().min(part.columns())));
        }
    }
    let blinds = parts.iter().map(|(part, opening)| (part.layout.lanes, opening.blinds.as_slice()));
    Ok(Opening { blinds: side_by_side(&blinds.collect::<Vec<_>>()) })
}

/// The factors of a stack, from those of its parts: rows of A one after another, columns of B side by side.
///
/// # Panics
/// If the parts have not the sites that `stack` was made of.
pub fn stack_factors(stack: &AdapterCommitment, parts: &[Vec<SiteFactors>]) -> Vec<SiteFactors> {
    let of_site = |(site, shape): (usize, &SiteShape)| {
        let a = parts.iter().flat_map(|part| part[site].a.iter().copied()).collect();
        let row = |out: usize| {
            parts.iter().flat_map(move |part| {
                let rank = part[site].shape.rank as usize;
                part[site].b[out * rank..(out + 1) * rank].iter().copied()
            })
        };
        SiteFactors { shape: shape.clone(), a, b: (0..shape.d_out as usize).flat_map(row).collect() }
    };
    stack.shapes().iter().enumerate().map(of_site).collect()
}

/// The registration of a stack: commitments and registrations of its parts.
pub fn stack_registration(parts: &[StackPart]) -> Vec<u8> {
    let mut bytes = header(TAG);
    bytes.extend((parts.len() as u32).to_le_bytes());
    for StackPart { commitment, registration } in parts {
        for part in [&commitment.encode(), registration] {
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part);
        }
    }
    bytes
}

/// The parts of a stack with the halvings of their products, from its commitment and registration. Their registrations are
/// not looked at ([`verify_registration`]).
///
/// # Errors
/// [`CheckFailed::RegistrationEncoding`], [`CheckFailed::CommitmentEncoding`] of a part, [`CheckFailed::Stack`] unless the
/// stack is the one of these parts.
pub fn stack_parts(commitment: &AdapterCommitment, registration: &[u8]) -> Result<Vec<(StackPart, i32)>, CheckFailed> {
    let parts = unpack(registration).map_err(CheckFailed::RegistrationEncoding)?;
    let parts = parts.into_iter().map(|(commitment, registration)| {
        let commitment = AdapterCommitment::decode(commitment)?;
        Ok(StackPart { commitment, registration: registration.to_vec() })
    });
    let parts = parts.collect::<Result<Vec<_>, CheckFailed>>()?;
    if parts.len() != commitment.parts().len() {
        return refuse(format!("names {} parts, and there are: {}", commitment.parts().len(), parts.len()));
    }
    for (part, named) in parts.iter().zip(commitment.parts()) {
        let digest = part.commitment.digest();
        if digest != *named {
            return refuse(format!("names part {named}, and there is: {digest}"));
        }
    }
    let whole = commitment.shapes().first().map_or(0, scale);
    let halved = |part: &StackPart| whole - part.commitment.shapes().first().map_or(0, scale);
    let halvings: Vec<i32> = parts.iter().map(halved).collect();
    let commitments: Vec<&AdapterCommitment> = parts.iter().map(|part| &part.commitment).collect();
    let expected = stack(&commitments, &halvings)?;
    if expected.base() != commitment.base() {
        return refuse(format!("is for another base than its parts: {}", expected.base()));
    }
    if let Some((shape, _)) = expected.shapes().iter().zip(commitment.shapes()).find(|(one, other)| one != other) {
        return refuse(format!("shape or scale is not that of its parts: {}", shape.name));
    }
    if let Some(column) = expected.points.iter().zip(&commitment.points).position(|(one, other)| one != other) {
        return refuse(format!("is not that of its parts: column {column}"));
    }
    if expected != *commitment {
        return refuse("is not that of its parts");
    }
    Ok(parts.into_iter().zip(halvings).collect())
}

/// A commitment and its registration, as bytes.
type PackedPart<'a> = (&'a [u8], &'a [u8]);

/// Commitments and registrations as they stand in a stack's.
fn unpack(bytes: &[u8]) -> Result<Vec<PackedPart<'_>>, EncodingError> {
    let mut reader = Reader::new(bytes);
    reader.header(TAG)?;
    let count = reader.count("parts", MAX_RANK, 8)?;
    let mut next = || {
        let length = reader.u32()? as usize;
        reader.take(length)
    };
    let parts = (0..count).map(|_| Ok((next()?, next()?))).collect::<Result<Vec<_>, EncodingError>>()?;
    reader.end()?;
    Ok(parts)
}

/// Everything about the registration of a commitment, stacked or not, but its sums.
pub(crate) fn begin<'k>(
    key: &'k CommitmentKey,
    commitment: &AdapterCommitment,
    registration: &[u8],
    stop: &Stop<'_>,
) -> Result<Checks<'k>, CheckFailed> {
    if commitment.parts().is_empty() {
        return registration::begin(key, commitment, registration, stop);
    }
    go_on(stop)?;
    let (mut seed, mut checks) = (Absorb::new(Tag::BatchWeights), Vec::new());
    for (StackPart { commitment, registration }, _) in stack_parts(commitment, registration)? {
        let part = registration::begin(key, &commitment, &registration, stop)?;
        seed = seed.digest(&part.seed);
        checks.extend(part.checks);
    }
    Ok(Checks { seed: seed.finish(), checks })
}

/// Checks a registration; its verdict may be cached by commitment digest, protocol version and key digest.
///
/// # Errors
/// The first check that fails.
pub fn verify_registration(
    key: &CommitmentKey,
    commitment: &AdapterCommitment,
    registration: &[u8],
) -> Result<(), CheckFailed> {
    begin(key, commitment, registration, &never)?.settle()
}
