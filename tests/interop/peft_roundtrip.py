#!/usr/bin/env python3
"""Carries adapters from ftk to PEFT and back, and compares what both compute with them.

    python tests/interop/peft_roundtrip.py [--ftk target/release/ftk] [--base FOLDER]

README.md beside this file says what is needed. For each case below: ftk trains an adapter for a few steps, PEFT loads
the export without a warning and without a missing or unexpected key, and both give the same logits; then PEFT saves an
adapter of the same kind with random factors, ftk reads it, and again both give the same logits.
"""
import argparse, json, os, pathlib, subprocess, sys, tempfile, warnings

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.utils.save_and_load import load_peft_weights
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOLERANCE = 1e-4
logging.disable_progress_bar()
# What makes the adapter: the [lora] section of ftk's recipe, and PEFT's LoraConfig.
CASES = {
    "plain": ("rank = 4\nalpha = 8.0", dict(r=4, lora_alpha=8, target_modules="all-linear")),
    "rslora": ("rank = 4\nalpha = 8.0\nrslora = true",
               dict(r=4, lora_alpha=8, use_rslora=True, target_modules="all-linear")),
    "rank_pattern": ("rank = 4\nalpha = 8.0\nrank_pattern = { v_proj = 2, 'layers.1.self_attn.q_proj' = 6 }\n"
                     "alpha_pattern = { v_proj = 16.0 }",
                     dict(r=4, lora_alpha=8, target_modules="all-linear",
                          rank_pattern={"v_proj": 2, "layers.1.self_attn.q_proj": 6}, alpha_pattern={"v_proj": 16})),
    "rank_pattern and rslora": ("rank = 2\nrslora = true\nrank_pattern = { '.*mlp.*' = 5 }",
                                dict(r=2, lora_alpha=16, use_rslora=True, target_modules="all-linear",
                                     rank_pattern={".*mlp.*": 5})),
    "layers": ("rank = 4\ntargets = ['q_proj', 'down_proj']\nlayers = [1]",
               dict(r=4, lora_alpha=16, target_modules=["q_proj", "down_proj"], layers_to_transform=[1])),
    "pattern and exclude": ("rank = 4\ntargets = '.*(attn|mlp)\\..*'\nexclude = ['1.mlp.up_proj', 'o_proj']",
                            dict(r=4, lora_alpha=16, target_modules=r".*(attn|mlp)\..*_proj",
                                 exclude_modules=["1.mlp.up_proj", "o_proj"])),
}


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")


def base(args):
    return AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32).eval()


def logits_of_ftk(args, adapter, ids, folder):
    save_file({"input_ids": ids}, folder / "ids.safetensors")
    out = folder / "logits.safetensors"
    run(args.ftk, "logits", "--base", args.base, "--adapter", adapter, "--ids", folder / "ids.safetensors", "--out", out)
    return load_file(out)["logits"]


def compare(what, model, args, adapter, ids, folder):
    with torch.no_grad():
        theirs, without = model(input_ids=ids).logits, base(args)(input_ids=ids).logits
    ours = logits_of_ftk(args, adapter, ids, folder)
    difference, effect = (ours - theirs).abs().max().item(), (theirs - without).abs().max().item()
    print(f"{what}: largest difference {difference:.1e}, the adapter moves logits by {effect:.2g}")
    assert difference < TOLERANCE, what
    assert effect > 100 * TOLERANCE, f"{what}: the adapter does hardly anything, so that nothing was compared"


def trained_by_ftk(args, lora, vocab, folder):
    g = torch.Generator().manual_seed(1)
    rows = [json.dumps({"input_ids": torch.randint(3, vocab, (24,), generator=g).tolist()}) for _ in range(8)]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    (folder / "recipe.toml").write_text(
        f"task = 'sft'\n[base]\nmodel = '{args.base}'\n[data]\ntrain = 'rows.jsonl'\n[lora]\n{lora}\n"
        "[optim]\nlr = 0.02\n[run]\nout = 'out'\nbatch = 4\nsteps = 6\n")
    run(args.ftk, "--quiet", "train", "--recipe", folder / "recipe.toml")
    return folder / "out"


def to_peft(args, adapter):
    """Loads an export as a user would; any warning about it is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("default", FutureWarning)  # PEFT and transformers about each other
        model = PeftModel.from_pretrained(base(args), adapter).eval()
    result = set_peft_model_state_dict(model, load_peft_weights(str(adapter), device="cpu"))
    missing = [key for key in result.missing_keys if "lora_" in key]
    assert missing == [], missing
    assert list(result.unexpected_keys) == [], result.unexpected_keys
    return model


def made_by_peft(args, config, folder):
    torch.manual_seed(2)
    model = get_peft_model(base(args), LoraConfig(task_type="CAUSAL_LM", **config)).eval()
    with torch.no_grad():
        for name, factor in model.named_parameters():
            if "lora_B" in name:
                factor.normal_(0.0, 0.02)
    model.save_pretrained(folder / "peft")
    return model, folder / "peft"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ftk", type=pathlib.Path, default=ROOT / "target/release/ftk")
    parser.add_argument("--base", type=pathlib.Path, default=ROOT / "tests/fixtures/micro-llama/base")
    args = parser.parse_args()
    args.base = args.base.resolve()
    vocab = json.load(open(args.base / "config.json"))["vocab_size"]
    ids = torch.randint(3, vocab, (2, 24), generator=torch.Generator().manual_seed(3))
    for name, (lora, config) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            adapter = trained_by_ftk(args, lora, vocab, folder)
            compare(f"{name}, from ftk to PEFT", to_peft(args, adapter), args, adapter, ids, folder)
            model, adapter = made_by_peft(args, config, folder)
            ours, theirs = (load_file(folder / at / "adapter_model.safetensors") for at in ("out", "peft"))
            assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}, "other sites or ranks"
            compare(f"{name}, from PEFT to ftk", model, args, adapter, ids, folder)
    print("all agree")


if __name__ == "__main__":
    main()
