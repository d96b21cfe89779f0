//! The canonical encoding of exact deltas (`deltas.bin`; `STATEMENT.md`, section 7).
//!
//! All rows of a site lie in a space of at most its rank. The first independent ones are written as integers, each
//! other one as its coefficients on those before it, modulo 2^89 - 1.

use rayon::prelude::*;

use crate::bytes::{EncodingError, Reader, header};
use crate::delta::mersenne::{BYTES, MODULUS, add, invert, lift, mul, residue, sub};
use crate::error::{CheckFailed, ProveError};
use crate::layout::SiteShape;

const TAG: &[u8] = b"ftk deltas\0";
/// Bytes of the widest integer: a sign and the 84 bits of the largest bound.
const MAX_WIDTH: usize = 11;
/// Bytes of a site that has no independent row.
const SITE_BYTES: usize = 4 + 1 + 1;

/// Independent rows in echelon form.
#[derive(Default)]
struct Echelon {
    /// Leading column, the row with a one there, and what it is of the rows that were added.
    rows: Vec<(usize, Vec<u128>, Vec<u128>)>,
}

impl Echelon {
    /// Takes the part in the span away from `row` and returns its coefficients on the rows that were added.
    fn split(&self, row: &mut [u128]) -> Vec<u128> {
        let mut coefficients = vec![0; self.rows.len()];
        for (lead, basis, combination) in &self.rows {
            let factor = row[*lead];
            if factor == 0 {
                continue;
            }
            for (value, basis) in row[*lead..].iter_mut().zip(&basis[*lead..]) {
                *value = sub(*value, mul(factor, *basis));
            }
            for (sum, part) in coefficients.iter_mut().zip(combination) {
                *sum = add(*sum, mul(factor, *part));
            }
        }
        coefficients
    }

    /// Adds a row, or returns its coefficients if it lies in the span.
    fn add(&mut self, row: &[i128]) -> Option<Vec<u128>> {
        let mut rest: Vec<u128> = row.iter().map(|value| residue(*value)).collect();
        let coefficients = self.split(&mut rest);
        let Some(lead) = rest.iter().position(|value| *value != 0) else { return Some(coefficients) };
        let scale = invert(rest[lead]);
        let mut combination: Vec<u128> = coefficients.iter().map(|part| mul(scale, sub(0, *part))).collect();
        combination.push(scale);
        rest[lead..].iter_mut().for_each(|value| *value = mul(scale, *value));
        self.rows.push((lead, rest, combination));
        None
    }
}

/// Least bytes of a two's complement integer that hold the value.
fn width_of(value: i128) -> usize {
    let magnitude = if value < 0 { !value } else { value };
    let bits = 1 + (i128::BITS - magnitude.leading_zeros()) as usize;
    bits.div_ceil(8)
}

fn width_of_rows<'a>(rows: impl Iterator<Item = &'a [i128]>) -> usize {
    rows.flatten().map(|value| width_of(*value)).max().unwrap_or(0)
}

/// Writes the deltas of all sites, each `(rows, d_out)`.
///
/// # Errors
/// [`ProveError::Delta`] if some site's rows are not those of an adapter of its rank, or not `d_out` wide.
pub fn encode_deltas(shapes: &[SiteShape], sites: &[&[i128]]) -> Result<Vec<u8>, ProveError> {
    let encoded: Vec<Vec<u8>> = shapes
        .par_iter()
        .zip(sites)
        .map(|(shape, deltas)| encode_site(shape, deltas).ok_or_else(|| ProveError::Delta(shape.name.clone())))
        .collect::<Result<_, _>>()?;
    let mut bytes = header(TAG);
    bytes.extend((encoded.len() as u32).to_le_bytes());
    bytes.extend(encoded.concat());
    Ok(bytes)
}

