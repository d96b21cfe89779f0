//! Inputs and deltas of the sites, as integers, and the canonical encoding of the deltas (`deltas.bin`).

use crate::bytes::{EncodingError, Reader, header};
use crate::error::CheckFailed;
use crate::hash::{Absorb, Digest, Tag};
use crate::layout::SiteShape;

const TAG: &[u8] = b"ftk deltas\0";
/// Inputs are below this in absolute value: a signed 32-bit integer on the 2^-16 grid.
pub const INPUT_BOUND: u64 = 1 << 31;
const MAX_WIDTH: usize = 16;

/// What goes into one site and what its adapter adds, for all rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteRows {
    /// x_t, `(rows, d_in)` row-major on the 2^-16 grid.
    pub inputs: Vec<i64>,
    /// `B (A x_t)`, `(rows, d_out)` row-major, exact.
    pub deltas: Vec<i128>,
}

/// Checks that there are `rows` rows of every site, with its dimensions and within the bounds.
pub(crate) fn check_rows(shapes: &[SiteShape], rows: usize, sites: &[SiteRows]) -> Result<(), CheckFailed> {
    if sites.len() != shapes.len() {
        return Err(CheckFailed::Coverage(format!("sites: {} of {}", sites.len(), shapes.len())));
    }
    for (shape, site) in shapes.iter().zip(sites) {
        for (what, len, dim) in [("inputs", site.inputs.len(), shape.d_in), ("deltas", site.deltas.len(), shape.d_out)]
        {
            if rows.checked_mul(dim as usize) != Some(len) {
                return Err(CheckFailed::Coverage(format!(
                    "{what} of {} are not {rows} rows of {dim}: {len}",
                    shape.name
                )));
            }
        }
    }
    for (index, (shape, site)) in shapes.iter().zip(sites).enumerate() {
        if let Some(entry) = site.inputs.iter().position(|x| x.unsigned_abs() >= INPUT_BOUND) {
            return Err(CheckFailed::InputBound { site: index, entry });
        }
        let bound = shape.delta_bound().unsigned_abs();
        if let Some(entry) = site.deltas.iter().position(|delta| delta.unsigned_abs() > bound) {
            return Err(CheckFailed::DeltaBound { site: index, entry });
        }
    }
    Ok(())
}

/// `D_rows`: all inputs and all deltas with their dimensions.
pub(crate) fn rows_digest(shapes: &[SiteShape], rows: usize, sites: &[SiteRows]) -> Digest {
    let mut hash = Absorb::new(Tag::Rows).u32(sites.len() as u32).u32(rows as u32);
    for (shape, site) in shapes.iter().zip(sites) {
        let inputs: Vec<u8> = site.inputs.iter().flat_map(|x| x.to_le_bytes()).collect();
        let deltas: Vec<u8> = site.deltas.iter().flat_map(|delta| delta.to_le_bytes()).collect();
        hash = hash.u32(shape.d_in).u32(shape.d_out).bytes(&inputs).bytes(&deltas);
    }
    hash.finish()
}

/// Least bytes of a two's complement integer that hold the value.
fn width_of(value: i128) -> usize {
    let magnitude = if value < 0 { !value } else { value };
    let bits = 1 + (i128::BITS - magnitude.leading_zeros()) as usize;
    bits.div_ceil(8)
}

/// Writes the deltas of all sites, each `(rows, d_out)`, with the least width that fits the site.
pub fn encode_deltas(rows: u32, sites: &[&[i128]]) -> Vec<u8> {
    let mut bytes = header(TAG);
    bytes.extend((sites.len() as u32).to_le_bytes());
    bytes.extend(rows.to_le_bytes());
    for deltas in sites {
        let width = deltas.iter().map(|delta| width_of(*delta)).max().unwrap_or(1);
        bytes.push(width as u8);
        for delta in *deltas {
            bytes.extend(&delta.to_le_bytes()[..width]);
        }
    }
    bytes
}

