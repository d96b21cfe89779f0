//! Recipes, good and bad.

use std::path::{Path, PathBuf};

use ftk_bases::{Hold, VILLAGE};

use crate::{
    AllLinear, Best, Dpo, DpoLoss, Lora, Optim, Recipe, RecipeError, Reference, SaveDtype, Schedule, Scored, Selector,
    Targets, Task,
};

/// The shortest recipe there is.
const SHORTEST: &str = r#"task = "sft"
[base]
model = "model"
[data]
train = "rows.jsonl"
[lora]
[run]
out = "out"
"#;

/// [`SHORTEST`] with all tables of its task written out, so that a key can be added to any of them; of task `dpo`
/// where the table is that.
fn with(table: &str, line: &str) -> String {
    let mut text = match table {
        "dpo" => SHORTEST.replace("sft", "dpo") + "[dpo]\n[optim]\n",
        _ => SHORTEST.to_owned() + "[optim]\n",
    };
    let head = format!("[{table}]\n");
    let at = text.find(&head).expect("the table is there") + head.len();
    text.insert_str(at, &format!("{line}\n"));
    text
}

fn parse(text: &str) -> Result<Recipe, RecipeError> {
    Recipe::parse(Path::new("r.toml"), text)
}

fn refused(text: &str) -> RecipeError {
    parse(text).expect_err(text)
}

/// The line, from 1, of the only line of the text that starts so.
fn line_of(text: &str, start: &str) -> usize {
    1 + text.lines().position(|line| line.starts_with(start)).expect("the line is there")
}

#[test]
fn the_shortest_recipe_has_every_default() {
    let recipe = parse(SHORTEST).unwrap();
    assert_eq!(recipe.task, Task::Sft);
    assert_eq!(recipe.base.model, Path::new("model"));
    assert!(!recipe.base.train);
    assert_eq!(recipe.base.init_std, None);
    assert_eq!(recipe.base.save_dtype, SaveDtype::F32);
    assert_eq!(recipe.data.train, Path::new("rows.jsonl"));
    assert_eq!(recipe.data.held_out, None);
    assert_eq!(recipe.data.max_length, 1024);
    assert_eq!((recipe.data.columns, recipe.data.loss, recipe.data.packing), (None, Scored::Completion, false));
    assert!(recipe.data.replace.is_empty());
    let lora = Lora {
        rank: 8,
        alpha: 16.0,
        targets: Targets::All(AllLinear::AllLinear),
        exclude: None,
        layers: None,
        rslora: false,
        dropout: 0.0,
        start: None,
        rank_pattern: [].into(),
        alpha_pattern: [].into(),
    };
    assert_eq!(recipe.lora, Some(lora));
    let dpo = Dpo {
        beta: 0.1,
        loss: DpoLoss::Sigmoid,
        label_smoothing: 0.0,
        sft_weight: 0.0,
        reference: Reference::Base,
        cache: true,
        ..Dpo::default()
    };
    assert_eq!(recipe.dpo, dpo);
    let optim = Optim {
        lr: 1e-4,
        betas: [0.9, 0.999],
        eps: 1e-8,
        weight_decay: 0.0,
        max_grad_norm: 1.0,
        schedule: Schedule::Linear,
        warmup_steps: 0,
    };
    assert_eq!(recipe.optim, optim);
    assert_eq!(recipe.run.out, Path::new("out"));
    assert_eq!((recipe.run.epochs, recipe.run.steps), (1.0, None));
    assert_eq!((recipe.run.batch, recipe.run.accumulate, recipe.run.seed), (8, 1, 42));
    assert!(recipe.run.shuffle);
    assert_eq!((recipe.run.save_every, recipe.run.eval_every), (0, 0));
    assert_eq!((recipe.run.best, recipe.run.patience), (None, None));
}