fn encode_site(shape: &SiteShape, deltas: &[i128]) -> Option<Vec<u8>> {
    let rows = deltas.chunks_exact(shape.d_out as usize);
    let bound = shape.delta_bound().unsigned_abs();
    if !rows.remainder().is_empty() || deltas.iter().any(|delta| delta.unsigned_abs() > bound) {
        return None;
    }
    let count = rows.len() as u32;
    let mut echelon = Echelon::default();
    let (mut pivots, mut coefficients) = (Vec::new(), Vec::new());
    for (index, row) in rows.enumerate() {
        match echelon.add(row) {
            Some(parts) => coefficients.extend(parts),
            None => pivots.push((index as u32, row)),
        }
        if pivots.len() > most_pivots(shape) {
            return None;
        }
    }
    let width = width_of_rows(pivots.iter().map(|(_, row)| *row));
    let mut bytes = count.to_le_bytes().to_vec();
    bytes.extend([pivots.len() as u8, width as u8]);
    bytes.extend(pivots.iter().flat_map(|(index, _)| index.to_le_bytes()));
    for delta in pivots.iter().flat_map(|(_, row)| *row) {
        bytes.extend(&delta.to_le_bytes()[..width]);
    }
    bytes.extend(coefficients.iter().flat_map(|part| part.to_le_bytes().into_iter().take(BYTES)));
    Some(bytes)
}

/// Most rows of a site that can be independent.
fn most_pivots(shape: &SiteShape) -> usize {
    shape.rank.min(shape.d_in).min(shape.d_out) as usize
}

/// Most bytes that the deltas of these sites take, each with its number of rows.
pub fn deltas_limit(shapes: &[SiteShape], rows: &[usize]) -> u64 {
    let site = |(shape, rows): (&SiteShape, &usize)| {
        let (rows, most) = (*rows as u64, most_pivots(shape) as u64);
        let pivot = 4 + u64::from(shape.d_out) * MAX_WIDTH as u64;
        SITE_BYTES as u64 + rows.min(most) * pivot + rows * most * BYTES as u64
    };
    header(TAG).len() as u64 + 4 + shapes.iter().zip(rows).map(site).sum::<u64>()
}

/// Reads [`encode_deltas`]'s bytes for the sites of a commitment, each with the rows that the caller counted. A few
/// bytes may stand for many rows, which are no small work: `stop` is asked before each whether to leave it.
///
/// # Errors
/// [`CheckFailed::Coverage`] if sites or rows are others, [`CheckFailed::Stopped`], [`CheckFailed::DeltasEncoding`] for
/// anything else.
pub fn decode_deltas(
    bytes: &[u8],
    shapes: &[SiteShape],
    rows: &[usize],
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Vec<i128>>, CheckFailed> {
    let encoding = CheckFailed::DeltasEncoding;
    let mut reader = Reader::new(bytes);
    reader.header(TAG).map_err(encoding)?;
    let sites = reader.u32().map_err(encoding)? as usize;
    if sites != shapes.len() || rows.len() != shapes.len() {
        return Err(CheckFailed::Coverage(format!("deltas of {sites} sites instead of {}", shapes.len())));
    }
    let mut parts = Vec::with_capacity(sites);
    for (shape, rows) in shapes.iter().zip(rows) {
        let stated = reader.u32().map_err(encoding)? as usize;
        if stated != *rows {
            let name = &shape.name;
            return Err(CheckFailed::Coverage(format!("deltas of {stated} rows of {name} instead of {rows}")));
        }
        parts.push(Encoded::read(&mut reader, shape, *rows).map_err(encoding)?);
    }
    reader.end().map_err(encoding)?;
    parts.iter().zip(shapes).map(|(part, shape)| part.expand(shape, stop)).collect()
}

/// The bytes of one site, of which all are there.
struct Encoded<'a> {
    rows: usize,
    width: usize,
    /// Rows written as integers.
    pivots: Vec<usize>,
    integers: &'a [u8],
    coefficients: &'a [u8],
}

