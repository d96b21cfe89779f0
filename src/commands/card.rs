//! The model card beside an adapter, which hubs and people read first: base, recipe and figures, with PEFT's metadata in
//! front.

use std::path::Path;

use anyhow::{Context, Result};
use ftk_adapters::{atomic, foreign, peft};
use ftk_bases::HubName;
use ftk_recipes::Recipe;
use serde_json::{Map, Value};

use crate::train::METRICS;

/// File name of the card.
pub(super) const CARD: &str = "README.md";

/// What a card says beside what is in the adapter's files.
#[derive(Default)]
pub(super) struct Card<'a> {
    /// How the adapter was trained, where that is known.
    pub(super) recipe: Option<&'a Recipe>,
    /// Figures by name.
    pub(super) figures: Vec<(String, String)>,
    /// Digest of the commitment to it.
    pub(super) commitment: Option<&'a str>,
}

/// Whether a name is one on the hub, and nothing of that name is here.
pub(super) fn is_on_hub(name: &str) -> bool {
    HubName::parse(name).is_some_and(|found| found.id == name) && !Path::new(name).exists()
}

/// The figures of a run's step, of those that were written down.
///
/// # Errors
/// Metrics that cannot be read.
pub(super) fn figures(out: &Path, step: usize) -> Result<Vec<(String, String)>> {
    let path = out.join(METRICS);
    let text = foreign::read_text(&path, foreign::DATA).with_context(|| format!("cannot read {}", path.display()))?;
    let records = text.lines().filter_map(|line| serde_json::from_str::<Map<String, Value>>(line).ok());
    let of_step = records.filter(|record| record.get("step").and_then(Value::as_u64) == Some(step as u64));
    // Rates and norms say nothing of the result.
    let told = |name: &str| !["learning_rate", "grad_norm", "num_tokens", "epoch"].contains(&name);
    let figure = |(name, value): (String, Value)| match (name.as_str(), value.as_f64()) {
        ("step", Some(step)) => Some((name, step.to_string())),
        (_, Some(figure)) if told(&name) => Some((name, format!("{figure:.4}"))),
        _ => None,
    };
    Ok(of_step.flatten().filter_map(figure).collect())
}

impl Card<'_> {
    /// Writes the card of the adapter in a folder, unless somebody has written one.
    ///
    /// # Errors
    /// An adapter that cannot be read, a folder that cannot be written to.
    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        if folder.join(CARD).exists() { Ok(()) } else { self.rewrite(folder) }
    }

    /// [`Card::write`] in the place of the card of what this adapter was before.
    ///
    /// # Errors
    /// As [`Card::write`].
    pub(super) fn rewrite(&self, folder: &Path) -> Result<()> {
        let (path, text) = (folder.join(CARD), self.text(folder)?);
        atomic::write(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
    }

    fn text(&self, folder: &Path) -> Result<String> {
        let survey = peft::survey(folder)?;
        let said = survey.config.get("base_model_name_or_path").and_then(Value::as_str).unwrap_or_default();
        // Metadata takes names of the hub and no paths, and a path of this machine is nobody's business.
        let hub = is_on_hub(said).then_some(said);
        let base = hub.unwrap_or_else(|| last(said));
        let mut text = "---\n".to_owned();
        if let Some(hub) = hub {
            text += &format!("base_model: {hub}\n");
        }
        text += "library_name: peft\n";
        if survey.config.get("task_type").and_then(Value::as_str) == Some("CAUSAL_LM") {
            text += "pipeline_tag: text-generation\n";
        }
        text += "tags:\n";
        if let Some(hub) = hub {
            text += &format!("- base_model:adapter:{hub}\n");
        }
        text += "- ftk\n- lora\n---\n\n";
        let ranks: Vec<String> = survey.ranks().iter().map(ToString::to_string).collect();
        text += &format!("# LoRA adapter of {}\n\n", code(base));
        text += &format!("{} layers, rank {}, ", survey.sites.len(), ranks.join(", "));
        text += "in PEFT's format. The scale is absorbed into `lora_B`, and every value is a 16-bit integer times a \
                 power of two; where a layer has a lower rank, zeros fill it up.\n";
        if hub.is_none() && !said.is_empty() {
            text += "\nThe base was no model of the hub under a name of its own: `base_model_name_or_path` in \
                     `adapter_config.json` says what it was called where the adapter was made. To load both at once, \
                     write there where you have it.\n";
        }
        if let Some(digest) = self.commitment {
            text +=
                &format!("\nCommitted to as {}: proofs of what this adapter answers name that digest.\n", code(digest));
        }
        if !self.figures.is_empty() {
            text += "\n| figure | value |\n|---|---|\n";
            self.figures.iter().for_each(|(name, value)| text += &format!("| {} | {value} |\n", code(name)));
        }
        if let Some(recipe) = self.recipe {
            let recipe = toml::to_string(&placeless(recipe).resolved()).context("cannot write the recipe down")?;
            text += &format!("\n## Recipe\n\n```toml\n# With files by their names.\n{recipe}```\n");
        }
        Ok(text)
    }
}

/// The recipe with files by their names: whoever reads a card has other folders.
fn placeless(recipe: &Recipe) -> Recipe {
    let mut recipe = recipe.portable();
    let bare = |path: &mut std::path::PathBuf| {
        if HubName::of(path).is_none() {
            *path = last(&path.to_string_lossy()).into();
        }
    };
    bare(&mut recipe.base.model);
    recipe.rows_mut().for_each(|(_, path)| bare(path));
    recipe.lora.iter_mut().filter_map(|lora| lora.start.as_mut()).for_each(bare);
    recipe.gnn.iter_mut().filter_map(|gnn| gnn.feedback.as_mut()).for_each(bare);
    bare(&mut recipe.run.out);
    // A secret.
    recipe.run.salt = None;
    recipe
}

/// The last part of a path.
fn last(path: &str) -> &str {
    path.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or_default()
}

/// Foreign text as code on one line.
fn code(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control() && *c != '`').collect();
    format!("`{plain}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_are_told_from_paths() {
        assert!(is_on_hub("org/name-1.5B") && !is_on_hub("src/commands"), "tests run in the package's folder");
        for name in ["village", "/models/a", "models/a/b", "../b", "a/b\ntags: x", "a/b@main", "C:\\models\\a", ""] {
            assert!(!is_on_hub(name), "{name}");
        }
        assert_eq!([last("a/b/"), last("C:\\a\\b.gguf"), last("")], ["b", "b.gguf", ""]);
        assert_eq!(code("a`\n|b"), "`a|b`");
    }
}
