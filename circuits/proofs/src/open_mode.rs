//! Open mode: how a bundle shows what the adapter adds. It brings the exact deltas of every site; the network is run again with
//! them, and a proof shows that they are those of the committed adapter. What is stated, expected and said of a bundle
//! does not know of this.

use std::collections::BTreeMap;
use std::io::Read;

use ftk_circuits::{AdapterCommitment, CheckFailed, SiteRows, decode_deltas, deltas_limit};
use ftk_networks::graphs::opened::OpenedPart;
use ruzstd::decoding::StreamingDecoder;

use crate::deadline::Deadline;
use crate::fixed::{Adaptation, SiteDeltas};
use crate::model::FixedModel;
use crate::refusal::{Refusal, Stage, timed};
use crate::replay::{Replayed, add_base, difference, replay};
use crate::statement::Statement;

/// File of the deltas.
pub const DELTAS: &str = "deltas.bin";
/// File of the proof.
pub const PROOF: &str = "proof.bin";
/// File of the link.
pub const LINK: &str = "link.bin";

/// Most deltas of a bundle, sixteen bytes each in memory: a small file may claim and expand to any number.
const MAX_DELTAS: u64 = 1 << 28;
/// Level of compression; deltas are nearly random, more effort saves little.
#[cfg(feature = "prove")]
const ZSTD_LEVEL: i32 = 3;

/// Why there are no files of a bundle.
#[cfg(feature = "prove")]
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Too many deltas.
    #[error("more than {MAX_DELTAS} deltas; prove a shorter answer")]
    Deltas,
    /// Deltas that are not those of the commitment's sites.
    #[error(transparent)]
    Encoding(#[from] ftk_circuits::ProveError),
    /// Compression failed.
    #[error(transparent)]
    Compression(#[from] std::io::Error),
}

/// `deltas.bin`
///
/// # Errors
/// [`PackError`].
#[cfg(feature = "prove")]
pub(crate) fn pack(commitment: &AdapterCommitment, deltas: &[Vec<i128>]) -> Result<Vec<u8>, PackError> {
    let deltas: Vec<&[i128]> = deltas.iter().map(Vec::as_slice).collect();
    if deltas.iter().map(|deltas| deltas.len() as u64).sum::<u64>() > MAX_DELTAS {
        return Err(PackError::Deltas);
    }
    let encoded = ftk_circuits::encode_deltas(commitment.shapes(), &deltas)?;
    Ok(zstd::encode_all(encoded.as_slice(), ZSTD_LEVEL)?)
}

/// Bytes that the deltas of this commitment take at most.
pub(crate) fn limit(commitment: &AdapterCommitment, rows: &[usize]) -> Result<u64, Refusal> {
    // 4096 sites of 65536 outputs and 2^21 rows stay far below 2^64.
    let entries: u64 =
        commitment.shapes().iter().zip(rows).map(|(shape, rows)| u64::from(shape.d_out) * *rows as u64).sum();
    if entries > MAX_DELTAS {
        return Err(Refusal::Malformed { file: DELTAS, reason: format!("claims more than {MAX_DELTAS} deltas") });
    }
    Ok(deltas_limit(commitment.shapes(), rows))
}

/// The deltas of `deltas.bin`, for so many rows of each site.
///
/// # Errors
/// Bytes that no honest prover writes; [`Refusal::Time`] after the deadline.
pub(crate) fn expand(
    bytes: &[u8],
    commitment: &AdapterCommitment,
    rows: &[usize],
    deadline: Deadline,
) -> Result<Vec<Vec<i128>>, Refusal> {
    let encoded = decompress(bytes, limit(commitment, rows)?)?;
    let deltas = decode_deltas(&encoded, commitment.shapes(), rows, &|| deadline.is_past());
    deltas.map_err(|error| match error {
        CheckFailed::Stopped => Refusal::Time(Stage::Deltas),
        error => Refusal::Check(error),
    })
}

/// Least and most bytes that decompression may look back: what ftk's own frames need, and what zstd's own decoder allows.
const WINDOWS: [u64; 2] = [8 << 20, 128 << 20];

fn decompress(mut bytes: &[u8], limit: u64) -> Result<Vec<u8>, Refusal> {
    let malformed =
        || Refusal::Malformed { file: DELTAS, reason: "not a zstd frame of the length it must have".into() };
    let [least, most] = WINDOWS;
    let decoder = StreamingDecoder::new_with_max_window_size(&mut bytes, limit.clamp(least, most));
    let mut decoder = decoder.map_err(|_| malformed())?;
    let mut out = Vec::new();
    (&mut decoder).take(limit + 1).read_to_end(&mut out).map_err(|_| malformed())?;
    let frame = decoder.into_frame_decoder();
    let intact = frame.get_checksum_from_data().is_none_or(|sum| frame.get_calculated_checksum() == Some(sum));
    if out.len() as u64 > limit || !bytes.is_empty() || !intact { Err(malformed()) } else { Ok(out) }
}

/// The replay with these deltas, which must give the stated outputs, and gives the inputs of every site: with the deltas, all
/// that the proof is about.
///
/// # Errors
/// The first check that fails.
pub(crate) fn replayed(
    model: &FixedModel,
    (statement, commitment, graph): (&Statement, &AdapterCommitment, Option<&OpenedPart>),
    deltas: Vec<Vec<i128>>,
    deadline: Deadline,
) -> Result<Vec<SiteRows>, Refusal> {
    let given: BTreeMap<String, SiteDeltas<'_>> = commitment
        .shapes()
        .iter()
        .zip(&deltas)
        .map(|(shape, deltas)| {
            let shift = u32::from(shape.shift_a) + u32::from(shape.shift_b);
            (shape.name.clone(), SiteDeltas { rank: shape.rank as usize, shift, deltas })
        })
        .collect();
    let Replayed { mut outputs, records } =
        replay(model, Adaptation::Deltas(&given), &statement.cases, graph, deadline).map_err(timed)?;
    add_base(model, &mut outputs, &statement.cases, deadline).map_err(timed)?;
    if let Some((case, difference)) = difference(&statement.cases, &outputs) {
        return Err(Refusal::Output { case, difference });
    }
    // Sites are visited in the model's order, which is the commitment's: an architecture that broke this would have the
    // inputs of one site proved with the deltas of another.
    let paired = commitment.shapes().iter().zip(records).zip(deltas).map(|((shape, record), deltas)| {
        if record.site != shape.name {
            return Err(CheckFailed::Coverage(format!("site is visited out of order: {}", shape.name)).into());
        }
        let rows = record.inputs.len() / shape.d_in as usize;
        Ok(SiteRows { rows, inputs: record.inputs.into_iter().map(i64::from).collect(), deltas })
    });
    paired.collect()
}
