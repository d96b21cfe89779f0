"""What `train_step.rs` compares with: the same rows and model, trained with PEFT on the CPU.

    peer.py sft|dpo MODE FOLDER ROWS BATCH LENGTH PROMPT STEPS

prints a JSON object when the first step begins, and one with a `step` after each step. ROWS is a file in FOLDER beside
`model`, PROMPT the tokens of a prompt among the LENGTH of a sequence in DPO. MODE is one of

    bare-fp32, bare-autocast, bare-bf16   a loop of PyTorch's own, in fp32, with products in bf16, all in bf16
    trl-fp32, trl-autocast                TRL's trainers
"""
import contextlib, json, os, sys, tempfile

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1")

import torch
from peft import LoraConfig, get_peft_model

task, mode, folder, file = sys.argv[1:5]
batch, length, prompt, steps = map(int, sys.argv[5:])
stdout, sys.stdout = sys.stdout, sys.stderr
linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
lora = LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=linear)


def tokenizer():
    # A token a word, as the file has it: of some families AutoTokenizer builds another one from its vocabulary.
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(f"{folder}/model")


def say(**what):
    print(json.dumps(what), file=stdout, flush=True)


def trl(autocast):
    from datasets import load_dataset
    from transformers import PrinterCallback, TrainerCallback
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    class Report(TrainerCallback):
        def on_train_begin(self, args, state, control, **kw):
            say(begins=True)

        def on_step_end(self, args, state, control, **kw):
            say(step=state.global_step)

    Config, Trainer = {"sft": (SFTConfig, SFTTrainer), "dpo": (DPOConfig, DPOTrainer)}[task]
    with tempfile.TemporaryDirectory() as out:
        rows = load_dataset("json", data_files=f"{folder}/{file}", split="train", cache_dir=out)
        config = Config(
            output_dir=out, per_device_train_batch_size=batch, max_steps=steps, max_length=length, learning_rate=1e-4,
            bf16=autocast, gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True,
            use_cpu=True, model_init_kwargs={"dtype": "float32"},
        )
        trainer = Trainer(
            model=f"{folder}/model", args=config, train_dataset=rows, processing_class=tokenizer(), peft_config=lora,
            callbacks=[Report()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()


def bare(precision):
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(f"{folder}/model", dtype=dtype), lora)
    words = tokenizer()
    rows = [json.loads(line) for line in open(f"{folder}/{file}")]
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = lambda text: words(text, add_special_tokens=False)["input_ids"]
    products = lambda: torch.autocast("cpu", torch.bfloat16) if precision == "autocast" else contextlib.nullcontext()

    def log_probs(batch, scored):
        """Of the last `scored` tokens of each sequence, all of one length; logits only there."""
        batch = torch.tensor(batch)
        logits = model(input_ids=batch, logits_to_keep=scored + 1).logits[:, :-1].float()
        return torch.log_softmax(logits, -1).gather(-1, batch[:, -scored:, None])[..., 0]

    say(begins=True)
    for step in range(steps):
        some = rows[step * batch:][:batch]
        with products():
            if task == "sft":
                loss = -log_probs([ids(row["text"])[:length] for row in some], length - 1).mean()
            else:
                # Chosen ones, then rejected ones, with their prompts.
                pairs = [
                    (ids(row["prompt"]) + ids(row[kind]))[:length] for kind in ("chosen", "rejected") for row in some
                ]
                policy = log_probs(pairs, length - prompt).sum(-1)
                with torch.no_grad(), model.disable_adapter():
                    reference = log_probs(pairs, length - prompt).sum(-1)
                chosen, rejected = (policy - reference).chunk(2)
                loss = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        say(step=step + 1)


kind, precision = mode.split("-")
trl(precision == "autocast") if kind == "trl" else bare(precision)
