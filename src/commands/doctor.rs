//! `ftk doctor`: what ftk finds on this machine, and what to do about what stands in its way. It changes nothing.

use std::path::Path;

use candle_core::DType;
use ftk_adapters::cache;
use rustix::fs::statvfs;
use serde_json::{Value, json};

use super::Outcome;
use crate::arithmetic;
use crate::cli::printer::Printer;
use crate::device::DeviceName;
use crate::prove::cost::available_memory;

/// Free memory below which most bases do not train.
const LITTLE_MEMORY: u64 = 2 << 30;
/// Free space below which downloads and results soon fail.
const LITTLE_SPACE: u64 = 1 << 30;

/// How a thing is found.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Fine,
    /// It works, but not as well as it could.
    Note,
    /// Something cannot be done.
    Problem,
}

/// A thing that was looked at.
struct Symptom {
    /// What was looked at.
    what: &'static str,
    state: State,
    says: String,
    /// What to do, unless all is fine.
    remedy: Option<String>,
}

impl Symptom {
    fn fine(what: &'static str, says: impl Into<String>) -> Self {
        Self { what, state: State::Fine, says: says.into(), remedy: None }
    }

    fn other(what: &'static str, state: State, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what, state, says: says.into(), remedy: Some(remedy.into()) }
    }

    fn problem(what: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::other(what, State::Problem, says, remedy)
    }

    fn lines(&self) -> Vec<String> {
        let mark = match self.state {
            State::Fine => "",
            State::Note => "note: ",
            State::Problem => "problem: ",
        };
        let remedy = self.remedy.iter().map(|remedy| format!("{:12}remedy: {remedy}", ""));
        std::iter::once(format!("{:12}{mark}{}", self.what, self.says)).chain(remedy).collect()
    }

    fn object(&self) -> Value {
        let state = match self.state {
            State::Fine => "fine",
            State::Note => "note",
            State::Problem => "problem",
        };
        json!({ "what": self.what, "state": state, "says": self.says, "remedy": self.remedy })
    }
}

/// Looks, and says what it finds.
///
/// # Errors
/// None; the outcome is no where there is a problem.
pub fn run(offline: bool, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut findings = vec![program(), processor(), memory(), devices(), temporary(), own_cache()];
    findings.extend(hub(offline, printer));
    let problems = findings.iter().filter(|finding| finding.state == State::Problem).count();
    findings.iter().flat_map(Symptom::lines).for_each(|line| printer.line(&line));
    printer.line(&match problems {
        0 => "no problem was found".to_owned(),
        1 => "one problem was found".to_owned(),
        several => format!("{several} problems were found"),
    });
    printer.object(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "findings": findings.iter().map(Symptom::object).collect::<Vec<_>>(),
        "problem_count": problems,
    }));
    Ok(if problems == 0 { Outcome::Done } else { Outcome::No })
}

fn program() -> Symptom {
    let formats = [DType::F32, DType::BF16].map(|format| arithmetic::name(&candle_core::Device::Cpu, format, false));
    let (version, system, processor) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    Symptom::fine("ftk", format!("{version} for {system} on {processor}; computes in {}", formats.join(" and ")))
}

/// What the processor has of what the kernels use. The bytes are the same without it.
fn processor() -> Symptom {
    let threads = rayon::current_num_threads();
    let of = |sets: &[(&str, bool)]| {
        let (has, lacks): (Vec<_>, Vec<_>) = sets.iter().partition(|(_, has)| *has);
        [has, lacks].map(|sets: Vec<&(&str, bool)>| sets.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))
    };
    #[cfg(target_arch = "x86_64")]
    let (slow, [has, lacks]) = {
        let fused = is_x86_feature_detected!("fma");
        let sets = [
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("FMA", fused),
            ("AVX-512", is_x86_feature_detected!("avx512f")),
            ("AVX512-VNNI", is_x86_feature_detected!("avx512vnni")),
            ("AVX512-BF16", is_x86_feature_detected!("avx512bf16")),
            ("AMX-BF16", ftk_kernels::float::bf16::has_tiles()),
        ];
        (!fused, of(&sets))
    };
    #[cfg(not(target_arch = "x86_64"))]
    let (slow, [has, lacks]) = (false, of(&[("what its kind always has", true)]));
    let says =
        format!("{threads} threads; has {has}{}", if lacks.is_empty() { lacks } else { format!("; not {lacks}") });
    if slow {
        let remedy = "another processor: multiplying and adding in one step is emulated here, which is slow";
        return Symptom::other("processor", State::Note, says, remedy);
    }
    Symptom::fine("processor", says)
}

