//! What the help of a verb says behind its options: examples, each of which a test parses, and the exit codes of verbs
//! that have codes of their own.

pub(super) const FTK: &str = "\
Examples:
  ftk demo
  ftk train dpo
  ftk train my-recipe.toml
  ftk generate --base village --adapter runs/dpo --prompt \"What does Elsa sell?\"

Exit codes:
  0  done, or: yes
  1  the answer is no
  2  could not be done, or could not be told

`ftk help VERB` shows the options of a verb.";

pub(super) const TRAIN: &str = "\
Examples:
  ftk train dpo
  ftk train sft --set base.model=ORG/NAME --set data.train=rows.jsonl --out runs/mine
  ftk train my-recipe.toml
  ftk train my-recipe.toml --dry-run
  ftk train my-recipe.toml --set optim.lr=1e-4 --out runs/second
  ftk train my-recipe.toml --resume

Exit codes:
  0    trained
  2    could not be done
  129  stopped by SIGHUP; --resume goes on from the checkpoint
  130  stopped by SIGINT
  138  stopped by SIGUSR1, as Slurm's --signal sends it
  143  stopped by SIGTERM, or because standard output was closed";

pub(super) const BATCH: &str = "\
Examples:
  ftk batch plan.toml --dry-run
  ftk batch plan.toml --jobs 2
  ftk batch plan.toml --shard 2/4
  ftk batch plan.toml --gather
  ftk batch plan.toml --emit slurm --to jobs
  ftk batch plan.toml --emit kubernetes --to jobs --image registry.example/ftk:0.1 --claim runs --queue team

Exit codes:
  0    all runs are done, and their proofs, if any, are valid
  1    all runs are done, and a proof is not valid
  2    a run could not be done, or is not done yet (--gather); the others are
  129  stopped by SIGHUP; the same command goes on
  130  stopped by SIGINT
  138  stopped by SIGUSR1, as Slurm's --signal sends it
  143  stopped by SIGTERM";

