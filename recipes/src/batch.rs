//! The plan of a batch: recipes with keys that vary from run to run, and what is to follow each run.
//!
//! Runs come in the order of the text: recipes, then the entries of `list`, then the combinations of `grid` with its last
//! key changing fastest, then the places of `zip`.

use std::path::{Path, PathBuf};

use ftk_adapters::foreign;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::error::RecipeError;
use crate::recipe::Recipe;
use crate::source::RecipeSource;

/// A plan. Relative paths start at its folder.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchPlan {
    /// Recipes: files, or names in `ftk recipes ls`.
    pub recipes: Vec<PathBuf>,
    /// Folder for the runs, a folder each.
    pub out: PathBuf,
    /// Keys of recipes that every run has.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub set: Table,
    /// Keys with a list of values each: every combination is run.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub grid: Table,
    /// Keys with lists of one length: the first values are run together, then the second, and so on.
    #[serde(default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub zip: Table,
    /// Sets of keys, of which each is run.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Map<String, serde_json::Value>>")]
    pub list: Vec<Table>,
    /// What follows each run.
    #[serde(default)]
    pub then: FollowUps,
}

/// What follows each run that made an adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowUps {
    /// Measure the adapter on the recipe's held-out rows.
    #[serde(default)]
    pub eval: bool,
    /// Have base and adapter answer a prompt.
    #[serde(default)]
    pub sample: Option<SampleQuestion>,
    /// Commit to the adapter.
    #[serde(default)]
    pub commit: bool,
    /// Prove how the committed adapter answers, and verify the proof.
    #[serde(default)]
    pub prove: Option<ProofQuestion>,
}

/// A question that every adapter is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofQuestion {
    /// The prompt: a user's message where the base has a chat template, else plain text.
    pub prompt: String,
    /// Most tokens of the answer.
    #[serde(default = "max_tokens")]
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
    /// Text to bind into the proofs.
    #[serde(default)]
    pub context: String,
}

/// A prompt that is answered before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleQuestion {
    /// The prompt: a user's message where the base has a chat template, else plain text.
    pub prompt: String,
    /// Most tokens of an answer.
    #[serde(default = "max_tokens")]
    #[schemars(range(min = 1))]
    pub max_tokens: u32,
}

fn max_tokens() -> u32 {
    64
}

/// A run of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct RunVariant {
    /// The recipe with its keys laid over it and its paths resolved.
    pub recipe: Recipe,
    /// The recipe's name, without folder and ending.
    pub name: String,
    /// The keys that vary, dotted, with their values as TOML.
    pub varied: Vec<(String, String)>,
}

/// Values of dotted keys.
type KeyValues = Vec<(String, Value)>;

impl BatchPlan {
    /// What a plan may hold, as a JSON Schema (draft 2020-12).
    pub fn schema() -> serde_json::Value {
        crate::schema_of::<Self>()
    }

