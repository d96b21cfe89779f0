//! What a recipe must hold to: ranges of values, and what must not stand beside what.

use std::path::PathBuf;

use ftk_adapters::names::PathPattern;
use ftk_bases::Hold;
use ftk_bases::hub_name::{self, HubName};
use ftk_networks::graphs::{GraphNetworkKind, MessageKind};

use crate::error::RecipeError;
use crate::gnn::{Contrast, FRESH, Gnn, Objective, Split};
use crate::keys::all_taken;
use crate::preference::Reference;
use crate::recipe::Recipe;
use crate::sections::{Best, Lora, Run, Scored, Selector, Targets, Task};
use crate::source::RecipeSource;

/// Largest rank: what common loaders of adapters accept.
const MAX_RANK: usize = 256;

/// Least bytes of a secret: as many characters, each of one out of some sixty, are not tried out.
const SALT: usize = 16;

impl Recipe {
    pub(crate) fn check(&self, source: &RecipeSource<'_>) -> Result<(), RecipeError> {
        let need = |good: bool, key: &str, rule: &str| if good { Ok(()) } else { Err(source.refuse(key, rule)) };
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let fraction = |value: f64| (0.0..1.0).contains(&value);

        let named = |path: &PathBuf, good: fn(&HubName) -> bool| {
            !hub_name::has_scheme(path) || HubName::of(path).as_ref().is_some_and(good)
        };
        let base = named(&self.base.model, HubName::is_model);
        need(base, "base.model", "must be hf://ORG/NAME[@REVISION], with the name of a .gguf file or without")?;
        let called = self.base.name.as_deref().is_none_or(|name| HubName::parse(name).is_some_and(|it| it.id == name));
        need(called, "base.name", "must be a name on the hub: ORG/NAME")?;
        for (key, path) in [("data.train", Some(&self.data.train)), ("data.held_out", self.data.held_out.as_ref())] {
            let rows = path.is_none_or(|path| named(path, HubName::is_file));
            need(rows, key, "must name a file: hf://ORG/NAME[@REVISION]/FILE")?;
        }
        let start = self.lora.as_ref().and_then(|lora| lora.start.as_ref());
        for (key, path) in [
            ("base.model", Some(&self.base.model)),
            ("data.train", Some(&self.data.train)),
            ("data.held_out", self.data.held_out.as_ref()),
            ("lora.start", start),
            ("gnn.feedback", self.gnn.as_ref().and_then(|gnn| gnn.feedback.as_ref())),
            ("run.out", Some(&self.run.out)),
        ] {
            let literal = path.is_none_or(|path| {
                path.components().next().is_none_or(|first| {
                    let first = first.as_os_str().to_string_lossy();
                    !first.starts_with('~') && !first.starts_with('$')
                })
            });
            need(literal, key, "must be a path as it is: no shell puts anything in the place of ~ or $NAME")?;
        }
        match (&self.lora, self.base.train) {
            (None, false) => return Err(source.refuse("base.train", "must be true where there is no [lora] section")),
            (Some(_), true) => return Err(source.refuse("lora", "cannot stand beside base.train = true")),
            _ => {}
        }
        all_taken(self, source)?;
        match (self.task, &self.gnn) {
            (Task::Gnn, Some(gnn)) => gnn.check(self, source)?,
            (Task::Gnn, None) => return Err(source.refuse("task", "\"gnn\" needs a [gnn] section")),
            _ => {}
        }
        need(self.base.init_std.is_none() || self.base.train, "base.init_std", "needs base.train = true")?;
        need(
            self.base.hold == Hold::F32 || !self.base.train,
            "base.hold",
            "must be \"f32\" where the base is trained",
        )?;
        need(self.base.init_std.is_none_or(positive), "base.init_std", "must be above 0")?;
        need(self.data.max_length >= 2, "data.max_length", "must be at least 2")?;
        let named = self.data.columns.as_ref().is_none_or(|columns| !columns.is_empty());
        need(named, "data.columns", "must name at least one column")?;
        let completion = self.task != Task::Dpo || self.data.loss == Scored::Completion;
        need(self.task == Task::Sft || !self.data.packing, "data.packing", "is for task \"sft\"")?;
        need(completion, "data.loss", "must be \"completion\" for task \"dpo\", which scores completions")?;
        if let Some(lora) = &self.lora {
            lora.check(source)?;
            need(fraction(lora.dropout), "lora.dropout", "must lie in [0, 1)")?;
            let droppable = lora.dropout == 0.0 || self.task != Task::Dpo;
            need(droppable, "lora.dropout", "must be 0 for task \"dpo\", whose two models are compared as they are")?;
        }
        let start = self.lora.as_ref().is_some_and(|lora| lora.start.is_some());
        need(self.dpo.reference == Reference::Base || start, "dpo.reference", "\"start\" needs lora.start")?;
        need(self.task != Task::Dpo || self.lora.is_some(), "task", "\"dpo\" needs a [lora] section")?;
        self.dpo.check(&self.run, source)?;
        need(positive(self.optim.lr), "optim.lr", "must be above 0")?;
        need(self.optim.betas.into_iter().all(fraction), "optim.betas", "must lie in [0, 1)")?;
        need(positive(self.optim.eps), "optim.eps", "must be above 0")?;
        need(
            self.optim.weight_decay.is_finite() && self.optim.weight_decay >= 0.0,
            "optim.weight_decay",
            "must not be negative",
        )?;
        need(
            self.optim.max_grad_norm.is_finite() && self.optim.max_grad_norm >= 0.0,
            "optim.max_grad_norm",
            "must not be negative",
        )?;
        need(positive(self.run.epochs), "run.epochs", "must be above 0")?;
        need(self.run.steps.is_none_or(|steps| steps > 0), "run.steps", "must be at least 1")?;
        need(self.run.batch > 0, "run.batch", "must be at least 1")?;
        need(self.run.accumulate > 0, "run.accumulate", "must be at least 1")?;
        if let Some(best) = self.run.best.filter(|_| self.task != Task::Gnn) {
            need(self.data.held_out.is_some(), "run.best", "needs data.held_out")?;
            need(self.run.eval_every > 0, "run.best", "needs run.eval_every above 0")?;
            need(best != Best::Accuracy, "run.best", "names a figure of task = \"gnn\"")?;
            need(best == Best::Loss || self.task == Task::Dpo, "run.best", "names a figure of task = \"dpo\"")?;
        }
        let states = self.run.transcript || self.run.state_every == 0;
        need(states, "run.state_every", "needs run.transcript = true")?;
        let secret = |salt: &String| self.run.transcript && salt.len() >= SALT;
        let rule = "must have 16 characters at least, that nobody can guess, and needs run.transcript = true";
        need(self.run.salt.as_ref().is_none_or(secret), "run.salt", rule)?;
        need(self.run.patience.is_none() || self.run.best.is_some(), "run.patience", "needs run.best")?;
        need(self.run.patience != Some(0), "run.patience", "must be at least 1")?;
        self.run.check_meetings(source)
    }
}