#[test]
fn every_key_can_be_set() {
    let text = r#"
task = "dpo"
base = { model = "m", hold = "stored" }
data = { train = "t", held_out = "h", max_length = 2 }
dpo = { beta = 0.5, loss = "sigmoid", label_smoothing = 0.1, sft_weight = 1, reference = "start", cache = false }
[lora]
rank = 256
alpha = 1
targets = ["q_proj", "lm_head"]
exclude = ".*3.*"
layers = [0, 7]
rslora = true
start = "s"
rank_pattern = { q_proj = 4, "layers.7.*" = 2 }
alpha_pattern = { q_proj = 0.5 }
[optim]
lr = 1
betas = [0.0, 0.5]
eps = 1e-6
weight_decay = 0.1
max_grad_norm = 0
schedule = "cosine"
warmup_steps = 3
[run]
out = "o"
epochs = 3
steps = 7
batch = 1
accumulate = 4
seed = 0
shuffle = false
save_every = 5
eval_every = 6
best = "eval_rewards/margins"
patience = 2
"#;
    let recipe = parse(text).unwrap();
    assert_eq!(recipe.task, Task::Dpo);
    assert_eq!(recipe.base.hold, Hold::Stored);
    assert_eq!((recipe.data.held_out.as_deref(), recipe.data.max_length), (Some(Path::new("h")), 2));
    let lora = Lora {
        rank: 256,
        alpha: 1.0,
        targets: Targets::Only(Selector::Names(vec!["q_proj".to_owned(), "lm_head".to_owned()])),
        exclude: Some(Selector::Pattern(".*3.*".to_owned())),
        layers: Some(vec![0, 7]),
        rslora: true,
        dropout: 0.0,
        start: Some("s".into()),
        rank_pattern: [("q_proj".to_owned(), 4), ("layers.7.*".to_owned(), 2)].into(),
        alpha_pattern: [("q_proj".to_owned(), 0.5)].into(),
    };
    assert_eq!(recipe.lora, Some(lora));
    let dpo = Dpo {
        beta: 0.5,
        loss: DpoLoss::Sigmoid,
        label_smoothing: 0.1,
        sft_weight: 1.0,
        reference: Reference::Start,
        cache: false,
        ..Dpo::default()
    };
    assert_eq!(recipe.dpo, dpo);
    assert_eq!((recipe.optim.lr, recipe.optim.betas, recipe.optim.eps), (1.0, [0.0, 0.5], 1e-6));
    assert_eq!((recipe.optim.weight_decay, recipe.optim.max_grad_norm), (0.1, 0.0));
    assert_eq!((recipe.optim.schedule, recipe.optim.warmup_steps), (Schedule::Cosine, 3));
    assert_eq!((recipe.run.epochs, recipe.run.steps), (3.0, Some(7)));
    assert_eq!((recipe.run.batch, recipe.run.accumulate, recipe.run.seed), (1, 4, 0));
    assert_eq!((recipe.run.shuffle, recipe.run.save_every, recipe.run.eval_every), (false, 5, 6));
    assert_eq!((recipe.run.best, recipe.run.patience), (Some(Best::Margins), Some(2)));

    let text = SHORTEST
        .replace("[lora]\n", "")
        .replace("[data]", "train = true\ninit_std = 0.02\nsave_dtype = \"bf16\"\n[data]");
    let recipe = parse(&text).unwrap();
    assert_eq!(recipe.base.save_dtype, SaveDtype::Bf16);
    assert_eq!((recipe.base.train, recipe.base.init_std, recipe.lora), (true, Some(0.02), None));
    assert_eq!(parse(&with("optim", "schedule = \"constant\"")).unwrap().optim.schedule, Schedule::Constant);
    let losses = ["sigmoid", "ipo", "hinge", "softmax"]
        .map(|loss| parse(&with("dpo", &format!("loss = {loss:?}"))).unwrap().dpo.loss);
    assert_eq!(losses, [DpoLoss::Sigmoid, DpoLoss::Ipo, DpoLoss::Hinge, DpoLoss::Softmax]);
    let targets = |value: &str| parse(&with("lora", &format!("targets = {value}"))).unwrap().lora.unwrap().targets;
    assert_eq!(targets("\"all-linear\""), Targets::All(AllLinear::AllLinear));
    assert_eq!(targets("'.*\\.q_proj'"), Targets::Only(Selector::Pattern(".*\\.q_proj".to_owned())));
}

#[test]
fn a_recipe_written_down_reads_as_the_same_recipe() {
    for text in [
        SHORTEST.to_owned(),
        with(
            "lora",
            "targets = [\"q_proj\"]\nexclude = \"v\"\nlayers = [1]\nrank_pattern = { q_proj = 1 }\nstart = \"s\"",
        ),
        with("run", "steps = 3"),
    ] {
        let recipe = parse(&text).unwrap();
        assert_eq!(parse(&toml::to_string(&recipe.resolved()).unwrap()).unwrap(), recipe);
    }
}

