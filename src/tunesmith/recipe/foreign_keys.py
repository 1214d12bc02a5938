"""The keys that other tools use, and what they are called here.

People arrive with a configuration of another tool. A key of theirs is refused like any unknown key,
but the answer names our own key instead of the nearest spelling. A table, because the names are
facts about other tools and follow no rule.
"""

from __future__ import annotations

from tunesmith.recipe.data import plain_word

_OPTIMIZER = "training.optimizer (adamw, adamw-8bit, paged-adamw-8bit or adafactor)"

# Foreign key -> our key or keys.
OUR_KEYS: dict[str, str] = {
    "activation_checkpointing": "training.activation_checkpointing",
    "adam_beta1": "training.betas",
    "adam_beta2": "training.betas",
    "adam_epsilon": "training.epsilon",
    "assistant_only_loss": "data.train_on: assistant",
    "base_model": "model",
    "base_model_name_or_path": "model",
    "batch_size": "training.tokens_per_step and training.micro_batch_tokens (in tokens)",
    "bf16": "model.dtype: bf16",
    "bnb_4bit_quant_type": "model.base (nf4 or fp4)",
    "bnb_4bit_use_double_quant": "model.double_quant",
    "block_size": "data.max_length",
    "completion_only_loss": "data.train_on: assistant",
    "context_length": "data.max_length",
    "cutoff_len": "data.max_length",
    "dataset": "data.train",
    "dataset_format": "data.format",
    "dataset_text_field": "data.columns.text",
    "dataset_path": "data.train",
    "datasets": "data.train",
    "do_eval": "evaluation.before and evaluation.after",
    "eval_dataset": "data.validation",
    "eval_steps": "training.evaluate_every",
    "eval_strategy": "training.evaluate_every (steps between evaluations)",
    "evaluation_strategy": "training.evaluate_every (steps between evaluations)",
    "exclude_modules": "method.exclude_targets",
    "field_messages": "data.columns.messages",
    "finetuning_type": "method",
    "formatting": "data.format",
    "fp16": "model.dtype: bf16 (fp16 is not used for training here)",
    "fp32": "model.dtype: fp32",
    "global_batch_size": "training.tokens_per_step (in tokens)",
    "gradient_accumulation_steps": "training.tokens_per_step (in tokens, over all micro-batches)",
    "gradient_checkpointing": "training.activation_checkpointing",
    "gradient_clipping": "training.max_gradient_norm",
    "grad_clip": "training.max_gradient_norm",
    "init_lora_weights": "method.init (default, pissa or loftq)",
    "learning_rate_scheduler": "training.schedule",
    "logging_steps": "training.log_every",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "lora_exclude_modules": "method.exclude_targets",
    "lora_modules": "method.targets",
    "lora_modules_to_save": "method.modules_to_save",
    "lora_r": "method.rank",
    "lora_rank": "method.rank",
    "lora_target": "method.targets",
    "lora_target_linear": "method.targets: all-linear",
    "lora_target_modules": "method.targets",
    "loraplus_lr_ratio": "method.b_rate_factor",
    "lr": "training.learning_rate",
    "lr_scheduler": "training.schedule",
    "lr_scheduler_type": "training.schedule",
    "max_grad_norm": "training.max_gradient_norm",
    "max_samples": "data.limit",
    "max_seq_len": "data.max_length",
    "max_seq_length": "data.max_length",
    "max_train_samples": "data.limit",
    "modules_to_save": "method.modules_to_save",
    "micro_batch_size": "training.micro_batch_tokens (in tokens)",
    "model_id": "model",
    "model_max_length": "data.max_length",
    "model_name": "model",
    "model_name_or_path": "model",
    "model_revision": "model.revision",
    "n_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "optimizer": _OPTIMIZER,
    "optim": _OPTIMIZER,
    "packing": "nothing: rows are grouped by length, which changes no result; remove the key",
    "per_device_eval_batch_size": "training.micro_batch_tokens (in tokens)",
    "per_device_train_batch_size": (
        "training.tokens_per_step and training.micro_batch_tokens (in tokens)"
    ),
    "peft_type": "method",
    "quantization": "model.base (int8, nf4 or fp4)",
    "quantization_bit": "model.base (int8, nf4 or fp4)",
    "quantization_config": "model.base (int8, nf4 or fp4)",
    "r": "method.rank",
    "recompute": "training.activation_checkpointing",
    "report_to": "tracking (tensorboard, mlflow, wandb or trackio)",
    "save_steps": "training.checkpoint_every",
    "save_strategy": "training.checkpoint_every (steps between checkpoints)",
    "save_total_limit": "training.keep_checkpoints",
    "sequence_len": "data.max_length",
    "stage": "task",
    "system_prompt": "data.system",
    "target_modules": "method.targets",
    "test_file": "data.test",
    "test_file_path": "data.test",
    "test_size": "data.validation",
    "torch_dtype": "model.dtype",
    "torch_compile": "training.compile_layers",
    "train_dataset": "data.train",
    "train_file": "data.train",
    "train_file_path": "data.train",
    "train_on_inputs": "data.train_on: all",
    "train_on_prompt": "data.train_on: all",
    "training_file": "data.train",
    "trainer_type": "task",
    "tuner_type": "method",
    "type_of_training": "method",
    "val_set_size": "data.validation",
    "val_size": "data.validation",
    "validation_file": "data.validation",
    "validation_file_path": "data.validation",
    "validation_split": "data.validation",
    "warmup_ratio": "training.warmup (a share such as 3%)",
    "warmup_steps": "training.warmup (a whole number of steps)",
}

# The column keys of Azure's task pipelines, where they stand outside data.columns.
_AZURE_KEYS = {
    f"{word}_key": f"data.columns.{plain_word(word)}"
    for word in (
        *("sentence1", "sentence2", "label", "token", "tag", "question", "context", "answers"),
        *("answer_text", "answer_start", "document", "summary", "text", "ground_truth"),
    )
}
OUR_KEYS.update(_AZURE_KEYS)
OUR_KEYS.update({f"{word}_lang": f"data.columns.{word}" for word in ("source", "target")})

# Keys that belong to a command, not to a recipe -> where they are given.
COMMAND_OPTIONS: dict[str, str] = {
    "debug": "tunesmith --debug train RECIPE",
    "json": "tunesmith train RECIPE --json",
    "logging_dir": "tunesmith train RECIPE --run-dir FOLDER",
    "output_dir": "tunesmith train RECIPE --run-dir FOLDER",
    "overwrite_output_dir": "tunesmith train RECIPE --run-dir FOLDER (always a new folder)",
    "resume": "tunesmith train --resume --run-dir FOLDER",
    "resume_from_checkpoint": "tunesmith train --resume --run-dir FOLDER",
    "run_dir": "tunesmith train RECIPE --run-dir FOLDER",
    "run_name": "tunesmith train RECIPE --run-dir FOLDER",
    "temperature": "tunesmith chat RUN --temperature",
    "message": "tunesmith chat RUN --message",
}
