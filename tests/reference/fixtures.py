#!/usr/bin/env python3
"""Makes the folders of tests/fixtures: numbers of transformers, PEFT and TRL that ftk is compared with.

    pip install -r tests/reference/requirements.txt
    python tests/reference/fixtures.py [FOLDER [NAME ...]]

Without FOLDER the fixtures are written in place; NAMEs restrict which. tests/fixtures/README.md says what each file is.
Every figure of a step is taken before that step's update. The steps come from the plain loops below; the same rows and
adapters are then given to TRL's own trainers, and the script fails unless both agree.
"""
import json, os, pathlib, shutil, sys, tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import torch.nn.functional as F
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from peft.utils.save_and_load import load_peft_weights
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (AutoModelForCausalLM, Gemma3TextConfig, GPT2Config, LlamaConfig, MistralConfig, Phi3Config,
                          PreTrainedTokenizerFast, PrinterCallback, Qwen2Config, Qwen3Config, TrainerCallback)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

torch.set_num_threads(1)  # one order of summation
FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
STEPS, ROWS, EOS, PAD, BETA = 10, 2, 0, 1, 0.1
ADAMW = dict(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
SPECIAL = dict(bos_token_id=EOS, eos_token_id=EOS, pad_token_id=PAD)
TINY = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
            vocab_size=128, max_position_embeddings=128, initializer_range=0.15, **SPECIAL)
CONFIGS = {
    "micro-llama": LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                               intermediate_size=128, vocab_size=512, max_position_embeddings=256,
                               tie_word_embeddings=True, rms_norm_eps=1e-5, initializer_range=0.1, **SPECIAL),
    # wavelengths below, between and above the limits of the scaling
    "tiny-llama3": LlamaConfig(**TINY, tie_word_embeddings=False, rope_parameters=dict(
        rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=32)),
    "tiny-mistral": MistralConfig(**TINY, sliding_window=None),
    "tiny-qwen2": Qwen2Config(**TINY, tie_word_embeddings=True,
                              rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    # heads that together are wider than the residual stream
    "tiny-qwen3": Qwen3Config(**TINY, tie_word_embeddings=True, head_dim=16,
                              rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "tiny-gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=128, n_positions=128, initializer_range=0.15,
                            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **SPECIAL),
    # a block of each kind; no row is as long as the window
    "tiny-gemma3": Gemma3TextConfig(**TINY, head_dim=16, query_pre_attn_scalar=16, sliding_window=64,
                                    layer_types=["sliding_attention", "full_attention"], rope_parameters=dict(
                                        sliding_attention=dict(rope_type="default", rope_theta=1e4),
                                        full_attention=dict(rope_type="default", rope_theta=1e6))),
    "tiny-phi3": Phi3Config(**TINY, sliding_window=64),
}
RANK, ALPHA = 4, 8
LINEARS = dict(target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
FUSED = dict(target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])
CONV1DS = dict(target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)


# ---------------------------------------------------------------- model and adapters

def make_base(config, out):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 1:  # norm weights start at 1 and biases at 0, and a forgotten one would not show
                p.add_(0.1 * torch.randn_like(p))
    model.save_pretrained(out)
    new = json.load(open(out / "config.json"))
    old = {k: v for k, v in new.items() if k not in ("rope_parameters", "dtype")}
    old["torch_dtype"], old["transformers_version"] = "float32", "4.46.0"
    if "rope_parameters" in new:
        scaling = dict(new["rope_parameters"])
        if "full_attention" in scaling:
            old["rope_local_base_freq"] = scaling["sliding_attention"]["rope_theta"]
            scaling = dict(scaling["full_attention"])
        old["rope_theta"] = scaling.pop("rope_theta")
        if scaling["rope_type"] != "default":
            old["rope_scaling"] = scaling
    json.dump(old, open(out / "config.v4.json", "w"), indent=2, sort_keys=True)


def base(d):
    return AutoModelForCausalLM.from_pretrained(d / "base", dtype=torch.float32)


def lora(d):
    targets = {"tiny-gpt2": CONV1DS, "tiny-phi3": FUSED}.get(d.name, LINEARS)
    return LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, task_type="CAUSAL_LM", **targets)


def make_adapter(d, name, seed, random_b):
    torch.manual_seed(seed)
    m = get_peft_model(base(d), lora(d))
    if random_b:
        with torch.no_grad():
            for n, p in m.named_parameters():
                if "lora_B" in n:
                    p.normal_(0.0, 0.05)
    m.peft_config["default"].base_model_name_or_path = "../base"
    save(m, d / name)


def save(m, out):
    m.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)  # PEFT's empty model card


def policy(d, adapter):
    return PeftModel.from_pretrained(base(d), d / adapter, is_trainable=True).train()


def trainable(m):
    return [p for p in m.parameters() if p.requires_grad]


def grad_norm(m):
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in trainable(m)])).item()


# ---------------------------------------------------------------- rows: fixed random token ids

def ids(g, vocab, *shape):
    return torch.randint(3, vocab, shape, generator=g)