#[test]
fn an_unknown_key_is_refused_by_its_line_with_the_nearest_known_key() {
    let cases = [
        ("lora", "rnak = 4", "rnak", "did you mean rank?"),
        ("lora", "target = [\"q_proj\"]", "target", "did you mean targets?"),
        ("optim", "learning_rate = 1", "learning_rate", ""),
        ("optim", "warmup = 1", "warmup", "did you mean warmup_steps?"),
        ("run", "epoch = 1", "epoch", "did you mean epochs?"),
        ("run", "Seed = 1", "Seed", "did you mean seed?"),
        ("data", "heldout = \"h\"", "heldout", "did you mean held_out?"),
        ("dpo", "xyz = 1", "xyz", "known here: beta, loss, label_smoothing, sft_weight, reference, cache, simpo, kto"),
        ("base", "modle = \"m\"", "modle", "did you mean model?"),
    ];
    for (table, line, key, hint) in cases {
        let text = with(table, line);
        let error = refused(&text);
        assert_eq!(error.to_string(), format!("r.toml:{}: unknown key: {key}", line_of(&text, line)));
        let found = error.hint.expect("there is a hint");
        assert!(if hint.is_empty() { !found.is_empty() } else { found == hint }, "{key}: {found}");
    }
    let error = refused(&format!("{SHORTEST}[optimm]\nlr = 1\n"));
    assert_eq!(error.to_string(), format!("r.toml:{}: unknown key: optimm", 1 + SHORTEST.lines().count()));
    assert_eq!(error.hint.as_deref(), Some("did you mean optim?"));
}

#[test]
fn what_others_call_a_key_is_told_by_its_name_here() {
    let renamed = crate::elsewhere::RENAMED;
    assert!(renamed.is_sorted());
    for (theirs, ours) in renamed {
        let (section, key) = ours.split_once('.').unwrap();
        let hint = refused(&format!("{theirs} = 1\n{SHORTEST}")).hint.unwrap();
        assert!(hint.ends_with(&format!(": {ours}")) || hint.ends_with(&format!("called {ours}")), "{theirs}: {hint}");
        // Whatever is wrong with the value, the key is one.
        let error = parse(&with(section, &format!("{key} = [[]]"))).unwrap_err();
        assert!(!error.message.starts_with("unknown key"), "{ours}: {error}");
    }
    let error = refused(&format!("num_train_epochs = 3\n{SHORTEST}"));
    assert_eq!(error.to_string(), "r.toml:1: unknown key: num_train_epochs");
    assert_eq!(error.hint.as_deref(), Some("here it is called run.epochs"));
    let error = refused(&with("lora", "rank = \"eight\""));
    assert!(error.message.ends_with("string \"eight\", expected a whole number from 0"), "{error}");
    let error = Recipe::parse(Path::new("r.yaml"), "task: sft\n").unwrap_err();
    assert!(error.hint.is_some_and(|hint| hint.starts_with("recipes and plans are TOML, not YAML: ")));
}

#[test]
fn keys_that_are_left_out_on_purpose_are_refused_with_the_reason() {
    let section = refused(&format!("optim = \"adamw\"\n{SHORTEST}"));
    assert!(section.message.ends_with("expected a table of keys"), "{section}");
    let hint = refused(&format!("load_in_4bit = true\n{SHORTEST}")).hint.unwrap();
    assert!(hint.starts_with("no base is quantised to be trained on"), "{hint}");
    // Nor is it said to be a key that it only begins like.
    let hint = refused(&format!("dataloader_num_workers = 4\n{SHORTEST}")).hint.unwrap();
    assert_eq!(hint, "rows are read once, before training: take it out");
    for key in ["dora", "use_dora"] {
        let error = refused(&with("lora", &format!("{key} = true")));
        assert_eq!(error.message, format!("unknown key: {key}"));
        assert!(error.hint.unwrap().starts_with("DoRA rescales the base's own output"));
    }
}

/// The shortest recipe for a graph.
const GRAPH: &str = "task = \"gnn\"\nbase = { model = \"fresh\", train = true }\ndata = { train = \"g\" }\n\
                     gnn = {}\nrun = { out = \"out\" }\n";

