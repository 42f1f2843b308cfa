"""Tiny random models of the llama architecture, the same on every machine: weights drawn from PCG64's raw
bits, written as Hugging Face folders (and one as GGUF) by a few lines of our own.

Random weights alone make a model that proves little: attention is flat, so a wrong mask or position hardly
shows. Here queries and keys are scaled until the top probability is above 0.5 in the mean, embeddings are
so small that eps matters, and norms' weights are far from one. The models differ in head size (16, 64, 128,
40), grouping (4, 3, 1, 5 query heads to a KV head), tying, biases, rope type and spelling."""

import hashlib
import json
import os
import struct

import numpy as np

V4 = {"rope_theta": 10000.0, "torch_dtype": "bfloat16"}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 20000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR = {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 2.5}, "torch_dtype": "bfloat16"}
MODELS = {  # hidden, heads, KV heads, head size, intermediate, layers, vocabulary, tied, bias, how rope and dtype are written
    "h16": (64, 4, 1, 16, 168, 3, 251, True, False, V4),
    "h64": (192, 6, 2, 64, 344, 2, 331, False, False, {"rope_parameters": LLAMA3, "dtype": "bfloat16"}),
    "h128": (256, 2, 2, 128, 520, 2, 199, True, False, V4),
    "h40": (120, 5, 1, 40, 200, 2, 131, False, True, LINEAR),
}
FP8 = {  # likewise, for --quantize fp8-static: what a projection reads has a multiple of 16 columns
    "q16": (96, 6, 2, 16, 176, 3, 131, True, False, V4),
    "q64": (192, 6, 2, 64, 352, 2, 199, False, False, {"rope_parameters": LLAMA3, "dtype": "bfloat16"}),
    "q40": (144, 4, 1, 40, 208, 2, 67, False, True, LINEAR),
}
KV8 = {  # likewise, for --kv-cache-dtype fp8
    "k16": (64, 4, 1, 16, 168, 3, 131, True, True, LINEAR),
    "k64": (192, 6, 2, 64, 344, 2, 199, False, False, {"rope_parameters": LLAMA3, "dtype": "bfloat16"}),
    "k128": (256, 2, 2, 128, 520, 2, 67, True, False, V4),
}
ALL = {**MODELS, **FP8, **KV8}
JOINED = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))  # read one input
EPS = 1e-5
LENGTHS = (7, 14, 21, 45, 300)  # of the 5 sequences
CACHED = (0, 13, 16, 31, 280)  # tokens of each that are in the cache before the mixed step
KEEP = 24  # the reference keeps the last positions of a sequence


def config_of(name):
    hidden, heads, kv_heads, head, inter, layers, vocab, tied, bias, written = ALL[name]
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
        "attention_bias": bias,
        "rms_norm_eps": EPS,
        "max_position_embeddings": 512,
        "hidden_act": "silu",
        **written,
    }


