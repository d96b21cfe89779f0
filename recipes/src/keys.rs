//! Which keys of a recipe its task takes. What is written and not taken is refused: it would do nothing, and whoever
//! wrote it believes that it does something.
//!
//! A key is taken if its value has its effect or is refused where it has none. What says how something is made fresh (an
//! adapter's rank, a network's width) is taken, too, where the recipe starts from something that was made before.

use crate::error::RecipeError;
use crate::gnn;
use crate::key::TakenKey;
use crate::recipe::Recipe;
use crate::sections::Task;
use crate::source::RecipeSource;

/// Keys of the host, which trains whatever the task is, and of the choice of what is trained.
const HOST: [&str; 41] = [
    "task",
    "base.model",
    "base.train",
    "base.init_std",
    "data.train",
    "data.held_out",
    "lora.rank",
    "lora.alpha",
    "lora.targets",
    "lora.exclude",
    "lora.layers",
    "lora.rslora",
    "lora.dropout",
    "lora.start",
    "lora.rank_pattern",
    "lora.alpha_pattern",
    "optim.lr",
    "optim.betas",
    "optim.eps",
    "optim.weight_decay",
    "optim.max_grad_norm",
    "optim.schedule",
    "optim.warmup_steps",
    "run.out",
    "run.epochs",
    "run.steps",
    "run.batch",
    "run.accumulate",
    "run.seed",
    "run.shuffle",
    "run.save_every",
    "run.keep",
    "run.transcript",
    "run.salt",
    "run.state_every",
    "run.eval_every",
    "run.best",
    "run.patience",
    "run.sync_every",
    "run.outer_lr",
    "run.outer_momentum",
];

/// Keys of every task on text.
const TEXT: [&str; 10] = [
    "base.name",
    "base.date",
    "base.hold",
    "data.columns",
    "data.replace",
    "data.loss",
    "data.max_length",
    "run.recompute",
    "run.precision",
    "run.tf32",
];

impl Task {
    /// The keys that a task takes of a recipe; those it takes of other recipes of its own are named as idle.
    pub(crate) fn keys(self, recipe: &Recipe) -> Vec<TakenKey> {
        let mut keys: Vec<TakenKey> = HOST.map(TakenKey::new).to_vec();
        let trained = TakenKey::when("base.save_dtype", recipe.base.train, "needs base.train = true");
        match self {
            Self::Sft => {
                keys.extend(TEXT.map(TakenKey::new));
                keys.extend([trained, TakenKey::new("data.packing")]);
            }
            Self::Dpo => {
                keys.extend(TEXT.map(TakenKey::new));
                keys.extend(recipe.dpo.keys());
            }
            Self::Gnn => keys.extend(gnn::keys(recipe.gnn.as_ref(), &recipe.dpo)),
        }
        keys
    }
}

/// Refuses the first key, in the order in which they are written, that the recipe's task does not take.
pub(crate) fn all_taken(recipe: &Recipe, source: &RecipeSource<'_>) -> Result<(), RecipeError> {
    let keys = recipe.task.keys(recipe);
    let taken = |written: &String| keys.iter().any(|key| key.idle.is_none() && key.holds(written));
    let unread: Vec<String> = source.written().into_iter().filter(|written| !taken(written)).collect();
    let Some((first, others)) = unread.split_first() else { return Ok(()) };
    if let Some(rule) = keys.iter().find_map(|key| key.idle.filter(|_| key.holds(first))) {
        return Err(source.refuse(first, rule));
    }
    let takes = |task: &&Task| task.keys(recipe).iter().any(|key| key.holds(first));
    let named = |task: &Task| format!("task \"{}\"", task.name());
    let tasks: Vec<String> = Task::ALL.iter().filter(takes).map(named).collect();
    let rule = format!("is for {}", tasks.join(" or "));
    let also = match others {
        [] => String::new(),
        others => format!(", and so {}", others.join(", ")),
    };
    let hint = format!("task \"{}\" would not look at it: take it out{also}", recipe.task.name());
    Err(RecipeError { hint: Some(hint), ..source.refuse(first, &rule) })
}

impl Recipe {
    /// The recipe with every key that its task takes, and no other: it reads as the same recipe.
    pub fn resolved(&self) -> toml::Table {
        let mut table = toml::Table::try_from(self).expect("a recipe has no map but of text keys and no null");
        let keys: Vec<TakenKey> = self.task.keys(self).into_iter().filter(|key| key.idle.is_none()).collect();
        retain(&mut table, "", &keys);
        table
    }
}

/// Takes away what is in none of the keys, and tables of which nothing is left.
fn retain(table: &mut toml::Table, prefix: &str, keys: &[TakenKey]) {
    table.retain(|name, value| {
        let name = format!("{prefix}{name}");
        match value {
            toml::Value::Table(table) if !table.is_empty() => {
                retain(table, &format!("{name}."), keys);
                !table.is_empty()
            }
            _ => keys.iter().any(|key| key.holds(&name)),
        }
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::Value;

    use super::*;
    use crate::builtin::BUILTIN;

    /// Dotted names of all keys of the schema; a table without fixed keys is one.
    fn schema() -> BTreeSet<String> {
        fn walk(schema: &Value, table: &Value, prefix: &str, found: &mut BTreeSet<String>) {
            for (name, property) in table["properties"].as_object().unwrap() {
                let name = format!("{prefix}{name}");
                let inner = property["$ref"].as_str().map(|path| schema.pointer(&path[1..]).unwrap());
                match inner.filter(|inner| inner.get("properties").is_some()) {
                    Some(inner) => walk(schema, inner, &format!("{name}."), found),
                    None => drop(found.insert(name)),
                }
            }
        }
        let schema = Recipe::schema();
        let mut found = BTreeSet::new();
        walk(&schema, &schema, "", &mut found);
        found
    }

    /// Recipes that differ in which of a task's keys they take.
    fn recipes() -> Vec<Recipe> {
        let settings = [
            &[][..],
            &["gnn.objective=feedback", "gnn.dropout=0"],
            &["gnn.objective=contrast"],
            &["gnn.objective=links"],
            &["gnn.objective=links", "gnn.split=random"],
            &["gnn.split=random"],
        ];
        let mut recipes = Vec::new();
        for builtin in BUILTIN {
            for settings in settings {
                let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
                recipes.extend(Recipe::parse_with(Path::new(builtin.name), builtin.text, &settings));
            }
        }
        assert!(recipes.len() > BUILTIN.len());
        let trained = "task = \"sft\"\nbase = { model = \"m\", train = true }\ndata = { train = \"t\" }\n\
                       run = { out = \"o\" }\n";
        recipes.push(Recipe::parse(Path::new("r"), trained).unwrap());
        recipes
    }

    #[test]
    fn every_key_of_the_schema_is_taken_by_some_task_and_every_key_taken_is_in_the_schema() {
        let (schema, recipes) = (schema(), recipes());
        let mut taken = BTreeSet::new();
        for recipe in &recipes {
            for key in recipe.task.keys(recipe) {
                assert!(schema.contains(key.name), "no such key: {}", key.name);
                if key.idle.is_none() {
                    taken.insert(key.name.to_owned());
                }
            }
        }
        let idle: Vec<_> = schema.difference(&taken).collect();
        assert!(idle.is_empty(), "no task takes {idle:?}");
    }

    #[test]
    fn a_resolved_recipe_reads_as_the_same_recipe() {
        for recipe in recipes() {
            let text = toml::to_string(&recipe.resolved()).unwrap();
            assert_eq!(Recipe::parse(Path::new("r"), &text).unwrap(), recipe, "{text}");
        }
    }
}