#[test]
fn a_key_that_the_task_does_not_take_is_refused_by_its_line_with_the_tasks_that_would() {
    let refused = |text: &str, settings: &[&str]| {
        let error = set(text, settings).expect_err(text);
        (error.to_string(), error.hint.unwrap_or_default())
    };
    let (of_sft, of_dpo, of_gnn) = ("task \"sft\"", "task \"dpo\"", "task \"gnn\"");
    let (of_text, of_preferences) = (&format!("{of_sft} or {of_dpo}")[..], &format!("{of_dpo} or {of_gnn}")[..]);
    for (text, settings, key, tasks, hint) in [
        (SHORTEST, ["dpo.beta=0.1", "dpo.cache=true"], "dpo.beta", of_preferences, "take it out, and so dpo.cache"),
        (SHORTEST, ["run.seed=1", "dpo={}"], "dpo", of_preferences, "task \"sft\" would not look at it: take it out"),
        (SHORTEST, ["gnn.layers=1", "gnn.l2=1"], "gnn.layers", of_gnn, "take it out, and so gnn.l2"),
        (GRAPH, ["run.precision=bf16", "run.recompute=true"], "run.precision", of_text, "and so run.recompute"),
        (GRAPH, ["run.seed=1", "run.recompute=true"], "run.recompute", of_text, "task \"gnn\" would not look at it"),
        (GRAPH, ["run.seed=1", "base.hold=f32"], "base.hold", of_text, ""),
        (GRAPH, ["run.seed=1", "data.max_length=8"], "data.max_length", of_text, ""),
        (GRAPH, ["run.seed=1", "data.replace.name=x"], "data.replace.name", of_text, ""),
        (GRAPH, ["run.seed=1", "data.packing=false"], "data.packing", of_sft, ""),
        (GRAPH, ["run.seed=1", "base.save_dtype=bf16"], "base.save_dtype", of_sft, ""),
    ] {
        let (message, advice) = refused(text, &settings);
        assert_eq!(message, format!("--set {key}: is for {tasks}"));
        assert!(advice.contains(hint), "{settings:?}: {advice}");
    }
    // In the text, by its line; the default's value is no excuse, nor is a table without a key.
    let with = |line: &str| SHORTEST.replace("[run]", &format!("{line}\n[run]"));
    let text = with("[dpo]\nbeta = 0.1");
    let expected = format!("r.toml:{}:dpo.beta: is for {of_preferences}", line_of(&text, "beta"));
    assert_eq!(refused(&text, &[]).0, expected);
    let text = with("[dpo]");
    assert_eq!(refused(&text, &[]).0, format!("r.toml:{}:dpo: is for {of_preferences}", line_of(&text, "[dpo]")));
}

#[test]
fn a_key_that_only_other_recipes_of_the_task_take_is_refused_with_what_it_is_for() {
    let refused = |text: &str, setting: &str| set(text, &[setting]).expect_err(setting).to_string();
    for (setting, rule) in [
        ("dpo.beta=0.1", "is for objective = \"feedback\""),
        ("dpo.sft_weight=1", "is for objective = \"feedback\""),
        ("gnn.contrast={}", "is for objective = \"contrast\""),
        ("gnn.contrast.width=64", "is for objective = \"contrast\""),
        ("gnn.shares=[0.5,0.1]", "is for gnn.split = \"temporal\", \"stream\" or \"random\""),
        ("gnn.random_split_leaks_the_future=true", "is for gnn.split = \"random\""),
    ] {
        let key = setting.split('=').next().unwrap();
        assert_eq!(refused(GRAPH, setting), format!("--set {key}: {rule}"));
    }
    assert_eq!(refused(SHORTEST, "base.save_dtype=bf16"), "--set base.save_dtype: needs base.train = true");
}

#[test]
fn label_smoothing_is_for_the_logistic_loss_only() {
    for loss in ["ipo", "hinge"] {
        let text = with("dpo", &format!("loss = {loss:?}\nlabel_smoothing = 0.1"));
        let line = line_of(&text, "label_smoothing");
        let expected = format!("r.toml:{line}:dpo.label_smoothing: needs dpo.loss = \"sigmoid\" or \"simpo\"");
        assert_eq!(refused(&text).to_string(), expected);
    }
}

