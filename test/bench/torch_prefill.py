#!/usr/bin/env python3
"""Prefill of one prompt through the llama-3-8b of torch_decode.py's shape in PyTorch (torch.compile), and attention alone with the kernels of
cuDNN and FlashAttention. One JSON line a figure: median milliseconds or microseconds, TFLOP/s or GB/s."""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

DTYPE = torch.bfloat16
LAYERS, HIDDEN, INTER, HEADS, KV_HEADS, HEAD = 32, 4096, 14336, 32, 8, 128
Q, KV = HEADS * HEAD, KV_HEADS * HEAD
BACKENDS = (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION))


def draw(*shape):
    return torch.randn(*shape, device="cuda", dtype=DTYPE)


def median_ms(fn, repeats=20):
    for _ in range(3):
        fn()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        fn()
        b.record()
        torch.cuda.synchronize()
        times.append(a.elapsed_time(b))
    return sorted(times)[repeats // 2]


def say(**figures):
    print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}), flush=True)


def rms(x, w):
    v = x.float()
    return (v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-5)).to(DTYPE) * w


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def model_of(layers, norm):
    def model(x, cos, sin):
        n = x.shape[0]
        for layer in layers:
            q, k, v = F.linear(rms(x, norm), layer["qkv"]).split([Q, KV, KV], -1)
            q = rope(q.view(n, HEADS, HEAD), cos, sin).transpose(0, 1)[None]
            k = rope(k.view(n, KV_HEADS, HEAD), cos, sin).transpose(0, 1)[None]
            v = v.view(n, KV_HEADS, HEAD).transpose(0, 1)[None]
            a = (
                F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)[0]
                .transpose(0, 1)
                .reshape(n, Q)
            )
            x = x + F.linear(a, layer["o"])
            g, u = F.linear(rms(x, norm), layer["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(g) * u, layer["down"])
        return x

    return model


def prefill(tokens, compile_only):
    layers = [
        dict(
            qkv=draw(Q + 2 * KV, HIDDEN) * 0.02,
            o=draw(HIDDEN, Q) * 0.02,
            gate_up=draw(2 * INTER, HIDDEN) * 0.02,
            down=draw(HIDDEN, INTER) * 0.02,
        )
        for _ in range(LAYERS)
    ]
    model = model_of(layers, torch.ones(HIDDEN, device="cuda", dtype=DTYPE))
    for n in tokens:
        args = (draw(n, HIDDEN), draw(n, 1, HEAD // 2), draw(n, 1, HEAD // 2))
        torch._dynamo.reset()
        run, begin = torch.compile(model, fullgraph=True, dynamic=False), time.time()
        run(*args)
        torch.cuda.synchronize()
        seconds = time.time() - begin
        if compile_only:
            continue
        ms = median_ms(lambda: run(*args), 10)
        flop = (
            2 * n * LAYERS * (HIDDEN * (Q + 2 * KV) + HIDDEN * Q + HIDDEN * 3 * INTER)
            + LAYERS * 2 * HEADS * n * n * HEAD
        )
        say(what="prefill", model="llama-3-8b", tokens=n, ms=ms, tflops=flop / ms / 1e9, compile_s=seconds)


def attention_prefill(n):
    q, k, v = draw(1, HEADS, n, HEAD), draw(1, KV_HEADS, n, HEAD), draw(1, KV_HEADS, n, HEAD)
    for name, backend in BACKENDS:
        try:
            with sdpa_kernel(backend):
                ms = median_ms(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))
            say(
                what="attention prefill",
                backend=name,
                tokens=n,
                us=1e3 * ms,
                tflops=2 * HEADS * n * n * HEAD / ms / 1e9,
            )
        except RuntimeError as e:
            say(what="attention prefill", backend=name, tokens=n, error=str(e)[:80])


def attention_decode(batch, context):
    """A graph of several layers, each with a cache of its own, so that nothing is found in the second-level cache."""
    layer_B = 4 * batch * KV * context
    n = max(1, min(32, int(8e9 / layer_B)))
    q, caches = draw(batch, HEADS, 1, HEAD), [
        (draw(batch, KV_HEADS, context, HEAD), draw(batch, KV_HEADS, context, HEAD)) for _ in range(n)
    ]
    for name, backend in BACKENDS:
        try:
            with sdpa_kernel(backend):
                run = lambda: [F.scaled_dot_product_attention(q, k, v, enable_gqa=True) for k, v in caches]
                run()
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    run()
                us = 1e3 * median_ms(graph.replay) / n
            say(
                what="attention decode",
                backend=name,
                batch=batch,
                context=context,
                us=us,
                gb_per_s=layer_B / us / 1e3,
            )
        except RuntimeError as e:
            say(what="attention decode", backend=name, batch=batch, context=context, error=str(e)[:80])


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("what", choices=["model", "attention"])
    p.add_argument("--tokens", default="512,2048")
    p.add_argument("--compile-only", action="store_true")
    args = p.parse_args()
    torch.manual_seed(0)
    with torch.no_grad():
        if args.what == "model":
            return prefill([int(n) for n in args.tokens.split(",")], args.compile_only)
        for n in (512, 1024, 2048, 4096, 8192):
            attention_prefill(n)
        for batch, context in ((1, 1024), (1, 4096), (1, 131072), (64, 1024), (64, 4096), (256, 1024)):
            attention_decode(batch, context)
            torch.cuda.empty_cache()


main()
