//! `ftk commit`: a hiding commitment to an adapter, the proof that its entries are 16-bit integers,
//! and the secret that opens it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use candle_core::Device;
use ftk_adapters::atomic;
use ftk_adapters::lora::Adapter;
use ftk_adapters::staged::{Staged, There};
use ftk_adapters::train::Train;
use ftk_adapters::{foreign, notes, peft};
use ftk_bases::LoadedModel;
use ftk_circuits::{AdapterCommitment, Digest, SiteFactors, SiteShape, commit, register, required_k};
use ftk_kernels::grid;
use ftk_networks::ops::Tokens;
use ftk_networks::sites::Role;
use ftk_proofs::bundle::{COMMITMENT, HEAD, REGISTRATION};
use ftk_proofs::fixed::{Adaptation, Fixed, FixedAdapter};
use ftk_proofs::head::head_bytes;
use ftk_proofs::hex::parse_digest;
use ftk_proofs::{FixedModel, Net};
use serde_json::json;

use super::card::{self, Card};
use super::origin::other_bases;
use super::run::NOTE;
use super::{Advice, Committable, Outcome, adapter_notes, exact, fits_memory, frozen, plain_text, unwritable};
use crate::cli::printer::Printer;
use crate::prove::cost::{self, BaseCost, Costs};
use crate::prove::fixed::{Agreement, of_committed};
use crate::prove::keys::commitment_key;
use crate::prove::opening::{OPENING, OpeningFile};
use crate::prove::rounding::{SiteError, errors};
use crate::prove::subject::ProvedBase;

/// Folder, beside the commitment, of an adapter that was rounded.
pub const ROUNDED: &str = "adapter";
/// What rounding did, site by site.
const ROUNDING: &str = "rounding.json";

/// Tokens of one pass when fixed and floating point are compared.
const WINDOW: usize = 256;

/// What is needed.
pub struct Settings {
    /// Base model.
    pub base: PathBuf,
    /// PEFT adapter folder.
    pub adapter: PathBuf,
    /// Folder for the three files.
    pub out: PathBuf,
    /// Whether the commitment names the root of the adapter's training transcript.
    pub transcript: bool,
    /// Text on which fixed and floating point are compared.
    pub text: Option<PathBuf>,
    /// Commitments, or folders with them, whose scales this one is to meet, so that they can be stacked.
    pub round: Vec<PathBuf>,
    /// Bytes of memory that there are, if not what is free.
    pub max_memory: Option<u64>,
}

/// Commits, registers, and writes all three files.
///
/// # Errors
/// An adapter that does not fit or is not on the grid; a folder that already holds a commitment.
pub fn run(settings: &Settings, printer: &Printer) -> Result<Outcome> {
    let Made { digest, base, transcript, sites, k, rounding, report } = make(settings, printer)?;
    let out = &settings.out;
    printer.line(&digest);
    if let Some(rounding) = &rounding {
        let worst = rounding.iter().max_by(|a, b| a.1.relative().total_cmp(&b.1.relative()));
        let worst = worst.map_or_else(String::new, |(site, error)| {
            format!("; the largest relative error is {:.2e}, at {site}", error.relative())
        });
        printer.note(&format!(
            "rounded the adapter to 16-bit integers{worst}; what is committed to, and to be used from now on, is in {}",
            out.join(ROUNDED).display()
        ));
    }
    if let Some(root) = &transcript {
        printer.note(&format!("names the training whose transcript has root {root}"));
    }
    printer.note(&format!("{sites} sites, k = {k}; keep {} secret", out.join(OPENING).display()));
    if let Some((tokens, agreement)) = report {
        printer.note(&format!(
            "fixed against floating point on {tokens} tokens: top-1 agreement {:.2} %, mean |log-prob difference| {:.5} nat",
            100.0 * agreement.top1,
            agreement.log_prob
        ));
    }
    printer.object(&json!({
        "adapter": digest,
        "base": base,
        "transcript": transcript,
        "sites": sites,
        "rounded": rounding.as_ref().map(|sites| json!({ "adapter": out.join(ROUNDED), "sites": sites })),
        "agreement": report.map(|(tokens, agreement)| json!({
            "tokens": tokens, "top1": agreement.top1, "log_prob": agreement.log_prob
        })),
    }));
    Ok(Outcome::Done)
}