#[test]
fn every_rule_is_refused_by_path_line_and_key() {
    let positive = "must be above 0";
    let literal = "must be a path as it is: no shell puts anything in the place of ~ or $NAME";
    let targets = "must be \"all-linear\", a pattern, or name at least one layer";
    let cases = [
        ("base", "init_std = 0.02", "base.init_std", "needs base.train = true"),
        ("data", "max_length = 1", "data.max_length", "must be at least 2"),
        ("data", "columns = []", "data.columns", "must name at least one column"),
        ("lora", "rank = 0", "lora.rank", "must be between 1 and 256"),
        ("lora", "rank = 257", "lora.rank", "must be between 1 and 256"),
        ("lora", "start = \"~/a\"", "lora.start", literal),
        ("lora", "start = \"$HOME/a\"", "lora.start", literal),
        ("lora", "alpha = 0", "lora.alpha", positive),
        ("lora", "alpha = nan", "lora.alpha", positive),
        ("lora", "alpha = inf", "lora.alpha", positive),
        ("lora", "targets = []", "lora.targets", targets),
        ("lora", "targets = [\"\"]", "lora.targets", targets),
        ("lora", "targets = \"(q\"", "lora.targets", "not a regular expression, unclosed group: (q"),
        ("lora", "exclude = []", "lora.exclude", "must be a pattern or name a layer"),
        ("lora", "exclude = \"q)\"", "lora.exclude", "not a regular expression, unopened group: q)"),
        ("lora", "layers = []", "lora.layers", "must name at least one layer"),
        ("lora", "rank_pattern.q = 0", "lora.rank_pattern", "must be between 1 and 256 for q: 0"),
        ("lora", "rank_pattern.q = 257", "lora.rank_pattern", "must be between 1 and 256 for q: 257"),
        (
            "lora",
            "rank_pattern.'q[' = 1",
            "lora.rank_pattern",
            "not a regular expression, unclosed character class: q[",
        ),
        ("lora", "alpha_pattern.q = 0", "lora.alpha_pattern", "must be above 0 for q: 0"),
        ("lora", "alpha_pattern.q = inf", "lora.alpha_pattern", "must be above 0 for q: inf"),
        ("dpo", "label_smoothing = 0.5", "dpo.label_smoothing", "must lie in [0, 0.5)"),
        ("dpo", "label_smoothing = -0.1", "dpo.label_smoothing", "must lie in [0, 0.5)"),
        ("dpo", "sft_weight = -1", "dpo.sft_weight", "must not be negative"),
        ("dpo", "sft_weight = inf", "dpo.sft_weight", "must not be negative"),
        ("dpo", "reference = \"start\"", "dpo.reference", "\"start\" needs lora.start"),
        ("dpo", "beta = 0.0", "dpo.beta", positive),
        ("dpo", "beta = -1.0", "dpo.beta", positive),
        ("optim", "lr = 0", "optim.lr", positive),
        ("optim", "betas = [1.0, 0.9]", "optim.betas", "must lie in [0, 1)"),
        ("optim", "betas = [0.9, -0.1]", "optim.betas", "must lie in [0, 1)"),
        ("optim", "betas = [0.9, nan]", "optim.betas", "must lie in [0, 1)"),
        ("optim", "eps = 0", "optim.eps", positive),
        ("optim", "weight_decay = -0.1", "optim.weight_decay", "must not be negative"),
        ("optim", "weight_decay = inf", "optim.weight_decay", "must not be negative"),
        ("optim", "max_grad_norm = -1", "optim.max_grad_norm", "must not be negative"),
        ("optim", "max_grad_norm = nan", "optim.max_grad_norm", "must not be negative"),
        ("run", "epochs = 0", "run.epochs", positive),
        ("run", "epochs = inf", "run.epochs", positive),
        ("run", "steps = 0", "run.steps", "must be at least 1"),
        ("run", "batch = 0", "run.batch", "must be at least 1"),
        ("run", "accumulate = 0", "run.accumulate", "must be at least 1"),
        ("run", "best = \"eval_loss\"", "run.best", "needs data.held_out"),
        ("run", "patience = 3", "run.patience", "needs run.best"),
    ];
    for (table, line, key, rule) in cases {
        let text = with(table, line);
        assert_eq!(refused(&text).to_string(), format!("r.toml:{}:{key}: {rule}", line_of(&text, line)), "{line}");
    }
    let states = with("run", "transcript = false\nstate_every = 2");
    let expected = format!("r.toml:{}:run.state_every: needs run.transcript = true", line_of(&states, "state_every"));
    assert_eq!(refused(&states).to_string(), expected);
}

