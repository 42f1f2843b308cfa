#!/usr/bin/env python3
"""Makes tiny.npz: what transformers computes, in f32 and in bf16, for the models of tiny.py; of each sequence
the last positions.

Also once without the causal mask, and with the mean top probability of the attention printed: it must be
above 0.5. Run once, by hand, with torch and transformers: make_tiny.py [OUT.npz]. The tests need numpy
alone."""

import os
import sys
import tempfile

import numpy as np
import torch
from transformers import LlamaForCausalLM

import tiny


def run(model, tokens, causal=True):
    """Logits of the last positions of each sequence, and the mean top probability of queries that see at least 4 keys."""
    rows, tops = [], []
    for t in tokens:
        n = len(t)
        mask = None if causal else torch.zeros((1, 1, n, n), dtype=model.dtype)
        out = model(
            torch.from_numpy(t.astype(np.int64))[None],
            attention_mask=mask,
            use_cache=False,
            output_attentions=True,
        )
        rows.append(out.logits[0, -tiny.KEEP :].float().numpy())
        tops += [float(a[0, :, 4:].max(-1).values.mean()) for a in out.attentions]
    return np.concatenate(rows), np.mean(tops)


def in_both(folder, name, weights):
    """transformers' model of tiny.py's `name`, written to folder, in f32 and in bf16."""
    tiny.write_hf(folder, tiny.config_of(name), weights)
    return [
        LlamaForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()
        for dtype in (torch.float32, torch.bfloat16)
    ]


def keep(data, name, f32, bf16):
    bits = tiny.to_bf16(bf16)
    assert (tiny.of_bf16(bits) == bf16).all()
    data[name + "_f32"], data[name + "_bf16"] = f32, bits


def main():
    out = (
        sys.argv[1]
        if len(sys.argv) > 1
        else os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny.npz")
    )
    data = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in tiny.MODELS:
            weights, tokens = tiny.weights_of(name), tiny.tokens_of(name)
            both = in_both(os.path.join(folder, name), name, weights)
            (f32, top), (bf16, _) = (run(model, tokens) for model in both)
            acausal = [run(model, tokens, causal=False)[0] for model in both]
            d = np.sqrt(((bf16 - f32) ** 2).mean())
            ordered = np.sort(f32, axis=1)
            clear = (ordered[:, -1] - ordered[:, -2] > 4 * d).sum()
            unmasked = np.sqrt(((acausal[0] - f32) ** 2).mean())
            print(
                f"{name}: mean top probability {top:.2f}, d {d:.5f}, without the mask {unmasked:.4f}, clear {clear} of {len(f32)}"
            )
            assert top > 0.5, "attention is not peaked"
            keep(data, name, f32, bf16)
            if name in ("h16", "h64"):
                keep(data, name + "_acausal", *acausal)
            data[name + "_weights"] = np.array(tiny.digest(weights))
    np.savez_compressed(out, **data)
    print(os.path.getsize(out), "bytes")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