def pad_rows(rows, value):
    n = max(map(len, rows))
    return torch.tensor([r + [value] * (n - len(r)) for r in rows])


def sft_data(vocab, run):
    padded = run == "padded"
    g = torch.Generator().manual_seed(11 if padded else 10)
    out = []
    for _ in range(STEPS):
        if not padded:
            x = ids(g, vocab, ROWS, 32)
            out.append(dict(input_ids=x, attention_mask=torch.ones_like(x), labels=x))
            continue
        rows, labels = [], []
        for _ in range(ROWS):
            p, c = (int(torch.randint(low, high, (1,), generator=g)) for low, high in ((4, 12), (6, 24)))
            r = ids(g, vocab, p + c).tolist()
            rows.append(r)
            labels.append([-100] * p + r[p:])
        out.append(dict(input_ids=pad_rows(rows, PAD), attention_mask=pad_rows([[1] * len(r) for r in rows], 0),
                        labels=pad_rows(labels, -100)))
    return out if run != "repeat" else out[:1] * STEPS


def dpo_data(vocab):
    g = torch.Generator().manual_seed(20)
    n = lambda low, high: int(torch.randint(low, high, (1,), generator=g))
    return [[dict(prompt_ids=ids(g, vocab, n(4, 12)).tolist(), chosen_ids=ids(g, vocab, n(4, 16)).tolist(),
                  rejected_ids=ids(g, vocab, n(4, 16)).tolist()) for _ in range(ROWS)] for _ in range(STEPS)]


# ---------------------------------------------------------------- plain loops

def sft_loop(m, data):
    opt = torch.optim.AdamW(trainable(m), **ADAMW)
    steps = []
    for b in data:
        logits = m(input_ids=b["input_ids"], attention_mask=b["attention_mask"], use_cache=False).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), b["labels"][:, 1:].flatten(), ignore_index=-100)
        opt.zero_grad()
        loss.backward()
        steps.append(dict({k: v.tolist() for k, v in b.items()}, loss=loss.item(), grad_norm=grad_norm(m)))
        opt.step()
    return steps


def dpo_batch(pairs):
    """[chosen rows; rejected rows], right-padded; the mask marks completion tokens."""
    rows, mask = [], []
    for key in ("chosen_ids", "rejected_ids"):
        for p in pairs:
            rows.append(p["prompt_ids"] + p[key])
            mask.append([0] * len(p["prompt_ids"]) + [1] * len(p[key]))
    return pad_rows(rows, PAD), pad_rows([[1] * len(r) for r in rows], 0), pad_rows(mask, 0)


def seq_logps(m, x, att, mask):
    logits = m(input_ids=x, attention_mask=att, use_cache=False).logits[:, :-1]
    lp = logits.log_softmax(-1).gather(-1, x[:, 1:, None])[..., 0]
    return (lp * mask[:, 1:]).sum(1)


def dpo_loop(m, data, reference):
    """reference(x, att, mask) -> log-probabilities of the reference model."""
    opt = torch.optim.AdamW(trainable(m), **ADAMW)
    steps = []
    for pairs in data:
        x, att, mask = dpo_batch(pairs)
        with torch.no_grad():
            ref = reference(x, att, mask)
        pol = seq_logps(m, x, att, mask)
        chosen, rejected = (BETA * (pol - ref)).chunk(2)
        loss = -F.logsigmoid(chosen - rejected).mean()
        opt.zero_grad()
        loss.backward()
        pc, pr = pol.detach().chunk(2)
        rc, rr = ref.chunk(2)
        steps.append({
            "pairs": pairs, "loss": loss.item(), "grad_norm": grad_norm(m),
            "rewards/chosen": chosen.mean().item(), "rewards/rejected": rejected.mean().item(),
            "rewards/margins": (chosen - rejected).mean().item(),
            "rewards/accuracies": (chosen > rejected).float().mean().item(),
            "logps/chosen": pc.mean().item(), "logps/rejected": pr.mean().item(),
            "policy_chosen_logps": pc.tolist(), "policy_rejected_logps": pr.tolist(),
            "ref_chosen_logps": rc.tolist(), "ref_rejected_logps": rr.tolist()})
        opt.step()
    return steps


# ---------------------------------------------------------------- the same through TRL

class Log(TrainerCallback):
    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kw):
        if "loss" in (logs or {}):
            self.rows.append({k: float(v) for k, v in logs.items()})


def trl_args(cls, **kw):
    return cls(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=ROWS, num_train_epochs=1, logging_steps=1,
               learning_rate=ADAMW["lr"], weight_decay=ADAMW["weight_decay"], adam_epsilon=ADAMW["eps"],
               lr_scheduler_type="constant", max_grad_norm=0.0, bf16=False, gradient_checkpointing=False,
               use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, max_length=None, **kw)


def sequential(cls):
    """The trainer without shuffling; DPOTrainer also takes its rows as token ids (it has no option for that)."""
    class T(cls):
        def _get_train_sampler(self, *a, **k):
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def _prepare_dataset(self, dataset, *a, **k):
            return dataset if "chosen_ids" in dataset.column_names else super()._prepare_dataset(dataset, *a, **k)
    return T