#[test]
fn workers_that_meet_need_what_makes_them_end_in_one_place() {
    let refused = |lines: &str| {
        let error = refused(&with("run", lines));
        format!("{}: {}", error.key.unwrap(), error.message)
    };
    let met = "steps = 9\ntranscript = false\nsync_every = 2\n";
    let read = Recipe::parse(Path::new("r.toml"), &with("run", met)).unwrap();
    assert_eq!((read.run.sync_every, read.run.outer_lr, read.run.outer_momentum), (Some(2), None, None));
    let rule = "run.sync_every: needs run.steps: how long an epoch is depends on the number of workers";
    assert_eq!(refused("transcript = false\nsync_every = 2"), rule);
    let rule = "run.sync_every: needs run.transcript = false: nobody can compute again what other workers have learnt";
    assert_eq!(refused("steps = 9\nsync_every = 2"), rule);
    assert_eq!(refused("steps = 9\ntranscript = false\nsync_every = 0"), "run.sync_every: must be at least 1");
    assert_eq!(refused("outer_lr = 1.0"), "run.outer_lr: needs run.sync_every");
    assert_eq!(refused("outer_momentum = 0.0"), "run.outer_momentum: needs run.sync_every");
    assert_eq!(refused(&format!("{met}outer_lr = 0.0")), "run.outer_lr: must be above 0");
    assert_eq!(refused(&format!("{met}outer_momentum = 1.0")), "run.outer_momentum: must lie in [0, 1)");
    let best = with("data", "held_out = \"h\"")
        .replace("[run]\n", &format!("[run]\n{met}eval_every = 1\nbest = \"eval_loss\"\n"));
    let error = Recipe::parse(Path::new("r.toml"), &best).unwrap_err().to_string();
    assert!(error.ends_with("run.best: cannot stand beside run.sync_every: workers end in one place"), "{error}");
}

#[test]
fn rules_between_tables_are_refused_at_the_table_or_key_at_fault() {
    let without_lora = SHORTEST.replace("[lora]\n", "");
    let rule = "must be true where there is no [lora] section";
    assert_eq!(refused(&without_lora).to_string(), format!("r.toml:2:base.train: {rule}"));
    let said = without_lora.replace("[data]", "train = false\n[data]");
    assert_eq!(refused(&said).to_string(), format!("r.toml:4:base.train: {rule}"));

    let both = with("base", "train = true");
    let expected = format!("r.toml:{}:lora: cannot stand beside base.train = true", line_of(&both, "[lora]"));
    assert_eq!(refused(&both).to_string(), expected);

    let in_full = without_lora.replace("[data]", "train = true\n[data]");
    let dpo = in_full.replace("\"sft\"", "\"dpo\"");
    assert_eq!(refused(&dpo).to_string(), "r.toml:1:task: \"dpo\" needs a [lora] section");
    let loss = with("data", "loss = \"all\"").replace("\"sft\"", "\"dpo\"");
    let rule = "must be \"completion\" for task \"dpo\", which scores completions";
    assert_eq!(refused(&loss).to_string(), format!("r.toml:{}:data.loss: {rule}", line_of(&loss, "loss")));
    let packing = with("data", "packing = true").replace("\"sft\"", "\"dpo\"");
    let expected = format!("r.toml:{}:data.packing: is for task \"sft\"", line_of(&packing, "packing"));
    assert_eq!(refused(&packing).to_string(), expected);
    let init = in_full.replace("[data]", "init_std = 0.0\n[data]");
    assert_eq!(refused(&init).to_string(), "r.toml:5:base.init_std: must be above 0");
    // A table written in one line.
    let inline = SHORTEST.replace("[lora]\n", "").replace("task = \"sft\"", "task = \"sft\"\nlora = { rank = 0 }");
    assert_eq!(refused(&inline).to_string(), "r.toml:2:lora.rank: must be between 1 and 256");
}

#[test]
fn the_best_evaluation_needs_evaluations_that_have_the_figure() {
    let text = with("data", "held_out = \"h\"");
    let refused = |lines: &str| {
        let error = refused(&text.replace("[run]\n", &format!("[run]\n{lines}\n")));
        format!("{}: {}", error.key.unwrap(), error.message)
    };
    assert_eq!(refused("best = \"eval_loss\""), "run.best: needs run.eval_every above 0");
    let margins = "eval_every = 1\nbest = \"eval_rewards/margins\"";
    assert_eq!(refused(margins), "run.best: names a figure of task = \"dpo\"");
    assert_eq!(refused("eval_every = 1\nbest = \"eval_loss\"\npatience = 0"), "run.patience: must be at least 1");
    assert!(Best::Loss.improves(1.0, 2.0) && !Best::Loss.improves(2.0, 2.0));
    assert!(Best::Accuracies.improves(2.0, 1.0) && !Best::Margins.improves(1.0, 1.0));
}

fn set(text: &str, settings: &[&str]) -> Result<Recipe, RecipeError> {
    let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
    Recipe::parse_with(Path::new("r.toml"), text, &settings)
}

