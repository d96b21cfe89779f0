//! The commitment to a stack, which follows from the commitments and registrations of its parts, and whether one does.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftk_adapters::lora::{Adapter, Factors};
use ftk_adapters::staged::{Staged, There};
use ftk_adapters::{atomic, foreign, peft};
use ftk_circuits::{
    AdapterCommitment, CheckFailed, CommitmentKey, Digest, Opening, SiteFactors, StackPart, opens, stack,
    stack_factors, stack_opening, stack_parts, stack_registration, verify_registration,
};
use ftk_kernels::grid;
use ftk_proofs::bundle::{COMMITMENT, REGISTRATION};
use ftk_proofs::site_factors;
use serde_json::{Value, json};

use super::super::card::Card;
use super::super::commit::commitment_at;
use super::super::{Advice, Outcome, unwritable};
use super::{Parts, absent, distance, weights_of};
use crate::cli::printer::Printer;
use crate::prove::fixed::of_committed;
use crate::prove::keys::commitment_key;
use crate::prove::opening::{OPENING, OpeningFile};

/// Folder in the result for what is committed to.
const COMMITTED: &str = "commitment";

/// What is needed to make one.
pub struct Settings {
    /// PEFT adapter folders, as they were committed to; none where they are other people's secrets.
    pub adapters: Vec<PathBuf>,
    /// The folders that `ftk commit` wrote, one a part, in the same order; openings among them if there are any.
    pub commitments: Vec<PathBuf>,
    /// A weight for each, a power of two; all the same without.
    pub weights: Vec<f64>,
    /// Folder for the result.
    pub out: PathBuf,
}

/// Makes the commitment to a stack, and with the adapters the stack itself.
///
/// # Errors
/// Commitments that cannot stand side by side; adapters that are not the committed ones; a folder that is there already.
pub fn make(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let Settings { adapters: folders, commitments, weights, out } = settings;
    absent(out)?;
    if !folders.is_empty() && folders.len() != commitments.len() {
        let message = format!("--commitments: {} for {} adapters", commitments.len(), folders.len());
        return Err(Advice::new(message, "give one for each adapter, in their order; or none of the adapters").into());
    }
    let staged = Staged::new(out, There::Stays).map_err(|error| unwritable(out, &error))?;
    let parts = commitments.iter().map(|folder| published(folder)).collect::<Result<Vec<_>>>()?;
    let weights = weights_of(weights, parts.len())?;
    let halvings = weights.iter().map(|weight| halvings(*weight)).collect::<Result<Vec<_>>>()?;
    let sources: Vec<&AdapterCommitment> = parts.iter().map(|part| &part.commitment).collect();
    let whole = stack(&sources, &halvings).map_err(|failed| advised(&failed))?;
    let key = registered(whole.k(), &parts, commitments, printer)?;
    let openings = openings(commitments, &parts)?;
    let io = || format!("cannot write to {}", out.display());
    let committed = staged.path().join(COMMITTED);
    std::fs::create_dir_all(&committed).with_context(io)?;
    let mut stack_error = None;
    if !folders.is_empty() {
        let Parts { adapters, base, transposed } = Parts::read(folders)?;
        let factors = committed_to(&adapters, folders, &parts, openings.as_deref(), &key)?;
        let result = adapter_of(&stack_factors(&whole, &factors));
        let error = distance(&adapters.iter().collect::<Vec<_>>(), &weights, &result)?;
        peft::save(&staged.path(), &result, &base, &[], transposed)?;
        Card { commitment: Some(&whole.digest().to_string()), ..Card::default() }.write(&staged.path())?;
        printer.note(&format!("{error:.1e} of the update away from the sum of products"));
        stack_error = Some(error);
    }
    if let Some(openings) = &openings {
        let pairs: Vec<(&AdapterCommitment, &Opening)> = sources.iter().copied().zip(openings).collect();
        let opening = OpeningFile::new(stack_opening(&pairs)?, whole.shapes());
        atomic::write_secret(&committed.join(OPENING), &opening.encode()).with_context(io)?;
        let place = out.join(COMMITTED).join(OPENING);
        printer.note(&format!("all openings are there: {} is as secret as they are", place.display()));
    }
    atomic::write(&committed.join(REGISTRATION), &stack_registration(&parts)).with_context(io)?;
    atomic::write(&committed.join(COMMITMENT), &whole.encode()).with_context(io)?;
    staged.persist(&[COMMITTED]).with_context(io)?;
    printer.line(&whole.digest().to_string());
    tell(&parts, &halvings, printer);
    printer.object(&json!({
        "out": out, "adapter": whole.digest().to_string(), "k": whole.k(),
        "rank": whole.shapes().first().map(|shape| shape.rank), "sites": whole.shapes().len(),
        "parts": parts.iter().zip(&halvings).map(|(part, halved)| told(&part.commitment, *halved)).collect::<Vec<_>>(),
        "stack_error": stack_error, "opening": openings.is_some(),
    }));
    Ok(Outcome::Done)
}