impl<'a> Encoded<'a> {
    fn read(reader: &mut Reader<'a>, shape: &SiteShape, rows: usize) -> Result<Self, EncodingError> {
        let (count, width) = (reader.u8()?, reader.u8()?);
        if usize::from(count) > most_pivots(shape) {
            return Err(EncodingError::Bounds { what: "independent rows", value: count.into() });
        }
        let count = usize::from(count);
        if usize::from(width) > MAX_WIDTH || (width == 0) != (count == 0) {
            return Err(EncodingError::Width(width));
        }
        let pivots: Vec<usize> =
            (0..count).map(|_| Ok(reader.u32()? as usize)).collect::<Result<_, EncodingError>>()?;
        if let Some(row) = (0..count).find(|&i| pivots[i] >= rows || i > 0 && pivots[i - 1] >= pivots[i]) {
            return Err(EncodingError::Pivot(pivots[row]));
        }
        // At most 2^7 rows of 2^16 integers; every other row has a coefficient per independent row before it.
        let integers = reader.take(count * shape.d_out as usize * usize::from(width))?;
        let parts: usize = pivots.iter().enumerate().map(|(i, pivot)| rows - pivot - (count - i)).sum();
        let coefficients = reader.take(parts.checked_mul(BYTES).ok_or(EncodingError::Truncated)?)?;
        Ok(Self { rows, width: usize::from(width), pivots, integers, coefficients })
    }

    fn expand(&self, shape: &SiteShape, stop: &(dyn Fn() -> bool + Sync)) -> Result<Vec<i128>, CheckFailed> {
        let d_out = shape.d_out as usize;
        let bound = shape.delta_bound().unsigned_abs();
        let integers = self.integers(d_out, bound).map_err(CheckFailed::DeltasEncoding)?;
        let residues: Vec<u128> = integers.iter().map(|value| residue(*value)).collect();
        // Where each row's coefficients begin: a row has one for each independent row before it.
        let mut first = Vec::with_capacity(self.rows);
        let (mut before, mut coefficients) = (0, 0);
        for row in 0..self.rows {
            first.push((before, coefficients));
            if self.pivots.get(before) == Some(&row) {
                before += 1;
            } else {
                coefficients += before;
            }
        }
        let mut deltas = vec![0; self.rows * d_out];
        let expand = |(row, delta): (usize, &mut [i128])| {
            if stop() {
                return Err(CheckFailed::Stopped);
            }
            let (before, first) = first[row];
            if self.pivots.get(before) == Some(&row) {
                delta.copy_from_slice(&integers[before * d_out..(before + 1) * d_out]);
                return Ok(());
            }
            let encoding = CheckFailed::DeltasEncoding;
            let mut sums = vec![0; d_out];
            for (index, basis) in residues.chunks_exact(d_out).take(before).enumerate() {
                let mut bytes = [0; 16];
                bytes[..BYTES].copy_from_slice(&self.coefficients[(first + index) * BYTES..][..BYTES]);
                let factor = u128::from_le_bytes(bytes);
                if factor >= MODULUS {
                    return Err(encoding(EncodingError::Coefficient(row)));
                }
                for (sum, value) in sums.iter_mut().zip(basis) {
                    *sum = add(*sum, mul(factor, *value));
                }
            }
            for (delta, sum) in delta.iter_mut().zip(sums) {
                *delta = lift(sum);
                if delta.unsigned_abs() > bound {
                    return Err(encoding(EncodingError::Entry(row)));
                }
            }
            Ok(())
        };
        // The first row that is wrong is named, however many cores look.
        let rows: Vec<_> = deltas.par_chunks_exact_mut(d_out).enumerate().map(expand).collect();
        rows.into_iter().collect::<Result<(), _>>()?;
        Ok(deltas)
    }