#[test]
fn settings_are_laid_over_the_recipe_as_if_they_stood_in_it() {
    let text = with("optim", "lr = 1\nschedule = \"linear\"");
    let recipe = set(
        &text,
        &[
            "optim.lr=2e-4",
            "optim.schedule = cosine",
            "lora.targets=[\"q_proj\"]",
            "run.steps=3",
            "data.train=./r.jsonl",
        ],
    );
    let recipe = recipe.unwrap();
    assert_eq!((recipe.optim.lr, recipe.optim.schedule), (2e-4, Schedule::Cosine));
    assert_eq!(recipe.lora.unwrap().targets, Targets::Only(Selector::Names(vec!["q_proj".to_owned()])));
    assert_eq!((recipe.run.steps, recipe.data.train.as_path()), (Some(3), Path::new("./r.jsonl")));
    // The last one counts; a table is laid over its like; what the text lacks is added.
    assert_eq!(set(&text, &["run.seed=1", "run.seed=2"]).unwrap().run.seed, 2);
    let lora = set(SHORTEST, &["lora={rank=4}", "lora.alpha=3"]).unwrap().lora.unwrap();
    assert_eq!((lora.rank, lora.alpha), (4, 3.0));
    assert_eq!(set(&SHORTEST.replace("out = \"out\"\n", ""), &["run.out=\"o\""]).unwrap().run.out, Path::new("o"));
    assert_eq!(set(SHORTEST, &[]).unwrap(), parse(SHORTEST).unwrap());
}

#[test]
fn a_setting_at_fault_is_refused_by_its_own_name() {
    let text = with("optim", "lr = 1");
    let refused = |setting: &str| {
        let error = set(&text, &["run.seed=7", setting, "run.batch=2"]).expect_err(setting);
        (error.to_string(), error.hint.unwrap_or_default())
    };
    let hinted = |setting: &str, message: &str, hint: &str| {
        let (found, advice) = refused(setting);
        assert_eq!(found, message);
        assert!(advice.contains(hint), "{advice}");
    };
    hinted("optim.lrr=1", "--set optim.lrr: unknown key: lrr", "did you mean lr?");
    hinted("optimm.lr=1", "--set optimm.lr: unknown key: optimm", "did you mean optim?");
    hinted("optim.lr=0", "--set optim.lr: must be above 0", "");
    hinted("lora={rank=0}", "--set lora:lora.rank: must be between 1 and 256", "");
    hinted("optim.lr", "--set optim.lr: has no value", "write --set key=value");
    hinted("=1", "--set : is no dotted key", "write --set key=value");
    hinted("a b=1", "--set a b: is no dotted key", "write --set key=value");
    assert!(refused("optim.lr=[").0.starts_with("--set optim.lr: "));
    assert!(refused("optim.lr=fast").0.starts_with("--set optim.lr: invalid type"), "{}", refused("optim.lr=fast").0);
    assert!(refused("task.x=1").0.starts_with("--set task.x: "), "{}", refused("task.x=1").0);
    // What is wrong in the text is still found there.
    let error = set(&text.replace("lr = 1", "lr = 0"), &["run.seed=7"]).unwrap_err();
    assert_eq!(error.to_string(), format!("r.toml:{}:optim.lr: must be above 0", line_of(&text, "lr = 1")));
}

#[test]
fn the_schema_has_every_key_with_its_doc_and_default() {
    let schema = Recipe::schema();
    let at = |path: &str| schema.pointer(path).unwrap_or_else(|| panic!("{path}: {schema:#}"));
    assert_eq!(at("/required"), &serde_json::json!(["task", "base", "data", "run"]));
    assert_eq!(at("/additionalProperties"), false);
    assert_eq!(at("/$defs/Optim/properties/lr/default"), 1e-4);
    assert_eq!(at("/$defs/Optim/properties/lr/description"), "Peak learning rate.");
    assert_eq!(at("/$defs/Run/properties/batch/default"), 8);
    assert_eq!(at("/$defs/Run/properties/steps/type"), "integer");
    // Nothing undocumented, and no null, which TOML lacks.
    let tables = at("/$defs").as_object().unwrap().values().filter_map(|table| table.get("properties"));
    for (key, property) in tables.flat_map(|table| table.as_object().unwrap()) {
        assert!(property["description"].is_string(), "{key}: {property}");
    }
    assert!(!schema.to_string().contains("null"), "{schema:#}");
}