/// Refuses parts of which one is not registered; the key that says so.
fn registered(k: u32, parts: &[StackPart], folders: &[PathBuf], printer: &Printer) -> Result<CommitmentKey> {
    let _checking = printer.working("checking registrations");
    let key = commitment_key(k)?;
    for (part, folder) in parts.iter().zip(folders) {
        verify_registration(&key, &part.commitment, &part.registration)
            .with_context(|| folder.display().to_string())?;
    }
    Ok(key)
}

/// The factors of adapters as their commitments have them; refused, where these are commitments to others.
fn committed_to(
    adapters: &[Adapter],
    folders: &[PathBuf],
    parts: &[StackPart],
    openings: Option<&[Opening]>,
    key: &CommitmentKey,
) -> Result<Vec<Vec<SiteFactors>>> {
    let mut all = Vec::new();
    for (at, ((adapter, folder), part)) in adapters.iter().zip(folders).zip(parts).enumerate() {
        let factors = committed_factors(adapter, folder, &part.commitment)?;
        if let Some(openings) = openings {
            opens(key, &part.commitment, &openings[at], &factors).map_err(|failed| not_committed(folder, &failed))?;
        }
        all.push(factors);
    }
    Ok(all)
}

/// Says whether a commitment is the stack of registered parts, and of which, with which weights.
///
/// # Errors
/// Files that cannot be read: then it cannot be told.
pub fn verify(folder: &Path, printer: &Printer) -> Result<Outcome> {
    // What `ftk average` wrote, or a commitment or bundle.
    let inner = folder.join(COMMITTED);
    let folder = if inner.join(COMMITMENT).exists() { inner.as_path() } else { folder };
    let StackPart { commitment, registration } = published(folder)?;
    let digest = commitment.digest().to_string();
    if commitment.parts().is_empty() {
        let message = format!("{}: is a commitment to one adapter, and no stack", folder.display());
        return Err(Advice::new(message, "give what `ftk average --commitments` wrote, or a bundle of it").into());
    }
    let _checking = printer.working("checking registrations");
    let key = commitment_key(commitment.k())?;
    let found =
        verify_registration(&key, &commitment, &registration).and_then(|()| stack_parts(&commitment, &registration));
    match found {
        Ok(found) => {
            let (parts, halvings): (Vec<StackPart>, Vec<i32>) = found.into_iter().unzip();
            printer.line(&format!("yes: {digest} is the stack of its parts, and each is registered"));
            tell(&parts, &halvings, printer);
            let parts: Vec<Value> =
                parts.iter().zip(&halvings).map(|(part, halved)| told(&part.commitment, *halved)).collect();
            printer.object(&json!({
                "adapter": digest, "verdict": "valid", "base": commitment.base().to_string(), "parts": parts,
                "check": Value::Null, "reason": Value::Null,
            }));
            Ok(Outcome::Done)
        }
        Err(failed) => {
            printer.line(&format!("no: {failed}"));
            printer.object(&json!({
                "adapter": digest, "verdict": "invalid", "base": commitment.base().to_string(), "parts": [],
                "check": failed.check(), "reason": failed.to_string(),
            }));
            Ok(Outcome::No)
        }
    }
}

/// What the maker of a part has published in a folder.
fn published(folder: &Path) -> Result<StackPart> {
    let path = folder.join(REGISTRATION);
    let registration = foreign::read(&path, foreign::DOCUMENT);
    let registration = registration.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(StackPart { commitment: commitment_at(folder)?, registration })
}