fn memory() -> Symptom {
    match available_memory() {
        None => Symptom::fine("memory", "the system does not say how much is free"),
        Some(free) if free < LITTLE_MEMORY => Symptom::other(
            "memory",
            State::Note,
            format!("{} free", gib(free)),
            "`ftk estimate RECIPE` says what a run needs; smaller batches need less",
        ),
        Some(free) => Symptom::fine("memory", format!("{} free", gib(free))),
    }
}

fn devices() -> Symptom {
    let known = [(DeviceName::Cuda(0), cfg!(feature = "cuda")), (DeviceName::Metal, cfg!(feature = "metal"))];
    let mut says = vec!["cpu".to_owned()];
    for (device, _) in known.iter().filter(|(_, built)| *built) {
        match device.open() {
            Ok(_) => says.push(device.to_string()),
            Err(error) => {
                let remedy = "check the driver; without --device the CPU computes";
                return Symptom::other("devices", State::Note, format!("cpu; {error}"), remedy);
            }
        }
    }
    if says.len() == 1 {
        says.push("this build knows no other (features cuda, metal)".to_owned());
    }
    Symptom::fine("devices", says.join("; "))
}

fn temporary() -> Symptom {
    let folder = std::env::temp_dir();
    match tempfile::tempfile_in(&folder) {
        Ok(_) => space("temporary", &folder, format!("{}", folder.display())),
        Err(error) => {
            let remedy = "name a folder that can be written to in TMPDIR";
            Symptom::problem("temporary", format!("{}: {error}", folder.display()), remedy)
        }
    }
}

/// The folder of parameters of commitments, and of rows that ship.
fn own_cache() -> Symptom {
    let Some(folder) = cache::folder() else {
        let remedy = "name a folder in FTK_CACHE; without it parameters of commitments are computed each time";
        return Symptom::other("own cache", State::Note, "the environment names none", remedy);
    };
    writable("own cache", &folder, "name a folder that can be written to in FTK_CACHE")
}

/// Whether a folder, or the nearest above it that is there, can be written to, and has room.
fn writable(what: &'static str, folder: &Path, remedy: &str) -> Symptom {
    let there = folder.ancestors().find(|above| above.exists()).unwrap_or(folder);
    match tempfile::tempfile_in(there) {
        Ok(_) if there == folder => space(what, there, folder.display().to_string()),
        Ok(_) => space(what, there, format!("{}, made when it is needed", folder.display())),
        Err(error) => Symptom::problem(what, format!("{}: {error}", there.display()), remedy),
    }
}

fn space(what: &'static str, folder: &Path, says: String) -> Symptom {
    let Ok(system) = statvfs(folder) else { return Symptom::fine(what, says) };
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    let says = format!("{says}; {} free", gib(free));
    if free < LITTLE_SPACE {
        return Symptom::other(what, State::Note, says, "make room, or name another folder");
    }
    Symptom::fine(what, says)
}

#[cfg(not(feature = "hub"))]
fn hub(_: bool, _: &Printer) -> Vec<Symptom> {
    vec![Symptom::fine("hub", "this build knows none (feature hub)")]
}

#[cfg(feature = "hub")]
fn hub(offline: bool, printer: &Printer) -> Vec<Symptom> {
    use ftk_adapters::hint::Hint;
    use ftk_bases::hub::{Hub, HubError};

    let wrong = |what, error: &HubError| Symptom::problem(what, error.to_string(), error.hint().unwrap_or_default());
    let hub = match Hub::from_env(offline) {
        Ok(hub) => hub,
        Err(error) => return vec![wrong("hub", &error)],
    };
    let cache = writable("hub cache", hub.cache(), "name a folder that can be written to in HF_HUB_CACHE or HF_HOME");
    if hub.is_offline() {
        return vec![cache, Symptom::fine("hub", format!("{}, not asked: offline", hub.endpoint()))];
    }
    let reached = match hub.greet(&|waiting| printer.note(waiting)) {
        Ok(Some(name)) => Symptom::fine("hub", format!("{}, as {name}", hub.endpoint())),
        Ok(None) => Symptom::fine("hub", format!("{}, without a token", hub.endpoint())),
        Err(error @ HubError::Transfer { .. }) => {
            let remedy =
                "check the connection, HF_ENDPOINT and the proxy (HTTPS_PROXY); --offline uses the cache alone";
            Symptom::other("hub", State::Note, error.to_string(), remedy)
        }
        Err(error) => wrong("hub", &error),
    };
    vec![cache, reached]
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
}