/// What was made.
pub(super) struct Made {
    /// Digest of the commitment.
    pub digest: String,
    /// Digest of the base.
    base: String,
    /// Root of the training transcript that it names.
    transcript: Option<String>,
    /// Sites that carry an adapter.
    sites: usize,
    /// Logarithm of a column's length.
    k: u32,
    /// What rounding to integers did to each site, if anything.
    rounding: Option<BTreeMap<String, SiteError>>,
    /// Tokens on which fixed and floating point were compared, and how it came out.
    report: Option<(usize, Agreement)>,
}

/// Commits, registers, writes the files, and prints nothing on stdout.
///
/// # Errors
/// As [`run`].
pub(super) fn make(settings: &Settings, printer: &Printer) -> Result<Made> {
    for name in [COMMITMENT, OPENING, ROUNDED] {
        let path = settings.out.join(name);
        if path.exists() {
            let message = format!("{}: is there already", path.display());
            return Err(Advice::new(message, "choose another folder with --out; an opening is never replaced").into());
        }
    }
    let staged = Staged::new(&settings.out, There::Stays).map_err(|error| unwritable(&settings.out, &error))?;
    let io = || format!("cannot write to {}", settings.out.display());
    let Committable { subject, adapter, head } = Committable::open(&settings.base, &settings.adapter)?;
    if let ProvedBase::Tokens(source) = &subject {
        adapter_notes(source, Some(&settings.adapter)).iter().for_each(|note| printer.note(note));
    }
    let transcript = settings.transcript.then(|| transcript_of(&settings.adapter)).transpose()?;
    // An adapter that names a base of the hub goes on naming it, whatever file its base was read from here.
    let own = peft::base_name(&settings.adapter)?.filter(|name| card::is_on_hub(name));
    let (net, name) = (subject.net(), own.unwrap_or_else(|| subject.name()));
    let shapes = cost::shapes(&net, &adapter);
    let costs = Costs::of(BaseCost::of(&net), &shapes, 0).with_context(|| settings.adapter.display().to_string())?;
    fits_memory("the commitment", costs.commit_memory, settings.max_memory)?;
    let (fixed, model) = exact(subject)?;
    // Runs on graphs name the weights that they start from by another digest.
    let folder = matches!(net, Net::Tokens(_)).then_some(settings.adapter.as_path());
    other_bases(folder, || Some(fixed.digest().0)).iter().for_each(|note| printer.note(note));
    let given = adapter;
    let mut rounded = given.on_grid().with_context(|| settings.adapter.display().to_string())?;
    let shapes =
        if settings.round.is_empty() { Vec::new() } else { meet(&settings.round, &fixed, &mut rounded, printer)? };
    let rounding = (rounded != given).then(|| errors(&given, &rounded));
    let adapter = rounded;
    if transcript.is_some() && rounding.is_some() {
        let message = format!("{}: is not as the run wrote it: it had to be rounded", settings.adapter.display());
        return Err(Advice::new(message, "commit to the run's own adapter, or without --transcript").into());
    }
    let (fixed_adapter, factors) = committed_form(&fixed, &adapter, &shapes, &settings.adapter)?;
    let report = match (&settings.text, &model) {
        (Some(path), Some(model)) => Some(compare(model, &fixed, &adapter, &fixed_adapter, path)?),
        (Some(_), None) => {
            return Err(Advice::new("the base is one of graphs, which reads no text", "leave --text away").into());
        }
        (None, Some(model)) => {
            if let Err(error) = try_one(model, &fixed, &fixed_adapter) {
                let what =
                    "on a single token this base does not fit the exact network, so that proofs may not be possible";
                printer.note(&format!("{what}: {error}; look with --text"));
            }
            None
        }
        (None, None) => None,
    };

    let shapes: Vec<_> = factors.iter().map(|site| site.shape.clone()).collect();
    let key = commitment_key(required_k(&shapes)?)?;
    let (mut commitment, opening) = commit(&key, fixed.digest(), &factors)?;
    if let Some(root) = transcript {
        commitment = commitment.of_transcript(root);
    }
    let _pulse = printer.pulse("registering");
    let bar = printer.bar(0, "registering");
    let registration = register(&key, &commitment, &opening, &factors, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();

    let out = staged.path();
    if let Some(rounding) = &rounding {
        let linear = net.sites().into_iter().filter(|site| site.role == Role::Linear);
        let linear: Vec<String> = linear.map(|site| site.name).collect();
        match &net {
            Net::Tokens(network) => {
                peft::save(&out.join(ROUNDED), &adapter, &name, &linear, network.fan_in_fan_out())?;
            }
            Net::Graph(_) => {
                let head = head.clone().unwrap_or_default();
                peft::save_with_saved(&out.join(ROUNDED), &adapter, &head, &name, &linear)?;
            }
        }
        let digest = commitment.digest().to_string();
        Card { commitment: Some(&digest), ..Card::default() }.write(&out.join(ROUNDED))?;
        let text = serde_json::to_string_pretty(rounding).context("figures of rounding")? + "\n";
        atomic::write(&out.join(ROUNDING), text.as_bytes()).with_context(io)?;
    }
    atomic::write_secret(&out.join(OPENING), &OpeningFile::new(opening, &shapes).encode()).with_context(io)?;
    atomic::write(&out.join(REGISTRATION), &registration).with_context(io)?;
    if let Some(head) = &head {
        atomic::write(&out.join(HEAD), &head_bytes(head)).with_context(io)?;
    }
    atomic::write(&out.join(COMMITMENT), &commitment.encode()).with_context(io)?;
    // Where files are moved one by one the secret is before it: a commitment without its opening is worthless.
    staged.persist(&[COMMITMENT]).with_context(io)?;

    let (digest, base) = (commitment.digest().to_string(), fixed.digest().to_string());
    let transcript = transcript.map(|root| root.to_string());
    Ok(Made { digest, base, transcript, sites: shapes.len(), k: key.k(), rounding, report })
}

/// The root of the training transcript that an adapter's file names.
fn transcript_of(folder: &Path) -> Result<Digest> {
    let noted = notes::noted(folder, NOTE)?;
    noted.as_deref().and_then(parse_digest).ok_or_else(|| {
        let message = format!("{}: names no transcript that it is the result of", folder.display());
        Advice::new(message, "train with run.transcript = true, or commit without --transcript").into()
    })
}

/// The commitment at a path, or in the folder there.
///
/// # Errors
/// None there, or none of this version.
pub(super) fn commitment_at(path: &Path) -> Result<AdapterCommitment> {
    let path = if path.is_dir() { path.join(COMMITMENT) } else { path.to_owned() };
    let bytes = foreign::read(&path, foreign::DOCUMENT).with_context(|| format!("cannot read {}", path.display()))?;
    AdapterCommitment::decode(&bytes).with_context(|| path.display().to_string())
}

/// Rounds an adapter further, so that the scale of each product, `shift_a + shift_b`, is the coarsest of a round: its own,
/// or that of one of the commitments. Gives the shapes that it is to be committed to with.
///
/// # Errors
/// A commitment that cannot be read, or is for another base or other sites.
fn meet(round: &[PathBuf], fixed: &FixedModel, adapter: &mut Adapter, printer: &Printer) -> Result<Vec<SiteShape>> {
    let mut shapes: Vec<SiteShape> =
        fixed.factors(&of_committed(adapter, &[])?).into_iter().map(|site| site.shape).collect();
    let own: Vec<u8> = shapes.iter().map(|shape| shape.shift_a + shape.shift_b).collect();
    let (mut least, mut coarsest) = (own.clone(), false);
    for path in round {
        let other = commitment_at(path)?;
        let differs = |what: &str| {
            let message = format!("{}: cannot be stacked with this adapter: {what}", path.display());
            Advice::new(message, "a round is of adapters of one base, at the same sites")
        };
        if other.base() != fixed.digest() {
            return Err(differs("it is for another base").into());
        }
        let site = |shape: &SiteShape| (shape.name.clone(), shape.d_in, shape.d_out);
        if !other.shapes().iter().map(site).eq(shapes.iter().map(site)) {
            return Err(differs("it has other sites").into());
        }
        for ((least, own), shape) in least.iter_mut().zip(&own).zip(other.shapes()) {
            let scale = shape.shift_a.saturating_add(shape.shift_b);
            coarsest |= *own < scale;
            *least = (*least).min(scale);
        }
    }
    if coarsest {
        printer.note("some of its scales are coarser than those of the round: the others commit again, with --round and this one");
    }
    for ((shape, own), least) in shapes.iter_mut().zip(own).zip(least) {
        // Half of the bits from either factor, so that neither loses more than the other.
        let less = own - least;
        let from_a = (less / 2).min(shape.shift_a);
        shape.shift_a -= from_a;
        shape.shift_b -= less - from_a;
        let factors = adapter.sites.get_mut(&shape.name).context("a site is lost")?;
        for (values, shift) in [(&mut factors.a, shape.shift_a), (&mut factors.b, shape.shift_b)] {
            let entries = grid::quantise_16_at(values, shift.into()).context("a coarser scale")?;
            *values = entries.into_iter().map(|entry| grid::value_16(entry, shift.into())).collect();
        }
    }
    Ok(shapes)
}

/// The integers that are committed, at the scales of these shapes, with advice where an adapter has none.
pub(super) fn committed_form(
    fixed: &FixedModel,
    adapter: &Adapter,
    shapes: &[SiteShape],
    folder: &Path,
) -> Result<(FixedAdapter, Vec<SiteFactors>)> {
    let integers = of_committed(adapter, shapes).map_err(|error| {
        let message = format!("{}: {error}", folder.display());
        Advice::new(
            message,
            "give the adapter as it was committed to: what `ftk commit` had to round is in the folder `adapter` beside \
             the commitment",
        )
    })?;
    let factors = fixed.factors(&integers);
    Ok((integers, factors))
}

/// Runs the exact network on the token that texts begin with: what is large in a network is large there.
fn try_one(model: &LoadedModel, fixed: &FixedModel, adapter: &FixedAdapter) -> Result<()> {
    let special = model.source.special();
    let tokens = Tokens::sequence(vec![special.bos.or(special.eos).unwrap_or(0)]);
    let mut ops = Fixed::new(fixed.base(), Adaptation::Factors(adapter));
    model.source.network().forward(&mut ops, &tokens, &[0])?;
    Ok(())
}

/// Exact integers against f32 on a text, in windows.
fn compare(
    model: &LoadedModel,
    fixed: &FixedModel,
    adapter: &Adapter,
    fixed_adapter: &FixedAdapter,
    path: &Path,
) -> Result<(usize, Agreement)> {
    let text = plain_text(path)?;
    let ids = model.source.tokenizer()?.encode(&text, true)?;
    if ids.is_empty() {
        return Err(Advice::new(format!("{}: holds no text", path.display()), "give some text to compare on").into());
    }
    let tensors = frozen(Some(adapter), &Device::Cpu)?;
    let (mut top1, mut log_prob) = (0.0, 0.0);
    for window in ids.chunks(WINDOW.min(model.source.network().context())) {
        let tokens = Tokens::sequence(window.to_vec());
        let rows: Vec<usize> = (0..window.len()).collect();
        let network = model.source.network();
        let float = network.forward(&mut Train::new(&model.weights, tensors.as_ref()), &tokens, &rows)?;
        let float = float.flatten_all()?.to_vec1::<f32>()?;
        let mut ops = Fixed::new(fixed.base(), Adaptation::Factors(fixed_adapter));
        let exact = network.forward(&mut ops, &tokens, &rows)?;
        let agreement = Agreement::of(&exact, &float).context("the two interpretations differ in shape")?;
        top1 += agreement.top1 * window.len() as f64;
        log_prob += agreement.log_prob * window.len() as f64;
    }
    let count = ids.len() as f64;
    Ok((ids.len(), Agreement { top1: top1 / count, log_prob: log_prob / count }))
}