def tokenizer():
    """The collators ask a tokenizer for its padding id; no text is ever tokenised."""
    words = Tokenizer(WordLevel({"</s>": EOS, "<pad>": PAD}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>", pad_token="<pad>")


def run_trl(trainer, args, model, rows, config=None, start=None):
    """`start`: weights for a fresh adapter of `config` that TRL makes; without both the model brings its own."""
    log = Log()
    t = sequential(trainer)(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer(),
                            peft_config=config, callbacks=[log])
    t.remove_callback(PrinterCallback)
    if start:
        set_peft_model_state_dict(t.model, start)
    t.train()
    return log.rows


def agree(what, ours, theirs, tolerance=2e-4):
    worst = max(abs(a - b) for a, b in zip(ours, theirs))
    print(f"{what}: loop against TRL, largest difference {worst:.2e} over {len(theirs)} steps", file=sys.stderr)
    assert len(ours) == len(theirs) and worst < tolerance, (what, ours, theirs)


# ---------------------------------------------------------------- the fixture

def make(d, config):
    vocab = config.vocab_size
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir(parents=True)
    make_base(config, d / "base")
    make_adapter(d, "adapter", 1, True)
    make_adapter(d, "adapter_init", 2, False)

    x = ids(torch.Generator().manual_seed(3), vocab, 2, 24)
    with torch.no_grad():
        b = base(d).eval()(input_ids=x).logits
        a = policy(d, "adapter").eval()(input_ids=x).logits
    save_file({"input_ids": x, "base_logits": b.contiguous(), "adapted_logits": a.contiguous()}, d / "logits.safetensors")

    weights = {name: load_peft_weights(str(d / name), device="cpu") for name in ("adapter_init", "adapter")}
    hyper = {"optimizer": "AdamW", **ADAMW, "betas": list(ADAMW["betas"]), "max_grad_norm": None, "lr_schedule": "constant",
             "rank": RANK, "alpha": ALPHA, "dtype": "float32"}

    runs = {}
    for run in ("full", "repeat", "padded"):
        data = sft_data(vocab, run)
        m = policy(d, "adapter_init")
        steps = sft_loop(m, data)
        if run == "full":
            save(m, d / "sft_final")
        rows = [dict(input_ids=[t for t, k in zip(r, seen) if k], labels=[t for t, k in zip(l, seen) if k])
                for b in data for r, seen, l in zip(*(b[k].tolist() for k in ("input_ids", "attention_mask", "labels")))]
        trl = run_trl(SFTTrainer, trl_args(SFTConfig), base(d), rows, lora(d), weights["adapter_init"])
        # GPT-2's loss in transformers 5.23 counts the first position of a row among those predicted (README.md).
        scale = 31 / 32 if d.name == "tiny-gpt2" and run != "padded" else 1.0
        runs[run] = {"adapter_start": "adapter_init", "steps": steps, "trl_loss": [r["loss"] for r in trl],
                     "trl_grad_norm": [r["grad_norm"] for r in trl], "trl_loss_scale": scale}
        agree(f"sft {run}", [s["loss"] * scale for s in steps], runs[run]["trl_loss"], 2e-4 if scale == 1.0 else 1e-3)
    json.dump({"hyper": hyper, "runs": runs}, open(d / "sft.json", "w"))

    runs, data = {}, dpo_data(vocab)
    rows = [p for b in data for p in b]
    for run in ("from_init", "from_adapter", "from_adapter_ref_copy"):
        start, copied = "adapter_init" if run == "from_init" else "adapter", run == "from_adapter_ref_copy"
        m = policy(d, start)
        if copied:
            frozen = policy(d, start).eval()
            reference = lambda *z: seq_logps(frozen, *z)
        else:
            def reference(*z):
                with m.disable_adapter():
                    return seq_logps(m, *z)
        steps = dpo_loop(m, data, reference)
        if run == "from_init":
            save(m, d / "dpo_final")
        # A PeftModel makes TRL take a frozen copy of its adapter as the reference.
        model, given = (policy(d, start), ()) if copied else (base(d), (lora(d), weights[start]))
        trl = run_trl(DPOTrainer, trl_args(DPOConfig, beta=BETA), model, rows, *given)
        keys = ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")
        runs[run] = {"adapter_start": start, "beta": BETA,
                     "reference": "frozen copy of the start adapter" if copied else "adapter disabled", "steps": steps,
                     "trl": {k: [r[k] for r in trl] for k in keys}}
        for key in keys:
            if key != "rewards/accuracies":
                tolerance = 5e-3 if key.startswith("logps") else 2e-4
                agree(f"dpo {run} {key}", [s[key] for s in steps], runs[run]["trl"][key], tolerance)
    json.dump({"hyper": hyper, "loss_type": "sigmoid", "runs": runs}, open(d / "dpo.json", "w"))


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else FIXTURES
    for name in sys.argv[2:] or CONFIGS:
        print(name, file=sys.stderr)
        make(folder / name, CONFIGS[name])
