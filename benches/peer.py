"""What `train_step.rs` compares with: the same rows and model, trained with TRL and PEFT in fp32 on the CPU.

    peer.py sft|dpo FOLDER BATCH LENGTH STEPS

prints a JSON object with a `step` after each step.
"""
import json, os, sys, tempfile

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_TELEMETRY="1")

from datasets import load_dataset
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

task, folder = sys.argv[1:3]
batch, length, steps = map(int, sys.argv[3:])
stdout, sys.stdout = sys.stdout, sys.stderr


class Report(TrainerCallback):
    def on_step_end(self, args, state, control, **kw):
        print(json.dumps({"step": state.global_step}), file=stdout, flush=True)


Config, Trainer = {"sft": (SFTConfig, SFTTrainer), "dpo": (DPOConfig, DPOTrainer)}[task]
with tempfile.TemporaryDirectory() as out:
    rows = load_dataset("json", data_files=f"{folder}/{task}.jsonl", split="train", cache_dir=out)
    config = Config(
        output_dir=out, per_device_train_batch_size=batch, max_steps=steps, max_length=length, learning_rate=1e-4,
        bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True,
        use_cpu=True, model_init_kwargs={"dtype": "float32"},
    )
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", target_modules=linear)
    trainer = Trainer(
        model=f"{folder}/model", args=config, train_dataset=rows, peft_config=lora, callbacks=[Report()]
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