#[test]
fn what_is_not_a_recipe_is_refused_by_its_line() {
    let line = |text: &str| {
        let error = refused(text);
        assert!(!error.message.contains('\n'), "{}", error.message);
        assert!(error.to_string().starts_with("r.toml:"), "{error}");
        error.line
    };
    assert_eq!(line("task = \"sft\"\n[base\n"), Some(2));
    assert_eq!(line(&SHORTEST.replace("\"sft\"", "\"ppo\"")), Some(1));
    assert_eq!(line(&with("run", "steps = -1")), Some(line_of(&with("run", "steps = -1"), "steps")));
    assert_eq!(line(&with("run", "batch = \"8\"")), Some(line_of(&with("run", "batch = \"8\""), "batch")));
    assert_eq!(line(&with("lora", "targets = 1")), Some(line_of(&with("lora", "targets = 1"), "targets")));
    assert_eq!(line(&with("run", "seed = 1\nseed = 2")), Some(line_of(&with("run", "seed = 1\nseed = 2"), "seed = 2")));
    assert!(refused("").message.contains("missing field"));
    assert!(refused(&SHORTEST.replace("out = \"out\"\n", "")).message.contains("missing field `out`"));
}

#[test]
fn relative_paths_start_at_the_recipe_and_the_shipped_base_is_kept() {
    let folder = std::env::temp_dir().join(format!("ftk-recipes-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("deep")).unwrap();
    let path = folder.join("deep/recipe.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Recipe::load(&path).unwrap()
    };
    let text = with("data", "held_out = \"../h.jsonl\"").replace("[lora]\n", "[lora]\nstart = \"a/b\"\n");
    let recipe = load(&text);
    assert_eq!(recipe.base.model, folder.join("deep/model"));
    assert_eq!(recipe.data.train, folder.join("deep/rows.jsonl"));
    assert_eq!(recipe.data.held_out, Some(folder.join("deep/../h.jsonl")));
    assert_eq!(recipe.lora.unwrap().start, Some(folder.join("deep/a/b")));
    assert_eq!(recipe.run.out, folder.join("deep/out"));

    let village = SHORTEST.replace("model = \"model\"", "model = \"village\"");
    assert_eq!(load(&village).base.model, PathBuf::from(VILLAGE));
    assert_eq!(load(&village.replace("village", "./village")).base.model, folder.join("deep/./village"));
    let absolute = SHORTEST.replace("model = \"model\"", "model = \"/models/m\"");
    assert_eq!(load(&absolute).base.model, PathBuf::from("/models/m"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn names_on_the_hub_are_kept_and_written_down_with_their_commit() {
    let folder = std::env::temp_dir().join(format!("ftk-recipes-hub-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("recipe.toml");
    let text = SHORTEST.replace("\"model\"", "\"org/name@v1\"").replace("\"rows", "\"hf://org/set/a/rows");
    std::fs::write(&path, text).unwrap();
    let mut recipe = Recipe::load(&path).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(recipe.base.model, PathBuf::from("hf://org/name@v1"));
    assert_eq!(recipe.data.train, PathBuf::from("hf://org/set/a/rows.jsonl"));
    assert_eq!(recipe.portable(), recipe);
    let named = recipe.clone();
    recipe.base.model = "/c/models--org--name/snapshots/01".into();
    recipe.data.train = "/c/datasets--org--set/snapshots/02/a/rows.jsonl".into();
    let written = recipe.portable();
    assert_eq!(written.base.model, PathBuf::from("hf://org/name@01"));
    assert_eq!(written.data.train, PathBuf::from("hf://org/set@02/a/rows.jsonl"));
    assert_eq!(written.run, named.run);
}

#[test]
fn malformed_names_on_the_hub_are_refused() {
    for (key, from, to) in [
        ("base.model", "\"model\"", "\"hf://org\""),
        ("base.model", "\"model\"", "\"hf://org/name/config.json\""),
        ("data.train", "\"rows.jsonl\"", "\"hf://org/name\""),
        ("data.train", "\"rows.jsonl\"", "\"hf://org/name/../rows.jsonl\""),
    ] {
        let error = refused(&SHORTEST.replace(from, to));
        assert_eq!(error.key.as_deref(), Some(key), "{to}");
        assert!(error.message.contains("hf://ORG/NAME[@REVISION]"), "{error}");
    }
}

#[test]
fn a_recipe_that_is_not_there_is_refused_by_its_path() {
    let error = Recipe::load(Path::new("no/such/recipe.toml")).unwrap_err();
    assert_eq!(
        (error.path.as_path(), error.line, error.key.as_deref()),
        (Path::new("no/such/recipe.toml"), None, None)
    );
    assert!(error.to_string().starts_with("no/such/recipe.toml: cannot read the recipe: "), "{error}");
}