pub(super) const REPORT: &str = "\
Examples:
  ftk report runs/one runs/two
  ftk report runs/sweep/* --out sweep.html --tensorboard board";

pub(super) const AUDIT: &str = "\
Examples:
  ftk audit runs/dpo --expect-root DIGEST
  ftk audit runs/dpo --recipe my-recipe.toml --sample 8 --nonce \"order 17\"
  ftk audit runs/dpo --step 17
  ftk audit runs/dpo --against runs/theirs
  ftk audit runs/dpo --step 17 --record ours.jsonl
  ftk audit runs/dpo --step 17 --dispute theirs.jsonl --out dispute.safetensors
  ftk audit runs/dpo --open 3 --out row.json
  ftk audit transcript.jsonl --opened row.json --expect-root DIGEST

Exit codes:
  0  the run follows from its recipe, rows and base as far as it was computed again; two runs are the same
  1  it does not, and the check and the step are named; two runs, or two records of a step, part
  2  could not be told";

pub(super) const REFEREE: &str = "\
Examples:
  ftk referee dispute.safetensors

Exit codes:
  0  one of the two is right, and named
  1  neither is, or neither shows anything
  2  could not be told: whoever has recipe, rows and base can (ftk audit --step)";

pub(super) const PULL: &str = "\
Examples:
  ftk pull HuggingFaceTB/SmolLM2-135M-Instruct
  ftk pull ORG/NAME@main --file model.Q4_K_M.gguf
  ftk pull ORG/ROWS --dataset";

pub(super) const PREVIEW: &str = "\
Examples:
  ftk data preview dpo --rows 5
  ftk data preview --base village --data rows.jsonl --task dpo";

pub(super) const RECIPES_LS: &str = "\
Examples:
  ftk recipes ls";

pub(super) const RECIPES_SHOW: &str = "\
Examples:
  ftk recipes show dpo";

pub(super) const RECIPES_CP: &str = "\
Examples:
  ftk recipes cp dpo my-recipe.toml";

pub(super) const RECIPES_CHECK: &str = "\
Examples:
  ftk recipes check my-recipe.toml --set run.batch=4";

pub(super) const SCHEMA: &str = "\
Examples:
  ftk schema > recipe.schema.json
  ftk schema defi > plan.schema.json
  ftk schema --output verify
  ftk schema --output recipes ls";

pub(super) const ESTIMATE: &str = "\
Examples:
  ftk estimate my-recipe.toml
  ftk estimate my-recipe.toml --set run.batch=1
  ftk estimate --base models/llama-7b --tokens 200";

pub(super) const EVAL: &str = "\
Examples:
  ftk eval my-recipe.toml --adapter runs/dpo
  ftk eval --base village --data rows.jsonl
  ftk eval --base village --data pairs.jsonl --task dpo";

pub(super) const INSPECT: &str = "\
Examples:
  ftk inspect village --digest
  ftk inspect runs/dpo --base village

Exit codes:
  0  shown
  1  shown, and something stands in the way of using it
  2  could not be done";

pub(super) const MERGE: &str = "\
Examples:
  ftk merge --base village --adapter runs/dpo --out runs/merged --dtype bf16";

pub(super) const AVERAGE: &str = "\
Examples:
  ftk average runs/one runs/two --out runs/both
  ftk average runs/one runs/two --weights 0.75,0.25 --method factors --out runs/both
  ftk average runs/one runs/two --commitments one/commitment,two/commitment --out runs/both
  ftk average --commitments one/commitment,two/commitment --out both
  ftk average --verify both

Exit codes:
  0  averaged; with --verify: it is the stack of its parts, which are named
  1  with --verify: it is not, and the check is named
  2  could not be done, or could not be told";

pub(super) const CONVERT: &str = "\
Examples:
  ftk convert runs/dpo --base village --out dpo.gguf --dtype f16
  ftk convert dpo.gguf --base village --out runs/again
  ftk convert runs/bundle --out bundle.ftk";

pub(super) const GENERATE: &str = "\
Examples:
  ftk generate --base village --prompt \"What does Elsa sell?\"
  ftk generate --base village --adapter runs/dpo --prompt \"What does Elsa sell?\" --max-tokens 20
  ftk generate --base village --prompt \"What does Elsa sell?\" --temperature 0.8 --top-p 0.95 --samples 4 --seed 1
  ftk generate --base ORG/NAME --rows prompts.jsonl --temperature 1 --samples 8 --batch 16 --json";

pub(super) const CHAT: &str = "\
Examples:
  ftk chat --base village --adapter runs/dpo
  ftk chat --base village --adapter runs/dpo --temperature 0.8 --seed 1

A line is a turn. /reset begins a new conversation; /adapter off asks the base alone, /adapter both asks base and
adapter and goes on from the adapter's answer; /adapter on, at first, asks the adapter. /quit or the end of input ends.";

pub(super) const LOGITS: &str = "\
Examples:
  ftk logits --base village --adapter runs/dpo --ids ids.safetensors --out logits.safetensors";

pub(super) const COMMIT: &str = "\
Examples:
  ftk commit --base village --adapter runs/dpo --out runs/commitment";

pub(super) const OPEN: &str = "\
Examples:
  ftk open delivered/adapter --commitment bundle --opening delivered/opening.bin

Exit codes:
  0  it is the committed adapter
  1  it is another one
  2  could not be told";

pub(super) const PROVE: &str = "\
Examples:
  ftk prove --base village --adapter runs/dpo --commitment runs/commitment \
--prompt \"What does Elsa sell?\" --context \"order 17\" --out bundle
  ftk prove --base village --adapter runs/dpo --commitment runs/commitment \
--task preference --rows pairs.jsonl --out margins
  ftk prove --base runs/base --adapter runs/nodes --commitment runs/commitment \
--graph graph.graph --node bea-3 --out nodes
  ftk prove --base runs/base --adapter runs/ratings --commitment runs/commitment \
--graph ratings.csv --pair ada bea --before 1577836800 --out pair";

pub(super) const VERIFY: &str = "\
Examples:
  ftk verify bundle --base village --expect-adapter DIGEST --expect-input \"What does Elsa sell?\" \
--expect-context \"order 17\" --expect-max-tokens 64
  ftk verify margins --base village --expect-adapter DIGEST --expect-rows pairs.jsonl --expect-task preference
  ftk verify pair --base runs/base --expect-adapter DIGEST --expect-graph ROOT --expect-pair ada bea

Exit codes:
  0  valid: every check passed, and nothing that decides was left unsaid
  1  invalid: the bundle is malformed or fails a check, which is named
  2  consistent (nothing is wrong, but an expectation is missing) or undecided (no base, another protocol, a limit)";

pub(super) const GNN_IMPORT: &str = "\
Examples:
  ftk gnn import --edges edges.csv --nodes nodes.csv --out town.graph
  ftk gnn import cora.npz --out cora.graph
  ftk gnn import ratings.csv --before 1577836800";

pub(super) const GNN_SCORE: &str = "\
Examples:
  ftk gnn score --base runs/guilds/base --graph town.graph
  ftk gnn score --base runs/ratings/base --adapter runs/mine --graph town.graph --pairs asked.csv";

pub(super) const GNN_FEEDBACK: &str = "\
Examples:
  ftk gnn feedback gnn/bitcoin-alpha-feedback --set data.train=known.csv --ratings monday.csv
  ftk gnn feedback gnn/bitcoin-alpha-feedback --set data.train=known.csv --ratings monday.csv --ratings tuesday.csv --resume";

pub(super) const GNN_ABLATE: &str = "\
Examples:
  ftk gnn ablate my-recipe.toml --seeds 5 --out runs/compared";

pub(super) const DEFI_IMPORT: &str = "\
Examples:
  ftk defi import klines-2025-01.csv.gz klines-2025-02.csv.gz --out btc.market";

pub(super) const DEFI_BACKTEST: &str = "\
Examples:
  ftk defi backtest quoter --out runs/quoter
  ftk defi backtest my-plan.toml --set walk.windows=3 --out runs/mine";

pub(super) const DEFI_REPORT: &str = "\
Examples:
  ftk defi report runs/quoter --out page.html";

pub(super) const DEFI_REPLAY: &str = "\
Examples:
  ftk defi replay events.csv.gz --positions mine.csv --fee 500 --decimals 6,18";

pub(super) const DEFI_QUOTE: &str = "\
Examples:
  ftk defi quote --plan quoter --state state.json --adapter runs/quoter/window-1/adapter";

pub(super) const DEFI_AUDIT: &str = "\
Examples:
  ftk defi audit --plan quoter --log decisions.jsonl --expect-head DIGEST
  ftk defi audit --plan quoter --log decisions.jsonl --sample 3 --nonce 17 \
--adapter adapter --commitment commitment --out bundle
  ftk defi audit --plan quoter --log decisions.jsonl --sample 3 --nonce 17 --bundle bundle --expect-adapter DIGEST

Exit codes:
  0  the log follows, and its proof, if there is one, is valid
  1  the log or its proof fails a check, which is named
  2  could not be told";

pub(super) const DEMO: &str = "\
Examples:
  ftk demo
  ftk demo --dir demo";

pub(super) const DOCTOR: &str = "\
Examples:
  ftk doctor
  ftk doctor --offline

Exit codes:
  0  nothing stands in the way
  1  there is a problem, with its remedy beside it";

pub(super) const COMPLETIONS: &str = "\
Examples:
  ftk completions bash > ~/.local/share/bash-completion/completions/ftk
  ftk completions zsh > ~/.zfunc/_ftk
  ftk completions fish > ~/.config/fish/completions/ftk.fish";

pub(super) const MAN: &str = "\
Examples:
  ftk man --out ~/.local/share/man/man1";

pub(super) const PUSH: &str = "\
Examples:
  ftk push runs/dpo --to my-org/polite-village --dry-run
  ftk push runs/dpo --to my-org/polite-village --private
  ftk push merged --to my-org/polite-village-merged --message \"Merge the third adapter\"";