    /// The independent rows, `(pivots, d_out)`.
    fn integers(&self, d_out: usize, bound: u128) -> Result<Vec<i128>, EncodingError> {
        let integers = self.integers.chunks_exact(self.width.max(1)).map(|chunk| {
            let mut bytes = [if chunk[self.width - 1] >= 0x80 { 0xff } else { 0 }; 16];
            bytes[..self.width].copy_from_slice(chunk);
            i128::from_le_bytes(bytes)
        });
        let integers: Vec<i128> = integers.collect();
        let mut echelon = Echelon::default();
        for (pivot, row) in self.pivots.iter().zip(integers.chunks_exact(d_out)) {
            if row.iter().any(|delta| delta.unsigned_abs() > bound) {
                return Err(EncodingError::Entry(*pivot));
            }
            if echelon.add(row).is_some() {
                return Err(EncodingError::Pivot(*pivot));
            }
        }
        if width_of_rows(integers.chunks_exact(d_out)) != self.width {
            return Err(EncodingError::Width(self.width as u8));
        }
        Ok(integers)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(name: &str, rank: u32, d_out: u32) -> SiteShape {
        SiteShape { name: name.into(), rank, d_in: 4, d_out, shift_a: 0, shift_b: 0 }
    }

    #[test]
    fn widths_are_the_least_ones() {
        for (value, width) in
            [(0, 1), (-1, 1), (127, 1), (-128, 1), (128, 2), (-129, 2), (i128::MAX, 16), (i128::MIN, 16)]
        {
            assert_eq!(width_of(value), width, "{value}");
        }
    }

    proptest! {
        /// Also of a lower rank than the shape's, with rows of zeros, and with large entries.
        #[test]
        fn deltas_round_trip(
            hidden in prop::collection::vec(prop::collection::vec(-(1i64 << 47)..1 << 47, 3), 0..9),
            b in prop::collection::vec(prop::collection::vec(any::<i16>(), 3), 5),
            rank in 0usize..=3,
        ) {
            let delta = |h: &Vec<i64>, b: &Vec<i16>| -> i128 {
                h.iter().zip(b).take(rank).map(|(h, b)| i128::from(*h) * i128::from(*b)).sum()
            };
            let deltas: Vec<i128> = hidden.iter().flat_map(|h| b.iter().map(move |b| delta(h, b))).collect();
            let shapes = [shape("first", 3, 5), shape("second", 1, 1)];
            let bytes = encode_deltas(&shapes, &[&deltas, &[7, 0, -7]]).unwrap();
            prop_assert!(bytes.len() as u64 <= deltas_limit(&shapes, &[hidden.len(), 3]));
            let decoded = decode_deltas(&bytes, &shapes, &[hidden.len(), 3], &|| false);
            prop_assert_eq!(decoded, Ok(vec![deltas, vec![7, 0, -7]]));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), rows in 0usize..20) {
            let shapes = [shape("s", 3, 5)];
            let mut framed = header(TAG);
            framed.extend(1u32.to_le_bytes());
            framed.extend((rows as u32).to_le_bytes());
            framed.extend(bytes);
            if let Ok(decoded) = decode_deltas(&framed, &shapes, &[rows], &|| false) {
                prop_assert_eq!(encode_deltas(&shapes, &[&decoded[0]]).unwrap(), framed, "canonical");
            }
        }
    }

