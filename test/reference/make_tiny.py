#!/usr/bin/env python3
"""Makes tiny.npz: what transformers computes, in f32 and in bf16, for the models of tiny.py; of each sequence the last positions.

Also once without the causal mask, and with the mean top probability of the attention printed: it must be above 0.5. Run once, by hand, with
torch and transformers: make_tiny.py [OUT.npz]. The tests need numpy alone."""
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
        out = model(torch.from_numpy(t.astype(np.int64))[None], attention_mask=mask, use_cache=False, output_attentions=True)
        rows.append(out.logits[0, -tiny.KEEP :].float().numpy())
        tops += [float(a[0, :, 4:].max(-1).values.mean()) for a in out.attentions]
    return np.concatenate(rows), np.mean(tops)


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "tiny.npz")
    data = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in tiny.MODELS:
            weights, tokens = tiny.weights_of(name), tiny.tokens_of(name)
            tiny.write_hf(os.path.join(folder, name), tiny.config_of(name), weights)
            load = lambda dtype: LlamaForCausalLM.from_pretrained(os.path.join(folder, name), dtype=dtype, attn_implementation="eager").eval()
            f32, top = run(load(torch.float32), tokens)
            bf16, _ = run(load(torch.bfloat16), tokens)
            acausal, _ = run(load(torch.float32), tokens, causal=False)
            d = np.sqrt(((bf16 - f32) ** 2).mean())
            sorted_ = np.sort(f32, axis=1)
            clear = (sorted_[:, -1] - sorted_[:, -2] > 4 * d).sum()
            print(f"{name}: mean top probability {top:.2f}, rms of logits {np.sqrt((f32 ** 2).mean()):.4f}, d {d:.5f}, without the mask "
                  f"{np.sqrt(((acausal - f32) ** 2).mean()):.4f}, clear {clear} of {len(f32)}")
            assert top > 0.5, "attention is not peaked"
            bits = tiny.to_bf16(bf16)
            assert (tiny.of_bf16(bits) == bf16).all()
            data[name + "_f32"], data[name + "_bf16"], data[name + "_weights"] = f32, bits, np.array(tiny.digest(weights))
            if name == "h16":
                data[name + "_acausal"] = acausal
    np.savez_compressed(out, **data)
    print(os.path.getsize(out), "bytes")


with torch.inference_mode():
    main()