/// Reads [`encode_deltas`]'s bytes for the sites of a commitment and the rows of a statement.
///
/// # Errors
/// [`CheckFailed::Coverage`] if sites or rows are others, [`CheckFailed::DeltasEncoding`] for anything else.
pub fn decode_deltas(bytes: &[u8], shapes: &[SiteShape], rows: usize) -> Result<Vec<Vec<i128>>, CheckFailed> {
    let encoding = CheckFailed::DeltasEncoding;
    let mut reader = Reader::new(bytes);
    reader.header(TAG).map_err(encoding)?;
    let sites = reader.u32().map_err(encoding)? as usize;
    let stated = reader.u32().map_err(encoding)? as usize;
    if (sites, stated) != (shapes.len(), rows) {
        return Err(CheckFailed::Coverage(format!(
            "deltas of {sites} sites and {stated} rows instead of {} and {rows}",
            shapes.len()
        )));
    }
    let deltas = shapes
        .iter()
        .map(|shape| decode_site(&mut reader, rows, shape.d_out as usize))
        .collect::<Result<_, _>>()
        .map_err(encoding)?;
    reader.end().map_err(encoding)?;
    Ok(deltas)
}

fn decode_site(reader: &mut Reader<'_>, rows: usize, d_out: usize) -> Result<Vec<i128>, EncodingError> {
    let width = reader.u8()?;
    let size = usize::from(width);
    if size == 0 || size > MAX_WIDTH {
        return Err(EncodingError::Width(width));
    }
    let len = rows.checked_mul(d_out).and_then(|count| count.checked_mul(size)).ok_or(EncodingError::Truncated)?;
    let deltas: Vec<i128> = reader
        .take(len)?
        .chunks_exact(size)
        .map(|chunk| {
            let negative = chunk[size - 1] >= 0x80;
            let mut bytes = [if negative { 0xff } else { 0 }; MAX_WIDTH];
            bytes[..size].copy_from_slice(chunk);
            i128::from_le_bytes(bytes)
        })
        .collect();
    match deltas.iter().map(|delta| width_of(*delta)).max().unwrap_or(1) {
        least if least == size => Ok(deltas),
        _ => Err(EncodingError::Width(width)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shapes(d_outs: &[u32]) -> Vec<SiteShape> {
        let shape = |(i, d_out): (usize, &u32)| SiteShape {
            name: format!("s{i}"),
            rank: 1,
            d_in: 1,
            d_out: *d_out,
            shift_a: 0,
            shift_b: 0,
        };
        d_outs.iter().enumerate().map(shape).collect()
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
        #[test]
        fn deltas_round_trip(bits in 1u32..=127, values in prop::collection::vec(any::<i128>(), 12)) {
            let values: Vec<i128> = values.into_iter().map(|value| value >> (127 - bits)).collect();
            let (first, second) = values.split_at(8);
            let bytes = encode_deltas(4, &[first, second]);
            let decoded = decode_deltas(&bytes, &shapes(&[2, 1]), 4);
            prop_assert_eq!(decoded, Ok(vec![first.to_vec(), second.to_vec()]));
        }
    }

    #[test]
    fn other_bytes_are_refused_with_their_reason() {
        let bytes = encode_deltas(2, &[&[1, -300], &[5, 6]]);
        let shapes = shapes(&[1, 1]);
        let decode = |bytes: &[u8]| decode_deltas(bytes, &shapes, 2).unwrap_err();
        let encoding = CheckFailed::DeltasEncoding;

        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode(&longer), encoding(EncodingError::TrailingBytes(1)));
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), encoding(EncodingError::Truncated), "{cut}");
        }
        let first_width = TAG.len() + 12;
        for width in [0, 17] {
            let mut bad = bytes.clone();
            bad[first_width] = width;
            assert_eq!(decode(&bad), encoding(EncodingError::Width(width)));
        }
        let wide = [&bytes[..first_width], &[3, 1, 0, 0, 0xd4, 0xfe, 0xff], &bytes[first_width + 5..]].concat();
        assert_eq!(decode(&wide), encoding(EncodingError::Width(3)));
        let mut version = bytes.clone();
        version[TAG.len()] = 9;
        assert_eq!(decode(&version), encoding(EncodingError::Version(9)));
        assert!(matches!(decode_deltas(&bytes, &shapes, 3), Err(CheckFailed::Coverage(_))));
        assert!(matches!(decode_deltas(&bytes, &shapes[..1], 2), Err(CheckFailed::Coverage(_))));
    }
}
