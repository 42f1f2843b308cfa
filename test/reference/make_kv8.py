#!/usr/bin/env python3
"""Makes kv8.npz: what torch computes for the models KV8 of tiny.py with a KV cache in e4m3, one scale of K and one of V a layer.

transformers' model, whose attention gets torch.float8_e4m3fn casts of the rotated keys and of the values, divided by their scales; scores
and results are multiplied by them. All else is f32 in one run and bf16 in the other. Scales are such that the largest keys saturate;
k128 has none: they are 1. Run once, by hand, with torch and transformers: make_kv8.py [OUT.npz]. The tests need numpy alone."""

import os
import sys
import tempfile

import numpy as np
import torch
from transformers.models.llama import modeling_llama

import tiny
from make_fp8 import e4m3
from make_tiny import in_both, keep, run

PLAIN = modeling_llama.eager_attention_forward
SATURATED = {"k16": (0.5, 0.6), "k64": (0.4, 0.8)}  # scale / (largest / 448)


def largest(model, tokens, layers):
    """The largest keys and values of each layer."""
    seen = np.zeros((layers, 2), np.float32)

    def look(module, query, key, value, *args, **kwargs):
        for i, x in enumerate((key, value)):
            seen[module.layer_idx, i] = max(seen[module.layer_idx, i], float(x.abs().max()))
        return PLAIN(module, query, key, value, *args, **kwargs)

    modeling_llama.eager_attention_forward = look
    run(model, tokens)
    return seen


def with_cache(scales):
    def attend(module, query, key, value, mask, scaling, **kwargs):
        k, v = scales[module.layer_idx]
        codes = [e4m3(x, s).to(x.dtype) for x, s in ((key, k), (value, v))]
        out, weights = PLAIN(module, query, *codes, mask, scaling=scaling * float(k), **kwargs)
        return out * torch.tensor(v, dtype=out.dtype), weights

    modeling_llama.eager_attention_forward = attend


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out, data = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "kv8.npz"), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in tiny.KV8:
            weights, tokens, layers = tiny.weights_of(name), tiny.tokens_of(name), tiny.ALL[name][5]
            f32, bf16 = in_both(os.path.join(folder, name), name, weights)
            modeling_llama.eager_attention_forward = PLAIN
            plain = run(f32, tokens)[0]
            scales = np.ones((layers, 2), np.float32)
            if name in SATURATED:
                scales = largest(f32, tokens, layers) * (np.float32(SATURATED[name]) / np.float32(448))
                data[name + "_scales"] = scales
            with_cache(scales)
            want, other = (run(m, tokens)[0] for m in (f32, bf16))
            size, d, q = (np.sqrt((x.astype(np.float64) ** 2).mean()) for x in (want, other - want, plain - want))
            print(f"{name}: logits {size:.4f}, d {d:.5f}, quantisation {q:.5f}")
            keep(data, name, want, other)
            data[name + "_weights"] = np.array(tiny.digest(weights))
    np.savez_compressed(out, **data)
    print(os.path.getsize(out), "bytes")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
