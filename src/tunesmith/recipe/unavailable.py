"""Words of the field that are known but not available, each with the reason and what works instead.

They are refused like any other wrong value; only the answer is better than "unknown".
"""

from __future__ import annotations

from tunesmith.recipe.evaluation import OWN_METRICS

_NOT_IN_THIS_VERSION = "is not available in this version"
_USE_LORA = "use method: lora"
# Recipe path -> word -> (why not, what to write instead).
VALUES: dict[str, dict[str, tuple[str, str]]] = {
    "task.type": {
        **{
            other: ("has another name here", f"use task: {ours}")
            for other, ours in {
                "text-classification": "classification",
                "sequence-classification": "classification",
                "token-classification": "ner",
                "named-entity-recognition": "ner",
                "question-answering": "qa",
                "summarisation": "summarization",
                "summary": "summarization",
                "translate": "translation",
                "text-generation": "chat, or task: completion for texts without questions",
            }.items()
        },
        "sft": ("says how, not what", "use task: chat or task: completion"),
        "instruction": ("is a form of chat", "use task: chat"),
        "pretraining": (_NOT_IN_THIS_VERSION, "use task: completion with format: text"),
    },
    "method.type": {
        **{
            other: ("has another name here", f"use method: {ours}")
            for other, ours in {
                **dict.fromkeys(("prompt", "soft-prompt", "prompt_tuning"), "prompt-tuning"),
                **dict.fromkeys(("prefix", "prefix_tuning"), "prefix-tuning"),
                **dict.fromkeys(("ptuning", "p_tuning"), "p-tuning"),
                **dict.fromkeys(("(ia)3", "(ia)^3"), "ia3"),
                **dict.fromkeys(("ln_tuning", "layernorm"), "ln-tuning"),
                "bone": "miss",
            }.items()
        },
        "delora": (
            "jumps with its first step whatever its rate, as the PEFT library starts it",
            "use method: dora",
        ),
        "bitfit": (_NOT_IN_THIS_VERSION, "use method: ln-tuning (the norms alone) or method: lora"),
        "peft": ("is a family of methods, not one", "choose one that `tunesmith methods` lists"),
        "none": ("leaves nothing to train", "use method: lora or method: full"),
    },
    "strategy.type": {
        "ray": (
            "is where a run happens, not how its work is spread",
            "set target: ray, and strategy: ddp, which divides each step's rows, or single",
        ),
        "fsdp2": ("has another name here", "use strategy: fsdp"),
        "zero": ("is a part of DeepSpeed", "use strategy: {type: deepspeed, zero: 2}"),
        **dict.fromkeys(("dp", "data-parallel"), ("has another name here", "use strategy: ddp")),
    },
    "data.format": {
        **dict.fromkeys(
            ("csv", "tsv", "jsonl", "json", "parquet", "conll", "txt", "abc"),
            ("is a file type, not a form of row", "leave data.format at auto"),
        ),
        **dict.fromkeys(
            ("chat", "openai", "chatml", "conversational"),
            ("has another name here", "use format: messages"),
        ),
        **dict.fromkeys(
            ("dpo", "kto", "ranking", "pairwise", "rating"),
            ("has another name here", "use format: preference"),
        ),
        "token-classification": ("has another name here", "use format: ner"),
        "question-answering": ("has another name here", "use format: qa"),
        "instruction": ("has another name here", "use format: alpaca"),
        "conversations": ("has another name here", "use format: sharegpt"),
    },
    "training.optimizer": {
        **dict.fromkeys(
            ("lion", "sgd", "sophia", "lamb", "muon", "adagrad"),
            (
                _NOT_IN_THIS_VERSION,
                "use training.optimizer: adamw, adamw-8bit, paged-adamw-8bit or adafactor; with "
                "strategy.offload, and wherever a strategy spreads state, adamw",
            ),
        ),
        **dict.fromkeys(
            ("adam", "adamw_torch", "adamw_torch_fused", "cpuadam", "deepspeedcpuadam"),
            ("has another name here", "use optimizer: adamw"),
        ),
        **dict.fromkeys(
            ("adam8bit", "adamw_8bit", "adamw_bnb_8bit"),
            ("has another name here", "use optimizer: adamw-8bit"),
        ),
    },
    "model.dtype": {
        "fp16": ("loses small gradients on a CPU", "use dtype: bf16 or dtype: fp32"),
        "float16": ("loses small gradients on a CPU", "use dtype: bf16 or dtype: fp32"),
        "bfloat16": ("has another name here", "use dtype: bf16"),
        "float32": ("has another name here", "use dtype: fp32"),
        **dict.fromkeys(
            ("int8", "nf4", "fp4"),
            ("is a form of the base, not what is computed in", "set it as model.base"),
        ),
        **dict.fromkeys(("int4", "4bit"), ("has another name here", "set model.base: nf4")),
        "8bit": ("has another name here", "set model.base: int8"),
    },
    "evaluation.metrics": {
        name: ("comes with a task", f"set task: {task}, which is always scored by it")
        for task, names in OWN_METRICS.items()
        for name in (*names, *(("f1",) if task == "classification" else ()))
    },
}

# Recipe path of a key -> (why not, what to do instead).
KEYS: dict[str, tuple[str, str]] = {
    "export": (
        _NOT_IN_THIS_VERSION,
        "remove it; tunesmith merge makes one model of final/ and its base",
    ),
    "load_in_4bit": ("has another name here", "use model.base: nf4"),
    "load_in_8bit": ("has another name here", "use model.base: int8"),
    "trust_remote_code": (
        "is never switched on: a recipe is data and runs no code",
        "use a model whose architecture the transformers library knows",
    ),
    "deepspeed": ("has another place here", "use strategy: {type: deepspeed, zero: 2}"),
    "fsdp": ("has another place here", "use strategy: fsdp"),
    "new_tokens": (
        "(further tokens in the vocabulary) " + _NOT_IN_THIS_VERSION,
        "use tokens that the vocabulary has: most models keep unused ones (<|reserved_...|>, "
        "<unused0>), whose rows method.modules_to_save: [embed_tokens] trains",
    ),
    "use_dora": ("has another name here", "use method: dora"),
    "use_rslora": ("has another name here", "use method: rslora"),
}
