//! Somebody who sells an adapter for the village base, and what a buyer and a forger do with a bundle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ftk::prove::bundle;
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft;
use ftk_adapters::train::{initial_factors, normal_values};
use ftk_bases::BaseModel;
use ftk_networks::sites::Role;
use ftk_proofs::bundle::{Bundle, Files};
use ftk_proofs::limits::Limits;
use serde_json::Value;

use crate::run::{ftk, succeed};

/// More than there are rows of a short answer: then any deltas are those of some adapter of that rank, and can be
/// written down by a forger.
const RANK: usize = 24;

/// An honest seller: adapter, commitment and bundle in one folder.
pub struct Seller {
    /// Holds `adapter`, `commitment` and bundles.
    pub folder: PathBuf,
    /// Of the commitment.
    pub digest: String,
}

impl Seller {
    /// Commits to a random adapter of its own.
    pub fn new(folder: PathBuf, seed: u64) -> Self {
        Self::of_rank(folder, seed, RANK)
    }

    /// The same with another rank.
    pub fn of_rank(folder: PathBuf, seed: u64, rank: usize) -> Self {
        adapter_of_rank(&folder.join("adapter"), seed, rank);
        let mut command = ftk(&["commit", "--base", "village", "--quiet"]);
        command.arg("--adapter").arg(folder.join("adapter")).arg("--out").arg(folder.join("commitment"));
        let digest = succeed(&mut command).trim().to_owned();
        Self { folder, digest }
    }

    /// Proves an answer in the open and gives the bundle's folder.
    pub fn prove(&self, name: &str, prompt: &str) -> PathBuf {
        self.prove_with(name, &["--max-tokens", "6", "--context", "buyer 7", "--prompt", prompt])
    }

    /// Proves what the arguments say, in the open.
    pub fn prove_with(&self, name: &str, arguments: &[&str]) -> PathBuf {
        self.prove_as(&["--open", "--disclose"], name, arguments)
    }

    /// Proves it and tells nothing else.
    pub fn seal(&self, name: &str, arguments: &[&str]) -> PathBuf {
        self.prove_as(&[], name, arguments)
    }

    fn prove_as(&self, mode: &[&str], name: &str, arguments: &[&str]) -> PathBuf {
        let out = self.folder.join(name);
        let mut command = ftk(&["prove", "--base", "village", "--quiet"]);
        command.args(mode).args(arguments).arg("--out").arg(&out);
        command.arg("--adapter").arg(self.folder.join("adapter"));
        command.arg("--commitment").arg(self.folder.join("commitment"));
        succeed(&mut command);
        out
    }
}

/// Writes a random adapter on two linear layers of every block.
pub fn adapter(folder: &Path, seed: u64) {
    adapter_of_rank(folder, seed, RANK);
}

/// The same of any rank.
pub fn adapter_of_rank(folder: &Path, seed: u64, rank: usize) {
    let source = BaseModel::open(Path::new("village")).unwrap();
    let (shapes, sites) = (source.network().shapes(), source.network().sites());
    let mut adapter = Adapter::default();
    for site in sites.iter().filter(|site| site.role == Role::Linear) {
        if site.name.ends_with("v_proj") || site.name.ends_with("down_proj") {
            let shape = &shapes[&format!("{}.weight", site.weight)];
            let mut factors = initial_factors(&site.name, rank, (shape[0], shape[1]), 1.0, seed);
            factors.b = normal_values(&site.name, factors.b.len(), 0.05, seed);
            adapter.sites.insert(site.name.clone(), factors);
        }
    }
    let linear: Vec<String> = sites.iter().filter(|site| site.role == Role::Linear).map(|s| s.name.clone()).collect();
    peft::save(folder, &adapter, "village", &linear, false).unwrap();
}

/// What the verifier says: exit code, verdict or check.
pub fn verify(bundle: &Path, expectations: &[&str]) -> (i32, String) {
    verify_on("village".as_ref(), bundle, expectations)
}

pub fn verify_on(base: &Path, bundle: &Path, expectations: &[&str]) -> (i32, String) {
    let mut command = ftk(&["verify", "--json", "--quiet"]);
    let output = command.arg("--base").arg(base).arg(bundle).args(expectations).output().unwrap();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let said = ["check", "verdict", "error"].iter().find_map(|key| value[key].as_str());
    (output.status.code().unwrap(), said.unwrap().to_owned())
}

/// Files as a verifier takes them.
pub fn slices(files: &BTreeMap<String, Vec<u8>>) -> Files<'_> {
    files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect()
}

/// Writes a changed copy of a bundle.
pub fn forged(bundle: &Path, name: &str, forge: impl FnOnce(&mut Bundle)) -> PathBuf {
    let mut content = bundle::read(bundle, &Limits::NONE).unwrap();
    forge(&mut content);
    let out = bundle.with_file_name("forged").join(name);
    bundle::write(&content, &out).unwrap();
    out
}