impl Run {
    fn check_meetings(&self, source: &RecipeSource<'_>) -> Result<(), RecipeError> {
        let need = |good: bool, key: &str, rule: &str| if good { Ok(()) } else { Err(source.refuse(key, rule)) };
        let meets = self.sync_every.is_some();
        need(self.sync_every != Some(0), "run.sync_every", "must be at least 1")?;
        let rule = "needs run.steps: how long an epoch is depends on the number of workers";
        need(!meets || self.steps.is_some(), "run.sync_every", rule)?;
        let rule = "needs run.transcript = false: nobody can compute again what other workers have learnt";
        need(!meets || !self.transcript, "run.sync_every", rule)?;
        let rule = "cannot stand beside run.sync_every: workers end in one place";
        need(!meets || self.best.is_none(), "run.best", rule)?;
        need(meets || self.outer_lr.is_none(), "run.outer_lr", "needs run.sync_every")?;
        need(meets || self.outer_momentum.is_none(), "run.outer_momentum", "needs run.sync_every")?;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        need(self.outer_lr.is_none_or(positive), "run.outer_lr", "must be above 0")?;
        let fraction = |value: f64| (0.0..1.0).contains(&value);
        need(self.outer_momentum.is_none_or(fraction), "run.outer_momentum", "must lie in [0, 1)")
    }
}