/// The openings, if all are there.
fn openings(folders: &[PathBuf], parts: &[StackPart]) -> Result<Option<Vec<Opening>>> {
    if !folders.iter().all(|folder| folder.join(OPENING).exists()) {
        return Ok(None);
    }
    let read = |(folder, part): (&PathBuf, &StackPart)| {
        Ok(OpeningFile::read(&folder.join(OPENING), part.commitment.shapes())?.opening)
    };
    folders.iter().zip(parts).map(read).collect::<Result<_>>().map(Some)
}

/// How often the product is halved by a weight.
fn halvings(weight: f64) -> Result<i32> {
    let (fraction, exponent) = libm::frexp(weight);
    if fraction == 0.5 {
        return Ok(1 - exponent);
    }
    let message = format!("weights of a stack that is committed to are powers of two: {weight}");
    let hint = "a column of a commitment has rows of A and of B, so that a multiple of it is none of the product: scale the \
                adapter first (ftk average ADAPTER --weights WEIGHT --out SCALED) and have its owner commit to that";
    Err(Advice::new(message, hint).into())
}

/// What does not stand side by side, with what to do.
fn advised(failed: &CheckFailed) -> Advice {
    let hint = if matches!(failed, CheckFailed::StackScales(_)) {
        "have each part committed to once more with --round and the commitments of the others, so that scales meet"
    } else {
        "parts are commitments of one base at the same sites, each of one rank"
    };
    Advice::new(failed.to_string(), hint)
}

/// The factors of an adapter as its commitment has them.
fn committed_factors(adapter: &Adapter, folder: &Path, commitment: &AdapterCommitment) -> Result<Vec<SiteFactors>> {
    let order = || commitment.shapes().iter().map(|shape| shape.name.as_str());
    let fixed = of_committed(adapter, commitment.shapes()).with_context(|| folder.display().to_string())?;
    let factors = site_factors(&fixed, order());
    let same =
        adapter.sites.len() == factors.len() && factors.iter().map(|site| &site.shape).eq(commitment.shapes().iter());
    if same { Ok(factors) } else { Err(not_committed(folder, &"it has other sites, ranks or scales").into()) }
}

fn not_committed(folder: &Path, why: &dyn std::fmt::Display) -> Advice {
    let message = format!("{}: is not the adapter of its commitment: {why}", folder.display());
    Advice::new(message, "what `ftk commit` had to round is in the folder `adapter` beside the commitment")
}

/// The adapter of these integers.
fn adapter_of(factors: &[SiteFactors]) -> Adapter {
    let site = |SiteFactors { shape, a, b }: &SiteFactors| {
        let values = |entries: &[i16], shift: u8| entries.iter().map(|it| grid::value_16(*it, shift.into())).collect();
        let (rank, d_in, d_out) = (shape.rank as usize, shape.d_in as usize, shape.d_out as usize);
        let (a, b) = (values(a, shape.shift_a), values(b, shape.shift_b));
        (shape.name.clone(), Factors { rank, d_in, d_out, a, b, scale: 1.0 })
    };
    Adapter { sites: factors.iter().map(site).collect() }
}

/// What is public of a part.
fn told(part: &AdapterCommitment, halved: i32) -> Value {
    let rank = part.shapes().first().map(|shape| shape.rank);
    let transcript = part.transcript().map(|root: Digest| root.to_string());
    json!({ "adapter": part.digest().to_string(), "weight": libm::scalbn(1.0, -halved), "rank": rank, "transcript": transcript })
}

fn tell(parts: &[StackPart], halvings: &[i32], printer: &Printer) {
    for (part, halved) in parts.iter().zip(halvings) {
        let rank = part.commitment.shapes().first().map_or(0, |shape| shape.rank);
        let transcript = part.commitment.transcript();
        let transcript = transcript.map_or_else(String::new, |root| format!(", said to be of transcript {root}"));
        let weight = libm::scalbn(1.0, -halved);
        printer.line(&format!("part {} with weight {weight}, rank {rank}{transcript}", part.commitment.digest()));
    }
}
