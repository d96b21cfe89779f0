//! An honest seller of a random adapter of the village base, through the command.

use std::path::{Path, PathBuf};

use ftk::models::Source;
use ftk_adapters::lora::Adapter;
use ftk_adapters::peft;
use ftk_adapters::sites::Role;
use ftk_adapters::train::{initial_factors, normal_values};

use crate::run::{ftk, succeed};

/// Adapter, commitment and bundles in one folder.
pub struct Seller {
    pub folder: PathBuf,
    pub digest: String,
}

impl Seller {
    /// Commits to a random adapter of its own.
    pub fn new(folder: PathBuf, seed: u64) -> Self {
        adapter(&folder.join("adapter"), seed);
        let mut command = ftk(&["commit", "--base", "village", "--quiet"]);
        command.arg("--adapter").arg(folder.join("adapter")).arg("--out").arg(folder.join("commitment"));
        let digest = succeed(&mut command).trim().to_owned();
        Self { folder, digest }
    }

    /// Proves an answer and gives the bundle's folder.
    pub fn prove(&self, name: &str, prompt: &str) -> PathBuf {
        let out = self.folder.join(name);
        let mut command = ftk(&["prove", "--base", "village", "--quiet", "--disclose", "--max-tokens", "6"]);
        command.args(["--context", "buyer 7", "--prompt", prompt]).arg("--out").arg(&out);
        command.arg("--adapter").arg(self.folder.join("adapter"));
        command.arg("--commitment").arg(self.folder.join("commitment"));
        succeed(&mut command);
        out
    }
}

/// Writes a random adapter on two linear layers of every block.
pub fn adapter(folder: &Path, seed: u64) {
    let source = Source::open(Path::new("village")).unwrap();
    let (shapes, sites) = (source.network().shapes(), source.network().sites());
    let mut adapter = Adapter::default();
    for site in sites.iter().filter(|site| site.role == Role::Linear) {
        if site.name.ends_with("v_proj") || site.name.ends_with("down_proj") {
            let shape = &shapes[&format!("{}.weight", site.weight)];
            let mut factors = initial_factors(&site.name, 2, (shape[0], shape[1]), 1.0, seed);
            factors.b = normal_values(&site.name, factors.b.len(), 0.05, seed);
            adapter.sites.insert(site.name.clone(), factors);
        }
    }
    let linear: Vec<String> = sites.iter().filter(|site| site.role == Role::Linear).map(|s| s.name.clone()).collect();
    peft::save(folder, &adapter, "village", &linear, false).unwrap();
}