impl Gnn {
    fn check(&self, recipe: &Recipe, source: &RecipeSource<'_>) -> Result<(), RecipeError> {
        let need = |good: bool, key: &str, rule: &str| if good { Ok(()) } else { Err(source.refuse(key, rule)) };
        let share = |value: f64| (0.0..1.0).contains(&value);
        let fresh = recipe.base.model.as_os_str() == FRESH;
        need(!fresh || recipe.base.train, "base.model", "\"fresh\" needs base.train = true")?;
        need(recipe.base.init_std.is_none(), "base.init_std", "is for other tasks; write base.model = \"fresh\"")?;
        need(recipe.data.held_out.is_none(), "data.held_out", "is for other tasks; a graph has a split")?;
        need((1..=8).contains(&self.layers), "gnn.layers", "must be from 1 to 8")?;
        need((1..=4096).contains(&self.hidden), "gnn.hidden", "must be from 1 to 4096")?;
        need((1..=64).contains(&self.heads), "gnn.heads", "must be from 1 to 64")?;
        need(share(self.dropout), "gnn.dropout", "must lie in [0, 1)")?;
        need(share(self.attention_dropout), "gnn.attention_dropout", "must lie in [0, 1)")?;
        need(self.l2.is_finite() && self.l2 >= 0.0, "gnn.l2", "must not be negative")?;
        need(self.project.is_none_or(|width| (1..=4096).contains(&width)), "gnn.project", "must be from 1 to 4096")?;
        let [train, validation] = self.shares;
        let shares = share(train) && train > 0.0 && share(validation) && train + validation < 1.0;
        need(shares, "gnn.shares", "must be two shares that leave something to test on")?;
        let weighed = self.messages == MessageKind::Weighed;
        let gat = self.network == GraphNetworkKind::Gat;
        need(!weighed || !gat, "gnn.messages", "must be \"alike\" for \"gat\", which weighs messages itself")?;
        need(!weighed || self.neighbours.is_none(), "gnn.messages", "must be \"alike\" where neighbours are drawn")?;
        if let Some(neighbours) = &self.neighbours {
            need(!neighbours.is_empty() && !neighbours.contains(&0), "gnn.neighbours", "must be numbers above 0")?;
        }
        let Contrast { drop_edges, drop_features, temperature, width } = self.contrast;
        need(drop_edges.into_iter().all(share), "gnn.contrast.drop_edges", "must be two shares in [0, 1)")?;
        need(drop_features.into_iter().all(share), "gnn.contrast.drop_features", "must be two shares in [0, 1)")?;
        need((0.01..=100.0).contains(&temperature), "gnn.contrast.temperature", "must be from 0.01 to 100")?;
        need((1..=4096).contains(&width), "gnn.contrast.width", "must be from 1 to 4096")?;
        let feedback = self.objective == Objective::Feedback;
        need(self.feedback.is_none() || feedback, "gnn.feedback", "is for objective = \"feedback\"")?;
        let whole = self.dropout == 0.0 && self.attention_dropout == 0.0;
        need(!feedback || whole, "gnn.dropout", "must be 0 for feedback, whose two models are compared as they are")?;
        need(!feedback || recipe.lora.is_some(), "gnn.objective", "\"feedback\" needs a [lora] section")?;
        let stream = self.split != Split::Stream || self.objective == Objective::Ratings;
        need(stream, "gnn.split", "\"stream\" is for objective = \"ratings\"")?;
        let contrast = self.objective == Objective::Contrast;
        need(!contrast || recipe.lora.is_none(), "gnn.objective", "\"contrast\" trains a base, not an adapter")?;
        need(!contrast || self.neighbours.is_none(), "gnn.neighbours", "is for other objectives")?;
        need(!contrast || recipe.run.best.is_none(), "run.best", "contrast has no held-out figure to go by")?;
        need(!self.train_head || recipe.lora.is_some(), "gnn.train_head", "is for training beside an adapter")?;
        need(self.l2 == 0.0 || recipe.lora.is_none(), "gnn.l2", "is for training the base")?;
        if let Some(Lora { dropout, .. }) = &recipe.lora {
            need(*dropout == 0.0, "lora.dropout", "is for other tasks; write gnn.dropout")?;
        }
        let relative = !feedback || recipe.dpo.cost().is_relative();
        need(relative, "dpo.loss", "needs log-probabilities, and what a graph scores has none")?;
        need(recipe.dpo.cache, "dpo.cache", "must be true: the reference's figures are few")?;
        let best = recipe.run.best;
        need(best.is_none() || recipe.run.eval_every > 0, "run.best", "needs run.eval_every above 0")?;
        let known = matches!(best, None | Some(Best::Loss | Best::Accuracy));
        need(known, "run.best", "must be \"eval_loss\" or \"eval_accuracy\" for task \"gnn\"")
    }
}

impl Lora {
    fn check(&self, source: &RecipeSource<'_>) -> Result<(), RecipeError> {
        let need = |good: bool, key: &str, rule: &str| if good { Ok(()) } else { Err(source.refuse(key, rule)) };
        let (rank, above) = (|rank| (1..=MAX_RANK).contains(&rank), |alpha: f64| alpha.is_finite() && alpha > 0.0);
        need(rank(self.rank), "lora.rank", "must be between 1 and 256")?;
        need(above(self.alpha), "lora.alpha", "must be above 0")?;
        let targets = match &self.targets {
            Targets::All(_) => None,
            Targets::Only(selector) => Some(selector),
        };
        let or = ["must be \"all-linear\", a pattern, or name at least one layer", "must be a pattern or name a layer"];
        for (key, selector, rule) in [("lora.targets", targets, or[0]), ("lora.exclude", self.exclude.as_ref(), or[1])]
        {
            match selector {
                None => {}
                Some(Selector::Names(names)) => {
                    need(!names.is_empty() && names.iter().all(|name| !name.is_empty()), key, rule)?;
                }
                Some(Selector::Pattern(text)) => {
                    PathPattern::whole(text).map_err(|error| source.refuse(key, &error.to_string()))?;
                }
            }
        }
        need(
            self.layers.as_ref().is_none_or(|layers| !layers.is_empty()),
            "lora.layers",
            "must name at least one layer",
        )?;
        for (text, value) in &self.rank_pattern {
            need(rank(*value), "lora.rank_pattern", &format!("must be between 1 and 256 for {text}: {value}"))?;
        }
        for (text, value) in &self.alpha_pattern {
            need(above(*value), "lora.alpha_pattern", &format!("must be above 0 for {text}: {value}"))?;
        }
        for (key, text) in (self.rank_pattern.keys().map(|text| ("lora.rank_pattern", text)))
            .chain(self.alpha_pattern.keys().map(|text| ("lora.alpha_pattern", text)))
        {
            PathPattern::ending(text).map_err(|error| source.refuse(key, &error.to_string()))?;
        }
        Ok(())
    }
}
