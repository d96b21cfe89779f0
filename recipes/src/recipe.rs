//! The recipe: every option of a training run, once, with its meaning and its default.

use std::path::{Path, PathBuf};

use ftk_bases::SHIPPED;
use ftk_bases::hub_name::{self, HubName};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gnn::{FRESH, Gnn};
use crate::preference::Dpo;
use crate::sections::{Base, Data, Lora, Optim, Run, Task};

/// A training run, as a recipe file describes it. Relative paths start at the recipe's folder, or where they were typed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What is learnt from the rows.
    pub task: Task,
    /// The model that is fine-tuned.
    pub base: Base,
    /// The rows.
    pub data: Data,
    /// The adapter; absent when the base's own weights are trained.
    #[serde(default)]
    pub lora: Option<Lora>,
    /// Direct preference optimisation (task `dpo`).
    #[serde(default)]
    pub dpo: Dpo,
    /// A task on a graph (task `gnn`).
    #[serde(default)]
    pub gnn: Option<Gnn>,
    /// The optimiser.
    #[serde(default)]
    pub optim: Optim,
    /// Length, batches, files.
    pub run: Run,
}

impl Recipe {
    /// What a recipe may hold, as a JSON Schema (draft 2020-12).
    pub fn schema() -> serde_json::Value {
        schema_of::<Self>()
    }

    /// Puts the folder at which the path of each key starts in front of it.
    pub(crate) fn resolve<'a>(&mut self, folder: impl Fn(&'static str) -> &'a Path) {
        let resolve = |key, path: &mut PathBuf| *path = folder(key).join(&*path);
        // A name without a separator that is no file beside the recipe is a built-in base.
        let fresh = self.task == Task::Gnn && self.base.model == Path::new(FRESH);
        if !fresh && !SHIPPED.iter().any(|name| self.base.model == Path::new(name)) {
            self.base.model = HubName::base(folder("base.model"), &self.base.model);
        }
        self.rows_mut().filter(|(_, path)| !hub_name::has_scheme(path)).for_each(|(key, path)| resolve(key, path));
        self.lora.iter_mut().filter_map(|lora| lora.start.as_mut()).for_each(|path| resolve("lora.start", path));
        self.gnn.iter_mut().filter_map(|gnn| gnn.feedback.as_mut()).for_each(|path| resolve("gnn.feedback", path));
        resolve("run.out", &mut self.run.out);
    }

    /// The same recipe for whoever reads it from another folder of this machine.
    ///
    /// # Errors
    /// No current folder.
    pub fn absolute(&self) -> std::io::Result<Self> {
        let (mut recipe, here) = (self.clone(), std::env::current_dir()?);
        recipe.resolve(|_| &here);
        Ok(recipe)
    }

    /// The files of rows that are named, each with its key.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let held_out = self.data.held_out.iter_mut().map(|path| ("data.held_out", path));
        std::iter::once(("data.train", &mut self.data.train)).chain(held_out)
    }

    /// The same recipe for other machines: what lies in the hub's cache is named as it is on the hub, at its commit.
    pub fn portable(&self) -> Self {
        let mut recipe = self.clone();
        let Base { model, .. } = &mut recipe.base;
        if let Some(name) = HubName::of_cached(model, "models").filter(HubName::is_model) {
            *model = name.to_string().into();
        }
        for (_, path) in recipe.rows_mut() {
            if let Some(name) = HubName::of_cached(path, "datasets").filter(HubName::is_file) {
                *path = name.to_string().into();
            }
        }
        recipe
    }

    /// The recipe as far as it decides what is computed: content counts, not where it lies or how often it is saved.
    pub fn without_places(&self) -> Value {
        let mut recipe = self.clone();
        recipe.run.out = PathBuf::new();
        (recipe.base.model, recipe.base.name) = Default::default();
        recipe.data.train = PathBuf::new();
        recipe.data.held_out = recipe.data.held_out.map(|_| PathBuf::new());
        if let Some(lora) = &mut recipe.lora {
            lora.start = lora.start.as_ref().map(|_| PathBuf::new());
        }
        if let Some(gnn) = &mut recipe.gnn {
            gnn.feedback = gnn.feedback.as_ref().map(|_| PathBuf::new());
        }
        (recipe.run.save_every, recipe.run.keep) = Default::default();
        // How it is computed does not matter either.
        (recipe.run.recompute, recipe.base.hold) = Default::default();
        let mut recipe = serde_json::to_value(recipe).expect("a recipe has a JSON form");
        // Nor does what is written down about it.
        if let Some(run) = recipe["run"].as_object_mut() {
            run.shift_remove("transcript");
            run.shift_remove("salt");
            run.shift_remove("state_every");
        }
        recipe
    }
}

/// The JSON Schema (draft 2020-12) of what TOML may hold as a type.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(without_null));
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// TOML has no null: a key without a value is left out.
fn without_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else { return };
    if object.get("default").is_some_and(Value::is_null) {
        object.remove("default");
    }
    if let Some(Value::Array(kinds)) = object.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [one] = kinds.as_slice() {
            let one = one.clone();
            object.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(kinds)) = object.get_mut("anyOf") {
        kinds.retain(|kind| kind.get("type") != Some(&Value::from("null")));
        if let [Value::Object(one)] = kinds.as_slice() {
            let one = one.clone();
            object.remove("anyOf");
            object.extend(one);
        }
    }
}
