#!/usr/bin/env python3
"""Makes tests/fixtures/micro-llama/preferences.json: TRL's figures under ORPO, SimPO and KTO.

    python tests/reference/preferences.py [FILE]

Start adapter and optimiser are those of the run `from_adapter` in dpo.json beside it, and the rows are made of its rows:

- `orpo`: with prompts of one token, because TRL's supervised part counts the prompt's tokens, too, but for the first,
  which nothing predicts; ftk's counts the chosen completion's alone.
- `simpo`: as they are.
- `kto`: one completion of each pair, wanted or not. TRL's trainer takes token ids where its dataset has them; only its
  tokenisation is passed over.

Every figure of a step is taken before that step's update.
"""
import json, sys

import fixtures
from fixtures import ROWS, FIXTURES, load_peft_weights
from trl import KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

MODEL = FIXTURES / "micro-llama"
KEYS = ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
        "logps/chosen", "logps/rejected", "kl")


def with_ids(cls):
    """The trainer on rows of token ids."""
    class T(cls):
        def tokenize_row(self, row, *a, **k):
            out = dict(prompt_input_ids=row["prompt_ids"], prompt_attention_mask=[1] * len(row["prompt_ids"]))
            for side in ("chosen", "rejected"):
                ids = row["prompt_ids"] + row[side + "_ids"]
                out[side + "_input_ids"], out[side + "_attention_mask"] = ids, [1] * len(ids)
                out[side + "_labels"] = [-100] * len(row["prompt_ids"]) + row[side + "_ids"]
            return out
    return T


class Kto(KTOTrainer):
    def _prepare_dataset(self, dataset, *a, **k):
        def mismatch(rows):
            return {"KL_completion_ids": [rows["completion_ids"][-1]] + rows["completion_ids"][:-1]}
        return dataset.map(mismatch, batched=True, batch_size=ROWS)


def unpaired(pairs):
    rows = []
    for at, pair in enumerate(pairs):
        wanted = at % 3 != 1
        rows.append(dict(prompt_ids=pair["prompt_ids"], completion_ids=pair["chosen_ids" if wanted else "rejected_ids"],
                         label=wanted))
    return rows


def make(out):
    pairs = [pair for batch in fixtures.dpo_data(512) for pair in batch]
    short = [dict(pair, prompt_ids=pair["prompt_ids"][:1]) for pair in pairs]
    alone = unpaired(pairs)
    runs = {
        "orpo": (with_ids(ORPOTrainer), ORPOConfig, dict(beta=0.3), short),
        "simpo": (with_ids(CPOTrainer), CPOConfig,
                  dict(loss_type="simpo", beta=2.0, simpo_gamma=1.0, cpo_alpha=0.0, label_smoothing=0.1), pairs),
        "kto": (Kto, KTOConfig, dict(beta=0.2, desirable_weight=1.0, undesirable_weight=1.5,
                                     train_sampling_strategy="sequential"), alone),
    }
    made = {}
    for name, (trainer, config, settings, rows) in runs.items():
        weights = load_peft_weights(str(MODEL / "adapter"), device="cpu")
        args = fixtures.trl_args(config, remove_unused_columns=name == "kto", **settings)
        # The older trainers want texts, which are not looked at.
        texts = [dict(row, prompt="p", chosen="c", rejected="r") for row in rows] if name != "kto" else rows
        steps = fixtures.run_trl(trainer, args, fixtures.base(MODEL), texts, fixtures.lora(MODEL), weights)
        settings.pop("train_sampling_strategy", None)
        steps = [{key: step[key] for key in KEYS if key in step} for step in steps]
        made[name] = dict(settings=settings, rows=rows, steps=steps)
    json.dump({"runs": made}, open(out, "w"), indent=1)


if __name__ == "__main__":
    make(sys.argv[1] if len(sys.argv) > 1 else MODEL / "preferences.json")