    /// Reads a plan; the folder of its runs comes back resolved.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, has an unknown key or what makes no run; the error names path, line and key.
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        let hint = || "give the path of a plan (TOML): which recipes, with which keys varied".to_owned();
        let text = foreign::read_text(path, foreign::DOCUMENT)
            .map_err(|error| RecipeError::unreadable("plan", path, &error, hint()))?;
        let source = RecipeSource::new(path, &text, &[])?;
        let mut batch: Self = source.read()?;
        batch.check(&source)?;
        batch.out = folder(path).join(&batch.out);
        Ok(batch)
    }

    fn check(&self, source: &RecipeSource<'_>) -> Result<(), RecipeError> {
        if self.recipes.is_empty() {
            return Err(source.refuse("recipes", "names no recipe"));
        }
        if self.out.as_os_str().is_empty() {
            return Err(source.refuse("out", "must not be empty"));
        }
        for (table, name) in [(&self.grid, "grid"), (&self.zip, "zip")] {
            for (key, value) in flat(table) {
                if value.as_array().is_none_or(Vec::is_empty) {
                    return Err(source.refuse(&format!("{name}.{key}"), "must be a list of values, one a run"));
                }
            }
        }
        let lengths = columns(&self.zip).into_iter().map(|(key, values)| (key, values.len()));
        let lengths: Vec<(String, usize)> = lengths.collect();
        if let [(_, first), others @ ..] = lengths.as_slice()
            && let Some((key, length)) = others.iter().find(|(_, length)| length != first)
        {
            let rule = format!("must have as many values as the key before it, {first}: {length}");
            return Err(source.refuse(&format!("zip.{key}"), &rule));
        }
        let of = |tables: &[&Table]| tables.iter().flat_map(|table| flat(table)).map(|(key, _)| key).collect();
        let parts: [(&str, Vec<String>); 4] = [
            ("set", of(&[&self.set])),
            ("list", of(&self.list.iter().collect::<Vec<_>>())),
            ("grid", of(&[&self.grid])),
            ("zip", of(&[&self.zip])),
        ];
        for (index, (part, keys)) in parts.iter().enumerate() {
            for key in keys {
                if key == "run.out" {
                    return Err(
                        source.refuse(&format!("{part}.{key}"), "is the batch's: every run has a folder of its own")
                    );
                }
                if let Some((other, _)) = parts[..index].iter().find(|(_, keys)| keys.contains(key)) {
                    return Err(source.refuse(&format!("{part}.{key}"), &format!("is in {other}, too")));
                }
            }
        }
        if self.then.prove.is_some() && !self.then.commit {
            return Err(source.refuse("then.prove", "needs then.commit = true: proofs are about committed adapters"));
        }
        if self.then.sample.as_ref().is_some_and(|sample| sample.max_tokens == 0) {
            return Err(source.refuse("then.sample.max_tokens", "must be at least 1"));
        }
        if self.then.prove.as_ref().is_some_and(|prove| prove.max_tokens == 0) {
            return Err(source.refuse("then.prove.max_tokens", "must be at least 1"));
        }
        Ok(())
    }

    /// The runs, in order; `path` is the plan's.
    ///
    /// # Errors
    /// A recipe that cannot be read, or not with these keys.
    pub fn variants(&self, path: &Path) -> Result<Vec<RunVariant>, RecipeError> {
        let (folder, mut variants) = (folder(path), Vec::new());
        for recipe in &self.recipes {
            let here = folder.join(recipe);
            // A name in `ftk recipes ls` is no path.
            let file = if here.is_file() { here } else { recipe.clone() };
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            for keys in self.combinations() {
                let varied: Vec<(String, String)> =
                    keys.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
                let all = flat(&self.set).into_iter().chain(keys);
                let settings: Vec<String> = all.map(|(key, value)| format!("{key}={value}")).collect();
                let loaded = Recipe::load_from(&file, &settings, folder).map_err(|error| self.placed(error, path))?;
                variants.push(RunVariant { recipe: loaded, name: name.clone(), varied });
            }
        }
        Ok(variants)
    }

    /// Names the plan where a key that it lays over a recipe is at fault.
    fn placed(&self, error: RecipeError, path: &Path) -> RecipeError {
        let laid = error.path.to_str().and_then(|place| place.strip_prefix("--set ")).map(str::to_owned);
        let Some(key) = laid else { return error };
        let holds = |table: &Table| flat(table).iter().any(|(known, _)| *known == key);
        let part = [("grid", &self.grid), ("zip", &self.zip), ("set", &self.set)];
        let part = part.into_iter().find_map(|(name, table)| holds(table).then_some(name)).unwrap_or("list");
        let message = match &error.key {
            Some(inner) => format!("{inner} {}", error.message),
            None => error.message.clone(),
        };
        let key = format!("{part}.{key}");
        // The text was read before.
        let text = foreign::read_text(path, foreign::DOCUMENT).unwrap_or_default();
        let line = RecipeSource::new(path, &text, &[]).ok().and_then(|source| source.refuse(&key, "").line);
        RecipeError { path: path.to_owned(), line, key: Some(key), message, ..error }
    }

    /// The keys of each run of a recipe.
    fn combinations(&self) -> Vec<KeyValues> {
        let list: Vec<KeyValues> =
            if self.list.is_empty() { vec![Vec::new()] } else { self.list.iter().map(flat).collect() };
        let mut grid = vec![KeyValues::new()];
        for (key, values) in columns(&self.grid) {
            let with = |keys: &KeyValues| {
                let with = values.iter().map(|value| [keys.clone(), vec![(key.clone(), value.clone())]].concat());
                with.collect::<Vec<_>>()
            };
            grid = grid.iter().flat_map(with).collect();
        }
        let zip = columns(&self.zip);
        let places = zip.first().map_or(1, |(_, values)| values.len());
        let zip: Vec<KeyValues> = (0..places)
            .map(|place| zip.iter().map(|(key, values)| (key.clone(), values[place].clone())).collect())
            .collect();
        let mut all = Vec::new();
        for entry in &list {
            for keys in &grid {
                all.extend(zip.iter().map(|places| [entry.as_slice(), keys, places].concat()));
            }
        }
        all
    }
}

/// The folder at which a plan's paths start.
fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The values of a table by their dotted keys: `optim.lr` is written as one key in quotes, or in tables.
fn flat(table: &Table) -> KeyValues {
    let inner = |(key, value): (&String, &Value)| match value {
        Value::Table(inner) => flat(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)).collect(),
        value => vec![(key.clone(), value.clone())],
    };
    table.iter().flat_map(inner).collect()
}

