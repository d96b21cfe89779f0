//! Keys that other programs (transformers, PEFT, TRL, axolotl, LLaMA-Factory, Unsloth) have and recipes have not: what they
//! are called here, or why there are none.

/// What other programs call keys that are called otherwise here, and stand in a section.
pub(crate) const RENAMED: [(&str, &str); 93] = [
    ("adam_beta1", "optim.betas"),
    ("adam_beta2", "optim.betas"),
    ("adam_epsilon", "optim.eps"),
    ("alpha", "lora.alpha"),
    ("assistant_only_loss", "data.loss"),
    ("base_model", "base.model"),
    ("batch_size", "run.batch"),
    ("beta", "dpo.beta"),
    ("bf16", "run.precision"),
    ("completion_only_loss", "data.loss"),
    ("cutoff_len", "data.max_length"),
    ("data_seed", "run.seed"),
    ("dataset", "data.train"),
    ("dataset_text_field", "data.columns"),
    ("datasets", "data.train"),
    ("desirable_weight", "dpo.kto.desirable_weight"),
    ("dpo_beta", "dpo.beta"),
    ("early_stopping_patience", "run.patience"),
    ("epochs", "run.epochs"),
    ("eval_dataset", "data.held_out"),
    ("eval_steps", "run.eval_every"),
    ("eval_strategy", "run.eval_every"),
    ("evals_per_epoch", "run.eval_every"),
    ("exclude_modules", "lora.exclude"),
    ("gradient_accumulation_steps", "run.accumulate"),
    ("gradient_checkpointing", "run.recompute"),
    ("label_smoothing", "dpo.label_smoothing"),
    ("layers_to_transform", "lora.layers"),
    ("learning_rate", "optim.lr"),
    ("load_best_model_at_end", "run.best"),
    ("lora_alpha", "lora.alpha"),
    ("lora_dropout", "lora.dropout"),
    ("lora_model_dir", "lora.start"),
    ("lora_r", "lora.rank"),
    ("lora_rank", "lora.rank"),
    ("lora_target", "lora.targets"),
    ("lora_target_linear", "lora.targets"),
    ("lora_target_modules", "lora.targets"),
    ("loss_type", "dpo.loss"),
    ("lr", "optim.lr"),
    ("lr_scheduler", "optim.schedule"),
    ("lr_scheduler_type", "optim.schedule"),
    ("max_grad_norm", "optim.max_grad_norm"),
    ("max_length", "data.max_length"),
    ("max_prompt_length", "data.max_length"),
    ("max_seq_len", "data.max_length"),
    ("max_seq_length", "data.max_length"),
    ("max_steps", "run.steps"),
    ("metric_for_best_model", "run.best"),
    ("micro_batch_size", "run.batch"),
    ("model_name", "base.model"),
    ("model_name_or_path", "base.model"),
    ("num_epochs", "run.epochs"),
    ("num_train_epochs", "run.epochs"),
    ("output_dir", "run.out"),
    ("packing", "data.packing"),
    ("per_device_train_batch_size", "run.batch"),
    ("pref_beta", "dpo.beta"),
    ("pref_loss", "dpo.loss"),
    ("r", "lora.rank"),
    ("random_state", "run.seed"),
    ("rank", "lora.rank"),
    ("rank_pattern", "lora.rank_pattern"),
    ("ref_model", "dpo.reference"),
    ("rpo_alpha", "dpo.sft_weight"),
    ("sample_packing", "data.packing"),
    ("save_steps", "run.save_every"),
    ("save_strategy", "run.save_every"),
    ("save_total_limit", "run.keep"),
    ("saves_per_epoch", "run.save_every"),
    ("seed", "run.seed"),
    ("sequence_len", "data.max_length"),
    ("shuffle", "run.shuffle"),
    ("simpo_gamma", "dpo.simpo.gamma"),
    ("steps", "run.steps"),
    ("target_modules", "lora.targets"),
    ("targets", "lora.targets"),
    ("test_datasets", "data.held_out"),
    ("tf32", "run.tf32"),
    ("train_dataset", "data.train"),
    ("train_file", "data.train"),
    ("train_on_inputs", "data.loss"),
    ("train_on_prompt", "data.loss"),
    ("undesirable_weight", "dpo.kto.undesirable_weight"),
    ("use_gradient_checkpointing", "run.recompute"),
    ("use_rslora", "lora.rslora"),
    ("val_file", "data.held_out"),
    ("val_set_size", "data.held_out"),
    ("val_size", "data.held_out"),
    ("validation_file", "data.held_out"),
    ("warmup_ratio", "optim.warmup_steps"),
    ("warmup_steps", "optim.warmup_steps"),
    ("weight_decay", "optim.weight_decay"),
];