    #[test]
    fn other_bytes_are_refused_with_their_reason() {
        // Rows 1 and 3 are independent, 0 is zero, 2 is twice row 1, 4 is the sum of both.
        let deltas = [0, 0, 3, 300, 6, 600, -1, 5, 2, 305];
        let shapes = [shape("s", 2, 2)];
        let bytes = encode_deltas(&shapes, &[&deltas]).unwrap();
        let decode = |bytes: &[u8]| {
            decode_deltas(bytes, &shapes, &[5], &|| false).map_err(|error| match error {
                CheckFailed::DeltasEncoding(reason) => reason,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(decode(&bytes), Ok(vec![deltas.to_vec()]));
        let site = TAG.len() + 4 + 4;
        let (indices, integers) = (site + 6, site + 6 + 8);
        let coefficients = integers + 2 * 2 * 2;
        assert_eq!(bytes.len(), coefficients + 3 * BYTES);
        let put = |at: usize, with: &[u8]| {
            let mut edited = bytes.clone();
            edited[at..at + with.len()].copy_from_slice(with);
            decode(&edited).unwrap_err()
        };
        assert_eq!(decode(&[&bytes[..], &[0]].concat()), Err(EncodingError::TrailingBytes(1)));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Err(EncodingError::Truncated), "{cut}");
        }
        assert_eq!(put(TAG.len(), &[9]), EncodingError::Version(9));
        assert_eq!(put(site + 4, &[3]), EncodingError::Bounds { what: "independent rows", value: 3 });
        assert_eq!(put(site + 5, &[12]), EncodingError::Width(12));
        assert_eq!(put(site + 5, &[0]), EncodingError::Width(0));
        assert_eq!(put(site + 4, &[0]), EncodingError::Width(2));
        assert_eq!(put(indices, &[3]), EncodingError::Pivot(3));
        assert_eq!(put(indices + 4, &[5]), EncodingError::Pivot(5));
        // Row 3 as twice row 1; all integers small enough for one byte.
        assert_eq!(put(integers + 4, &[6, 0, 0x58, 2]), EncodingError::Pivot(3));
        assert_eq!(put(integers, &[3, 0, 44, 0, 0xff, 0xff, 5, 0]), EncodingError::Width(2));
        assert_eq!(put(coefficients + BYTES, &MODULUS.to_le_bytes()[..BYTES]), EncodingError::Coefficient(4));
        // A half: 3 / 2 lifts to a number of 89 bits.
        assert_eq!(put(coefficients, &invert(2).to_le_bytes()[..BYTES]), EncodingError::Entry(2));
        let narrow = [SiteShape { d_in: 1, rank: 1, ..shape("s", 1, 1) }];
        let bound = narrow[0].delta_bound();
        let large = encode_deltas(&narrow, &[&[bound]]).unwrap();
        let mut beyond = large.clone();
        beyond[site + 6 + 4] = 1;
        let refused = decode_deltas(&beyond, &narrow, &[1], &|| false);
        assert_eq!(refused, Err(CheckFailed::DeltasEncoding(EncodingError::Entry(0))));

        assert!(matches!(decode_deltas(&bytes, &shapes, &[4], &|| false), Err(CheckFailed::Coverage(_))));
        assert!(matches!(decode_deltas(&bytes, &[], &[], &|| false), Err(CheckFailed::Coverage(_))));
        assert_eq!(decode_deltas(&bytes, &shapes, &[5], &|| true), Err(CheckFailed::Stopped));
        assert!(matches!(encode_deltas(&narrow, &[&[bound + 1]]), Err(ProveError::Delta(_))));
        let three = [1, 0, 0, 0, 1, 0, 0, 0, 1];
        assert!(matches!(encode_deltas(&[shape("s", 2, 3)], &[&three]), Err(ProveError::Delta(_))));
    }

    /// However large the rank, no more rows than inputs or outputs are independent: the bytes that may have to be read
    /// are bounded by the deltas that they stand for.
    #[test]
    fn the_limit_does_not_grow_with_a_rank_that_means_nothing() {
        let (low, high) = (shape("s", 1, 1), shape("s", 128, 1));
        let limit = |shape| deltas_limit(std::slice::from_ref(shape), &[1 << 16]);
        assert_eq!(limit(&low), limit(&high));
        let bytes = encode_deltas(&[low], &[&[3, 6, 0]]).unwrap();
        assert_eq!(decode_deltas(&bytes, &[high], &[3], &|| false).unwrap(), [[3, 6, 0]]);
        let narrow = SiteShape { d_in: 1, ..shape("s", 2, 2) };
        assert!(matches!(encode_deltas(&[narrow], &[&[1, 0, 0, 1]]), Err(ProveError::Delta(_))));
    }
}
