//! `ftk open`: does a delivered adapter open the commitment that the buyer saw.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::peft::{self, Saved};
use ftk_adapters::{foreign, notes};
use ftk_circuits::{AdapterCommitment, CheckFailed, Digest, EncodingError, SiteFactors, opens};
use ftk_proofs::bundle::{COMMITMENT, HEAD};
use ftk_proofs::fixed::FixedAdapter;
use ftk_proofs::head::parse_head;
use ftk_proofs::hex::parse_digest;
use ftk_proofs::site_factors;
use serde_json::json;

use super::run::NOTE;
use super::{Advice, Outcome};
use crate::cli::printer::Printer;
use crate::prove::fixed::of_committed;
use crate::prove::keys::commitment_key;
use crate::prove::opening::{OPENING, OpeningFile};

/// What is needed.
pub struct Settings {
    /// PEFT adapter folder that was delivered.
    pub adapter: PathBuf,
    /// The commitment, or a folder with it: that of `ftk commit`, or a bundle.
    pub commitment: PathBuf,
    /// The seller's opening; beside the adapter or the commitment without it.
    pub opening: Option<PathBuf>,
}

/// Says yes, or no and what differs.
///
/// # Errors
/// Files that cannot be read: then it cannot be told.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let path = match settings.commitment.is_dir() {
        true => settings.commitment.join(COMMITMENT),
        false => settings.commitment.clone(),
    };
    let bytes = foreign::read(&path, foreign::DOCUMENT).with_context(|| format!("cannot read {}", path.display()))?;
    let commitment = AdapterCommitment::decode(&bytes).map_err(|error| match error {
        CheckFailed::CommitmentEncoding(EncodingError::Version(_)) => {
            let message = format!("{}: {error}", path.display());
            Advice::new(message, "use the release of ftk that made it").into()
        }
        error => anyhow::Error::new(error).context(path.display().to_string()),
    })?;
    let opening = opening_path(settings)?;
    let opening = OpeningFile::read(&opening, commitment.shapes())?.opening;
    let (adapter, head) = peft::load_with_saved(&settings.adapter)?;
    let noted = notes::noted(&settings.adapter, NOTE)?.as_deref().and_then(parse_digest);
    let differs = other_head(&path, &head, printer)?.or_else(|| other_transcript(&commitment, noted));

    let digest = commitment.digest().to_string();
    let difference = match of_committed(&adapter, commitment.shapes()) {
        // What is committed is on the grid.
        Err(error) => Some(error.to_string()),
        Ok(fixed) => match names(&commitment, &fixed) {
            Some(difference) => Some(difference),
            None if differs.is_some() => differs,
            None => {
                let order = commitment.shapes().iter().map(|shape| shape.name.as_str());
                let factors: Vec<SiteFactors> = site_factors(&fixed, order);
                scales(&commitment, &factors).map_or_else(
                    || {
                        let key = commitment_key(commitment.k())?;
                        Ok::<_, anyhow::Error>(match opens(&key, &commitment, &opening, &factors) {
                            Ok(()) => None,
                            Err(CheckFailed::Opening(column)) => {
                                Some(format!("values: the first that differ are in column {column} of the commitment"))
                            }
                            Err(other) => Some(other.to_string()),
                        })
                    },
                    |difference| Ok(Some(difference)),
                )?
            }
        },
    };
    let opened = difference.is_none();
    match &difference {
        None => {
            printer.line("yes");
            printer.line(&format!("the adapter in {} is the one of commitment {digest}", settings.adapter.display()));
            if let Some(root) = commitment.transcript() {
                printer.line(&format!("said by whoever committed: its training transcript has root {root}"));
            }
        }
        Some(difference) => printer.line(&format!("no: {difference}")),
    }
    let transcript = commitment.transcript().map(|root| root.to_string());
    printer.object(&json!({ "opens": opened, "adapter": digest, "transcript": transcript, "difference": difference }));
    Ok(if opened { Outcome::Done } else { Outcome::No })
}

/// How the training that the adapter's file names differs from the one that the commitment names.
fn other_transcript(commitment: &AdapterCommitment, noted: Option<Digest>) -> Option<String> {
    let (named, noted) = (commitment.transcript()?, noted?);
    (named != noted).then(|| format!("transcript: committed is {named}, the adapter's file names {noted}"))
}

/// How the head beside the adapter differs from the one that lies beside the commitment, which is public and which
/// statements count to the base.
fn other_head(commitment: &Path, delivered: &Saved, printer: &Printer) -> Result<Option<String>> {
    let path = commitment.with_file_name(HEAD);
    if !path.exists() {
        if !delivered.is_empty() {
            printer.note("the head beside the adapter is compared with none: there is none beside the commitment");
        }
        return Ok(None);
    }
    let bytes = foreign::read(&path, foreign::DOCUMENT).with_context(|| format!("cannot read {}", path.display()))?;
    let known = parse_head(&bytes).map_err(|reason| anyhow::anyhow!("{}: {reason}", path.display()))?;
    Ok((known != *delivered).then(|| format!("head: the adapter's is not the one in {}", path.display())))
}

fn opening_path(settings: &Settings) -> Result<PathBuf> {
    if let Some(path) = &settings.opening {
        return Ok(path.clone());
    }
    let beside = settings.commitment.is_dir().then_some(settings.commitment.as_path());
    let beside = beside.or_else(|| settings.commitment.parent()).unwrap_or(Path::new("."));
    let places = [settings.adapter.join(OPENING), beside.join(OPENING)];
    places.into_iter().find(|path| path.exists()).ok_or_else(|| {
        let message = format!("there is no {OPENING} beside the adapter or the commitment");
        Advice::new(message, "ask the seller for it, and name it with --opening").into()
    })
}

/// Sites that one side has and the other has not.
fn names(commitment: &AdapterCommitment, adapter: &FixedAdapter) -> Option<String> {
    let committed: BTreeSet<&String> = commitment.shapes().iter().map(|shape| &shape.name).collect();
    let delivered: BTreeSet<&String> = adapter.sites.keys().collect();
    if let Some(site) = committed.difference(&delivered).next() {
        return Some(format!("sites: the adapter has none at {site}"));
    }
    delivered.difference(&committed).next().map(|site| format!("sites: nothing is committed to at {site}"))
}

/// The first site whose rank, dimensions or scales are others.
fn scales(commitment: &AdapterCommitment, factors: &[SiteFactors]) -> Option<String> {
    let (committed, delivered) =
        commitment.shapes().iter().zip(factors).find(|(committed, delivered)| **committed != delivered.shape)?;
    let words = |shape: &ftk_circuits::SiteShape| {
        let ftk_circuits::SiteShape { rank, d_in, d_out, shift_a, shift_b, .. } = shape;
        format!("rank {rank}, {d_in} to {d_out}, scales 2^-{shift_a} and 2^-{shift_b}")
    };
    let (was, is) = (words(committed), words(&delivered.shape));
    Some(format!("shape of {}: committed is {was}, delivered is {is}", committed.name))
}