/// Keys of which there are none, or no key but something else, with what to know of them.
const ABSENT: [(&[&str], &str); 17] = [
    (
        &["dora", "use_dora"],
        "DoRA rescales the base's own output beside adding to it; proofs are about what is added, so there is only LoRA",
    ),
    (
        &["load_in_4bit", "load_in_8bit", "quantization", "quantization_bit", "bnb_4bit_quant_type"],
        "no base is quantised to be trained on; base.hold = \"stored\" holds it as its files do, and run.precision = \"bf16\" \
         in half the memory",
    ),
    (&["fp16", "float16"], "there is no training in fp16: run.precision = \"bf16\" is the format of half the size"),
    (
        &["logging_steps", "logging_strategy", "logging_first_step"],
        "every step is logged, in metrics.jsonl: take it out",
    ),
    (
        &["report_to", "logging_dir", "wandb_project", "use_wandb", "run_name"],
        "`ftk report --tensorboard FOLDER` makes event files of what metrics.jsonl holds: take it out",
    ),
    (&["neftune_noise_alpha"], "no noise is added to embeddings: take it out"),
    (
        &["deepspeed", "fsdp", "fsdp_config", "ddp_find_unused_parameters"],
        "several processes share a run under `mpirun`",
    ),
    (
        &[
            "dataloader_num_workers",
            "dataset_num_proc",
            "dataset_processes",
            "preprocessing_num_workers",
            "num_workers",
        ],
        "rows are read once, before training: take it out",
    ),
    (&["optimizer", "optim_args"], "the optimiser is AdamW, and the section optim has its keys"),
    (
        &["bias", "task_type", "init_lora_weights", "fan_in_fan_out", "inference_mode"],
        "adapters are LoRA of causal models, without biases, B zero at the beginning: take it out",
    ),
    (
        &["modules_to_save", "lora_modules_to_save", "additional_target"],
        "LoRA's factors are all that is trained; lora.targets may name lm_head, and base.train = true trains every weight",
    ),
    (
        &["adapter", "finetuning_type", "peft_type"],
        "the section lora makes it LoRA, and base.train = true trains every weight",
    ),
    (&["rl", "stage", "training_type"], "task says it, \"sft\" or \"dpo\", and dpo.loss which loss of preferences"),
    (&["template", "chat_template"], "the chat template is the base's own: take it out"),
    (&["push_to_hub", "hub_model_id", "hub_token"], "`ftk push FOLDER --to ORG/NAME` sends a result to the hub"),
    (
        &["resume_from_checkpoint", "auto_resume_from_checkpoints"],
        "`ftk train RECIPE --resume` goes on from a checkpoint",
    ),
    (
        &["flash_attention", "flash_attn", "attn_implementation", "use_liger_kernel"],
        "kernels are chosen by the machine: take it out",
    ),
];

/// What to know of a key of another program's.
pub(crate) fn hint(key: &str) -> Option<String> {
    if let Some((_, why)) = ABSENT.iter().find(|(names, _)| names.contains(&key)) {
        return Some((*why).to_owned());
    }
    let (_, ours) = RENAMED.iter().find(|(name, _)| *name == key)?;
    let (section, inner) = ours.split_once('.').unwrap_or(("", ours));
    Some(match inner == key {
        true => format!("it stands in the section {section}: {ours}"),
        false => format!("here it is called {ours}"),
    })
}
