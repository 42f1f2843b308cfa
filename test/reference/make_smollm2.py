#!/usr/bin/env python3
"""Makes smollm2.npz: what transformers computes for SmolLM2-135M-Instruct, in f32 and in bf16, on the weights
that ccc runs.

The weights are the GGUF's, dequantised with the `gguf` package and rounded to bf16 (q and k rows put back
into the order of Hugging Face), so both runs and ccc start from the same numbers and every difference is
arithmetic. The f32 run is the truth, the bf16 run says how far from it an honest bf16 implementation lies.
Each of 5 prompts is continued with 64 tokens, greedily by the f32 run; both runs are then fed those tokens,
and for each of the 64 positions the two largest logits and 256 logits at fixed random indices are kept.

Run once, by hand, with torch, transformers, gguf, tokenizers: make_smollm2.py MODEL.gguf [OUT.npz]. The
tests need numpy alone."""

import os
import sys

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools", "python"))
from generate import gguf_metadata, tokenizer_of

PROMPTS = [
    "Explain in a few paragraphs why the sky is blue during the day and red at sunset.",
    "Write a short story about a lighthouse keeper who finds a letter in a bottle on a winter morning.",
    "How do I bake bread at home? Give me the list of ingredients, then numbered steps with the times and temperatures of each.",
    "Write a Python function that returns the n-th Fibonacci number without recursion, and explain how it works line by line.",
    "My friend says that the Moon is larger than the Earth because it looks so big at the horizon. Is that right? What would you answer, politely?",
]
N_NEW, N_SAMPLED = 64, 256
NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def hf_name(name):
    if not name.startswith("blk."):
        return {
            "token_embd.weight": "model.embed_tokens.weight",
            "output_norm.weight": "model.norm.weight",
            "output.weight": "lm_head.weight",
        }[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.weight"


def unpermuted(w, heads):
    """GGUF keeps the two halves of a head interleaved (rows 0, D/2, 1, D/2+1, ...); Hugging Face one after the other."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def load(path):
    """(config, state dict of float32 tensors that are exact in bf16)"""
    reader = gguf.GGUFReader(path)
    key = lambda k: reader.fields["llama." + k].contents()
    names = {t.name for t in reader.tensors}
    config = LlamaConfig(
        vocab_size=key("vocab_size"),
        hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=key("attention.head_count"),
        num_key_value_heads=key("attention.head_count_kv"),
        max_position_embeddings=key("context_length"),
        rms_norm_eps=key("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": key("rope.freq_base")},
        tie_word_embeddings="output.weight" not in names,
    )
    state = {}
    for t in reader.tensors:
        w = gguf.dequantize(t.data, t.tensor_type).astype(np.float32)
        if ".attn_q." in t.name:
            w = unpermuted(w, config.num_attention_heads)
        if ".attn_k." in t.name:
            w = unpermuted(w, config.num_key_value_heads)
        state[hf_name(t.name)] = torch.from_numpy(np.ascontiguousarray(w)).to(torch.bfloat16).float()
    return config, state


def model_of(config, state, dtype, attention="eager"):
    model = LlamaForCausalLM._from_config(config, dtype=dtype, attn_implementation=attention).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    return model


def greedy(model, prompt):
    ids, cache, new = torch.tensor([prompt]), None, []
    for _ in range(N_NEW):
        out = model(ids, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        new.append(int(out.logits[0, -1].argmax()))
        ids = torch.tensor([[new[-1]]])
    return new


def logits(model, prompt, new):
    """Of the positions that predict `new`: the prompt's last one and those of all new tokens but the last."""
    return model(torch.tensor([prompt + new[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :].float()


def main():
    path, out = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else os.path.join(HERE, "smollm2.npz")
    meta = gguf_metadata(path)
    tokenizer = tokenizer_of(meta)
    system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    prompts = [
        tokenizer.encode(
            f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{p}<|im_end|>\n<|im_start|>assistant\n"
        ).ids
        for p in PROMPTS
    ]
    config, state = load(path)
    rng = np.random.Generator(np.random.PCG64(20240229))
    sampled = np.sort(rng.choice(config.vocab_size, N_SAMPLED, replace=False)).astype(np.int32)
    data = {
        "sampled": sampled,
        "vocab": np.int32(config.vocab_size),
        "tokens": np.zeros((len(prompts), N_NEW), np.int32),
    }
    f32 = model_of(config, state, torch.float32)
    for i, p in enumerate(prompts):
        data[f"prompt{i}"] = np.array(p, np.int32)
        data["tokens"][i] = greedy(f32, p)
        print(f"{len(p)} tokens, then: {tokenizer.decode(data['tokens'][i].tolist())!r}", flush=True)
    for name, model in (("f32", f32), ("bf16", model_of(config, state, torch.bfloat16))):
        rows = [logits(model, p, data["tokens"][i].tolist()) for i, p in enumerate(prompts)]
        top = [r.topk(2) for r in rows]
        data[f"{name}_sampled"] = np.stack([r[:, torch.from_numpy(sampled).long()].numpy() for r in rows])
        data[f"{name}_top"] = np.stack([t.values.numpy() for t in top])
        data[f"{name}_top_ids"] = np.stack([t.indices.numpy() for t in top]).astype(np.int32)
    assert (data["f32_top_ids"][:, :, 0] == data["tokens"]).all()
    np.savez_compressed(out, **data)
    d = np.sqrt(((data["bf16_sampled"] - data["f32_sampled"]) ** 2).mean(axis=(1, 2)))
    gap = data["f32_top"][:, :, 0] - data["f32_top"][:, :, 1]
    print(
        f"d {d}, clear positions {(gap > 4 * d[:, None]).sum()} of {gap.size}, {os.path.getsize(out)} bytes"
    )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
