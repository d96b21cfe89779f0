//! The stages of a run: which command each is, what is asked of it, and what it makes.

use std::path::Path;

use blake3::{Hash, Hasher};
use ftk_adapters::peft;
use ftk_recipes::Recipe;
use ftk_recipes::batch::FollowUps;
use serde_json::Value;

use super::super::run::{BASE, MANIFEST};

/// The recipe of the run, with the places of this machine.
pub(super) const ASKED: &str = "asked.toml";
/// Folder in the run folder for the commitment, and for the bundle.
pub(super) const COMMITMENT: &str = "commitment";
const BUNDLE: &str = "bundle";

/// A stage of a run.
pub(super) struct RunStage {
    /// What it is called: its verb.
    pub(super) name: &'static str,
    /// What is asked, and of what, by digest.
    pub(super) asked: Hash,
    /// Files and folders in the run folder that are there when it is done.
    pub(super) makes: Vec<&'static str>,
    pub(super) arguments: Vec<String>,
}

impl RunStage {
    /// Those of a run, in order.
    pub(super) fn all(then: &FollowUps, recipe: &Recipe, folder: &Path, content: &Hash) -> Vec<Self> {
        let place = |name: &str| folder.join(name).display().to_string();
        let (run, asked) = (folder.display().to_string(), place(ASKED));
        let base = recipe.base.model.display().to_string();
        let strings = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
        let mut stages = vec![Self {
            name: "train",
            asked: *content,
            makes: vec![MANIFEST, if recipe.lora.is_some() { peft::FACTORS } else { BASE }],
            arguments: strings(&["train", &asked, "--out", &run, "--resume"]),
        }];
        if then.eval {
            let whole = place(BASE);
            let what = if recipe.lora.is_some() { ["--adapter", &run] } else { ["--base", &whole] };
            let arguments = strings(&["eval", &asked, what[0], what[1]]);
            stages.push(Self { name: "eval", asked: behind(content, "eval", &()), makes: Vec::new(), arguments });
        }
        if let Some(sample) = &then.sample {
            let (whole, most) = (place(BASE), sample.max_tokens.to_string());
            let asking = [&*option("--prompt", &sample.prompt), "--max-tokens", &most];
            let after: &[&str] =
                if recipe.lora.is_some() { &["--base", &base, "--adapter", &run] } else { &["--base", &whole] };
            for (name, of) in [("before", &["--base", base.as_str()][..]), ("after", after)] {
                let arguments = strings(&[&["generate"][..], of, &asking].concat());
                stages.push(Self { name, asked: behind(content, name, sample), makes: Vec::new(), arguments });
            }
        }
        if !then.commit {
            return stages;
        }
        let commitment = place(COMMITMENT);
        let of_commitment = behind(content, "commit", &());
        let arguments = strings(&["commit", "--base", &base, "--adapter", &run, "--out", &commitment]);
        stages.push(Self { name: "commit", asked: of_commitment, makes: vec![COMMITMENT], arguments });
        let Some(prove) = &then.prove else { return stages };
        let bundle = place(BUNDLE);
        let of_proof = behind(&of_commitment, "prove", prove);
        let most = prove.max_tokens.to_string();
        let [prompt, context] = [option("--prompt", &prove.prompt), option("--context", &prove.context)];
        let asking = [&prompt, "--max-tokens", &most, &context, "--out", &bundle];
        let on = ["prove", "--base", &base, "--adapter", &run, "--commitment", &commitment];
        let arguments = strings(&[&on[..], &asking[..]].concat());
        stages.push(Self { name: "prove", asked: of_proof, makes: vec![BUNDLE], arguments });
        let [input, context] = [option("--expect-input", &prove.prompt), option("--expect-context", &prove.context)];
        let expecting = [&input, "--expect-max-tokens", &most, &context];
        let arguments = strings(&[&["verify", &bundle, "--base", &base][..], &expecting[..]].concat());
        stages.push(Self { name: "verify", asked: behind(&of_proof, "verify", &()), makes: Vec::new(), arguments });
        stages
    }

    /// Whether it belongs to training: several runs do that at the same time.
    pub(super) fn trains(&self) -> bool {
        ["train", "eval", "before", "after"].contains(&self.name)
    }

    /// What came of it, in a word.
    pub(super) fn said(&self, result: &Value) -> String {
        match self.name {
            "train" => format!("trained{}", figures(result.get("figures"))),
            "eval" => format!("measured{}", figures(result.get("figures"))),
            "before" | "after" => format!("sampled {} training", self.name),
            "commit" => format!("committed to {}", result["adapter"].as_str().unwrap_or_default()),
            "prove" => "proved".to_owned(),
            _ => format!("verified: {}", result["verdict"].as_str().unwrap_or_default()),
        }
    }
}

/// An option with what it is set to, which may begin with a dash.
fn option(name: &str, value: &str) -> String {
    format!("{name}={value}")
}

/// What is asked of what came before.
fn behind(before: &Hash, name: &str, settings: &impl serde::Serialize) -> Hash {
    let mut hasher = Hasher::new_derive_key("ftk stage of a batch");
    let settings = serde_json::to_string(settings).expect("settings have a JSON form");
    hasher.update(before.as_bytes()).update(name.as_bytes()).update(&[0]).update(settings.as_bytes());
    hasher.finalize()
}

/// Figures in a line.
pub(super) fn figures(figures: Option<&Value>) -> String {
    let figures = figures.and_then(Value::as_object).into_iter().flatten();
    let said = figures.filter_map(|(name, figure)| Some(format!(", {name} {:.4}", figure.as_f64()?)));
    said.collect()
}
