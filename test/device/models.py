"""What the device tests compile beforehand, named once for prepare (which compiles) and for the tests (which ask for it)."""

import json
import os

VARIANTS = {"plain": [], "full edges": ["--programmatic-launch", "false"], "unfused": ["--opt-level", "0"]}
FP8 = ["--quantize", "fp8-static"]
HIDDEN = ["--outputs", "hidden,logits,tokens"]
NUMBERS = {  # artifacts/NAME.ccart: folder of test/models, options
    "smollm2-135m": ("smollm2-135m", []),
    "llama-3.2-1b": ("llama-3.2-1b", []),
    "llama-3-8b": ("llama-3-8b", []),
    "llama-3-8b-fp8": ("llama-3-8b", FP8),
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
WHOLE = {  # hidden, intermediate, heads, KV heads, head size, vocabulary, tied, rope
    "8b": (4096, 14336, 32, 8, 128, 128256, False, {"rope_type": "default", "rope_theta": 500000.0}),
    "1b": (2048, 8192, 32, 8, 64, 128256, True, LLAMA3),
    "small": (
        192,
        352,
        6,
        2,
        64,
        331,
        False,
        {"rope_type": "default", "rope_theta": 10000.0},
    ),  # to try the comparison on a CPU
    "long": (1024, 2048, 32, 2, 128, 2003, False, {"rope_type": "default", "rope_theta": 500000.0}),
    "odd": (328, 1000, 5, 1, 40, 1003, False, {"rope_type": "default", "rope_theta": 10000.0}),
    "odd-long": (4104, 11016, 27, 3, 152, 32003, True, {"rope_type": "default", "rope_theta": 10000.0}),
    "odd-fp8": (1040, 2832, 13, 1, 80, 1003, False, {"rope_type": "default", "rope_theta": 10000.0}),
}
LONGEST = {"long": 131072}  # tokens of a sequence, where they are not 4096
MATMULS = {  # variants.py: a model in NUMBERS; none: a shape of WHOLE
    "8b": "llama-3-8b",
    "8b-fp8": "llama-3-8b-fp8",
    "1b": "llama-3.2-1b",
    "smollm2": "smollm2-135m",
    "odd": None,
    "odd-long": None,
    "odd-fp8": None,
}


def layers_config(name, layers=2):
    """A model of that shape with few layers."""
    hidden, inter, heads, kv_heads, head, vocab, tied, rope = WHOLE[name]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": inter,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": LONGEST.get(name, 4096),
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "rope_parameters": rope,
        "dtype": "bfloat16",
    }


def variant_config(name):
    """Of a name in MATMULS: config.json and options of the compiler."""
    if not MATMULS[name]:
        return layers_config(name), FP8 if name.endswith("-fp8") else []
    folder, options = NUMBERS[MATMULS[name]]
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "models", folder, "config.json")) as f:
        return json.load(f), options


def write_config(folder, config):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
    return folder
