#!/usr/bin/env python3
"""Makes tests/fixtures/micro-llama/dpo_losses.json: TRL's figures under losses other than the plain sigmoid.

    python tests/reference/dpo_losses.py [FILE]

Rows, start adapter and optimiser are those of the run `from_adapter` in dpo.json beside it; every figure of a step is
taken before that step's update.
"""
import json, sys

import fixtures as micro

RUNS = {"ipo": dict(loss_type="ipo"), "hinge": dict(loss_type="hinge"),
        "sigmoid_and_sft": dict(loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.5])}
KEYS = ("loss", "grad_norm", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies",
        "logps/chosen", "logps/rejected", "mean_token_accuracy", "num_tokens")


def make(out):
    weights = micro.load_peft_weights(str(micro.FIXTURE / "adapter"), device="cpu")
    rows = [pair for batch in micro.dpo_data() for pair in batch]
    runs = {}
    for name, loss in RUNS.items():
        args = micro.trl_args(micro.DPOConfig, beta=micro.BETA, **loss)
        steps = micro.run_trl(micro.DPOTrainer, args, micro.base(micro.FIXTURE), rows, weights)
        runs[name] = [{key: step[key] for key in KEYS} for step in steps]
    json.dump({"runs": runs}, open(out, "w"), indent=1)


if __name__ == "__main__":
    make(sys.argv[1] if len(sys.argv) > 1 else micro.FIXTURE / "dpo_losses.json")