def to_bf16(x):
    """Rounded to nearest even, as bits."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def of_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def weights_of(name):
    """name -> bf16 bits, in the order of Hugging Face."""
    hidden, heads, kv_heads, head, inter, layers, vocab, tied, bias, _ = ALL[name]
    rng, out = np.random.PCG64(sum(map(ord, name))), {}

    def draw(key, shape, std, mean=0.0):
        unit = (rng.random_raw(int(np.prod(shape))) >> np.uint64(11)).astype(np.float64) / 2**53 - 0.5
        out[key] = to_bf16((mean + unit * (std * 12**0.5)).reshape(shape))

    draw("model.embed_tokens.weight", (vocab, hidden), 0.01)
    for i in range(layers):
        at = f"model.layers.{i}."
        draw(at + "input_layernorm.weight", (hidden,), 0.3, 1.0)
        # of queries and keys: scores of a standard deviation of about 4; where e4m3 is, that would multiply its own errors, so 1
        peak = (1.8 if name in MODELS else 0.9) / hidden**0.5
        for part, rows, std in (("q", heads, peak), ("k", kv_heads, peak), ("v", kv_heads, hidden**-0.5)):
            draw(f"{at}self_attn.{part}_proj.weight", (rows * head, hidden), std)
            if bias:
                draw(f"{at}self_attn.{part}_proj.bias", (rows * head,), 0.3)
        draw(at + "self_attn.o_proj.weight", (hidden, heads * head), 0.02 / (heads * head) ** 0.5)
        if bias:
            draw(at + "self_attn.o_proj.bias", (hidden,), 0.005)
        draw(at + "post_attention_layernorm.weight", (hidden,), 0.3, 1.0)
        draw(at + "mlp.gate_proj.weight", (inter, hidden), hidden**-0.5)
        draw(at + "mlp.up_proj.weight", (inter, hidden), hidden**-0.5)
        draw(at + "mlp.down_proj.weight", (hidden, inter), 0.03 / inter**0.5)
    draw("model.norm.weight", (hidden,), 0.3, 1.0)
    if not tied:
        draw("lm_head.weight", (vocab, hidden), hidden**-0.5)
    return out


def tokens_of(name):
    vocab, rng = ALL[name][6], np.random.PCG64(1000 + sum(map(ord, name)))
    return [(rng.random_raw(n) % np.uint64(vocab)).astype(np.int32) for n in LENGTHS]


def digest(weights):
    return hashlib.sha256(b"".join(k.encode() + v.tobytes() for k, v in sorted(weights.items()))).hexdigest()


def write_scales(path, scales, name_of=lambda key: key):
    """The file of --quantize-scales. scales: projection, by its tensor's name -> (of its input, of its weight)."""
    with open(path, "w") as f:
        json.dump({name_of(k): {"input": float(x), "weight": float(w)} for k, (x, w) in scales.items()}, f)
    return path


def write_hf(folder, config, weights, scales=None):
    """scales: of the KV cache, f32[layers][2]; they go into tensors as some checkpoints have them."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for key, w in weights.items():
        header[key] = {"dtype": "BF16", "shape": list(w.shape), "data_offsets": [at, at + w.nbytes]}
        at += w.nbytes
    tail = b""
    for i, kv in enumerate([] if scales is None else scales):
        for part, shape, scale in zip("kv", ([], [1]), kv):
            key = f"model.layers.{i}.self_attn.{part}_proj.{part}_scale"
            header[key] = {"dtype": "F32", "shape": shape, "data_offsets": [at + len(tail), at + len(tail) + 4]}
            tail += struct.pack("<f", scale)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for w in weights.values():
            f.write(w.tobytes())
        f.write(tail)
    return folder


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(key):
    if not key.startswith("model.layers."):
        return {
            "model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight",
        }[key]
    _, _, layer, part = key.split(".", 3)
    stem, kind = part.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[stem]}.{kind}"


def permuted(w, head):
    """Into llama.cpp's order: the halves of each head interleaved."""
    return w.reshape(-1, 2, head // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def write_gguf(path, name, weights):
    """Version 3; matrices BF16, vectors F32. For models without rope scaling and biases."""
    hidden, heads, kv_heads, head, inter, layers, vocab, _, _, _ = ALL[name]
    text = lambda s: struct.pack("<Q", len(s)) + s.encode()
    number = lambda k, v: text("llama." + k) + struct.pack("<II", 4, v)
    real = lambda k, v: text("llama." + k) + struct.pack("<If", 6, v)
    pairs = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        number("block_count", layers),
        number("context_length", 512),
        number("embedding_length", hidden),
        number("feed_forward_length", inter),
        number("attention.head_count", heads),
        number("attention.head_count_kv", kv_heads),
        real("attention.layer_norm_rms_epsilon", EPS),
        real("rope.freq_base", V4["rope_theta"]),
        number("rope.dimension_count", head),
        number("attention.key_length", head),
        number("attention.value_length", head),
        number("vocab_size", vocab),
    ]
    infos, data = [], b""
    for key, w in weights.items():
        if ".q_proj." in key or ".k_proj." in key:
            w = permuted(w, head)
        kind, raw = (0, of_bf16(w).tobytes()) if w.ndim == 1 else (30, np.ascontiguousarray(w).tobytes())
        infos.append(
            text(gguf_name(key)) + struct.pack(f"<I{w.ndim}QIQ", w.ndim, *w.shape[::-1], kind, len(data))
        )
        data += raw + b"\0" * (-len(raw) % 32)
    head_bytes = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(pairs)) + b"".join(pairs + infos)
    with open(path, "wb") as f:
        f.write(head_bytes + b"\0" * (-len(head_bytes) % 32) + data)
    return path
