#!/usr/bin/env python3
"""Others on this machine's CPU, for the rows of `run` that name them: peer.py MODEL.gguf THREADS prints one
JSON object.

Decode is one token a step with its cache; prefill is 512 tokens. transformers in bf16 and in f32, with its
own choice of attention (sdpa); llama.cpp, where llama-cpp-python is installed, on the file as it is (4-bit
weights, activations rounded to 8 bits)."""

import json
import os
import statistics
import sys
import time

import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "reference"))
from make_smollm2 import load, model_of


def clocked(f):
    start = time.perf_counter()
    out = f()
    return out, time.perf_counter() - start


def decode(model, n_prompt=32, n=24):
    out = model(torch.arange(1000, 1000 + n_prompt)[None], use_cache=True)
    times = []
    for _ in range(n):
        ids = out.logits[:, -1:].argmax(-1)
        out, s = clocked(lambda: model(ids, past_key_values=out.past_key_values, use_cache=True))
        times.append(s)
    return 1 / statistics.median(times)


def prefill(model, n=512):
    ids = torch.arange(1000, 1000 + n)[None]
    model(ids, logits_to_keep=1)
    return statistics.median(clocked(lambda: model(ids, logits_to_keep=1))[1] for _ in range(5)) * 1000


def llama_cpp(path, threads):
    """Nothing where it is not installed: it is there for comparison alone."""
    try:
        import llama_cpp
    except ImportError:
        return {}
    model = llama_cpp.Llama(
        path, n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )

    def run(ids):
        model.reset()
        model.eval(ids)

    def step():
        model.eval([1000])

    run(range(1000, 1032))
    decode_s = statistics.median(clocked(step)[1] for _ in range(24))
    prefill_s = statistics.median(clocked(lambda: run(range(1000, 1512)))[1] for _ in range(5))
    return {"llama.cpp": {"decode_tokens_per_s": 1 / decode_s, "prefill_512_ms": prefill_s * 1000}}


torch.set_num_threads(int(sys.argv[2]))
config, state = load(sys.argv[1])
result = {}
with torch.inference_mode():
    for name, dtype in (("bf16", torch.bfloat16), ("f32", torch.float32)):
        model = model_of(config, state, dtype, "sdpa")
        result[name] = {"decode_tokens_per_s": decode(model), "prefill_512_ms": prefill(model)}
result.update(llama_cpp(sys.argv[1], int(sys.argv[2])))
print(json.dumps(result))