/// The lists of a table by their dotted keys.
fn columns(table: &Table) -> Vec<(String, Vec<Value>)> {
    let list = |(key, value)| match value {
        Value::Array(values) => (key, values),
        value => (key, vec![value]),
    };
    flat(table).into_iter().map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("plan.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn refused(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = plan(folder.path(), text);
        let error = BatchPlan::load(&path).and_then(|batch| batch.variants(&path)).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn every_combination_of_grid_list_and_zip_is_a_run_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let text = "recipes = [\"sft\", \"dpo\"]\nout = \"runs\"\nset.run.epochs = 2\n\
                    [grid]\n\"optim.lr\" = [1e-3, 1e-4]\nlora.rank = [2, 4]\n\
                    [zip]\n\"run.seed\" = [1, 2]\n\"run.shuffle\" = [true, false]\n\
                    [[list]]\n\"base.model\" = \"village\"\n[[list]]\n\"lora.start\" = \"first\"\n";
        let path = plan(folder.path(), text);
        let batch = BatchPlan::load(&path).unwrap();
        assert_eq!(batch.out, folder.path().join("runs"));
        let variants = batch.variants(&path).unwrap();
        assert_eq!(variants.len(), 2 * 2 * 2 * 2 * 2);
        let told = |variant: &RunVariant| {
            let RunVariant { recipe, name, .. } = variant;
            let rank = recipe.lora.as_ref().unwrap().rank;
            (name.clone(), recipe.optim.lr, rank, recipe.run.seed, recipe.run.shuffle)
        };
        assert_eq!(told(&variants[0]), ("sft".to_owned(), 1e-3, 2, 1, true));
        assert_eq!(told(&variants[1]), ("sft".to_owned(), 1e-3, 2, 2, false));
        assert_eq!(told(&variants[2]), ("sft".to_owned(), 1e-3, 4, 1, true));
        assert_eq!(told(&variants[4]), ("sft".to_owned(), 1e-4, 2, 1, true));
        assert_eq!(told(&variants[31]), ("dpo".to_owned(), 1e-4, 4, 2, false));
        // A path in the plan starts at the plan's folder.
        let start = |at: usize| variants[at].recipe.lora.as_ref().unwrap().start.clone();
        assert_eq!((start(0), start(8)), (None, Some(folder.path().join("first"))));
        assert!(variants.iter().all(|variant| variant.recipe.run.epochs == 2.0));
        let varied: Vec<String> = variants[1].varied.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            varied,
            ["base.model=\"village\"", "optim.lr=0.001", "lora.rank=2", "run.seed=2", "run.shuffle=false"]
        );
    }

    #[test]
    fn what_makes_no_run_is_refused_where_it_stands() {
        let head = "recipes = [\"dpo\"]\nout = \"runs\"\n";
        let with = |text: &str| refused(&format!("{head}{text}"));
        assert_eq!(refused("recipes = []\nout = \"runs\"\n"), "plan.toml:1:recipes: names no recipe");
        assert_eq!(with("[grid]\noptim.lr = 1e-3\n"), "plan.toml:4:grid.optim.lr: must be a list of values, one a run");
        let lengths = with("[zip]\nrun.seed = [1, 2]\noptim.lr = [1e-3]\n");
        assert_eq!(lengths, "plan.toml:5:zip.optim.lr: must have as many values as the key before it, 2: 1");
        assert_eq!(
            with("[set]\nrun.seed = 1\n[grid]\nrun.seed = [1, 2]\n"),
            "plan.toml:6:grid.run.seed: is in set, too"
        );
        assert!(with("[set]\nrun.out = \"here\"\n").starts_with("plan.toml:4:set.run.out: is the batch's"));
        assert!(with("[then]\nprove = { prompt = \"?\" }\n").starts_with("plan.toml:4:then.prove: needs then.commit"));
        assert_eq!(with("[grip]\n"), "plan.toml:3: unknown key: grip");
        // What a recipe refuses is the plan's.
        assert_eq!(with("[grid]\noptim.rate = [1]\n"), "plan.toml:4:grid.optim.rate: unknown key: rate");
        assert!(with("[grid]\nlora.rank = [0]\n").starts_with("plan.toml:4:grid.lora.rank: "));
        assert!(with("[zip]\nrun.seed = [1]\n\"lora.rank\" = [0]\n").starts_with("plan.toml:5:zip.lora.rank: "));
        let list = with("[[list]]\nrun.seed = 1\n[[list]]\nlora.rank = 0\n");
        assert!(list.starts_with("plan.toml:6:list.lora.rank: "), "{list}");
        let table = with("[then]\nprove = true\n");
        assert!(table.ends_with("expected a table of keys"), "{table}");
    }
}
