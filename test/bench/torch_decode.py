#!/usr/bin/env python3
"""A decode step of a llama-shaped model in PyTorch: torch.compile, then a CUDA graph of the step. What ccc's step is compared with.

One JSON line a batch: median milliseconds of 30 replays, bytes read, seconds of compiling. Weights are random; matrices are joined as ccc joins
them (q,k,v and gate,up), attention is scaled_dot_product_attention over a contiguous cache, so torch has it a little easier than a paged one.
With --fp8 projections are in e4m3 with one scale a tensor (torch._scaled_mm with fast accumulation); the model is then called NAME-fp8.
"""

import argparse
import json
import time

BEGIN = time.time()
import torch
import torch.nn.functional as F

SHAPES = {  # layers, hidden, intermediate, heads, KV heads, head size, vocabulary, tied
    "llama-3-8b": (32, 4096, 14336, 32, 8, 128, 128256, False),
    "llama-3.2-1b": (16, 2048, 8192, 32, 8, 64, 128256, True),
    "smollm2-135m": (30, 576, 1536, 9, 3, 64, 49152, True),
    "tiny": (2, 64, 160, 4, 2, 16, 101, True),
}
DTYPE = torch.bfloat16
SCALE = 0.05  # of every input and every weight, with --fp8


def e4m3(x):
    return (x * (1 / SCALE)).clamp(-448, 448).to(torch.float8_e4m3fn)


class Model:
    def __init__(self, name, device, fp8):
        self.n, self.hidden, inter, self.heads, self.kv_heads, self.head, self.vocab, tied = SHAPES[name]
        self.device, self.fp8, hidden = device, fp8, self.hidden
        self.q, self.kv = self.heads * self.head, self.kv_heads * self.head
        draw = lambda *shape: torch.randn(*shape, device=device, dtype=DTYPE) * 0.02
        matrix = (lambda *shape: e4m3(draw(*shape))) if fp8 else draw
        ones = lambda n: torch.ones(n, device=device, dtype=DTYPE)
        self.layers = [
            dict(
                qkv=matrix(self.q + 2 * self.kv, hidden),
                o=matrix(hidden, self.q),
                gate_up=matrix(2 * inter, hidden),
                down=matrix(hidden, inter),
                norm1=ones(hidden),
                norm2=ones(hidden),
            )
            for _ in range(self.n)
        ]
        self.table, self.norm = draw(self.vocab, hidden), ones(hidden)
        self.output = self.table if tied else draw(self.vocab, hidden)
        read = [t for layer in self.layers for t in layer.values()] + [self.output]
        self.bytes = sum(t.numel() * t.element_size() for t in read)


def rms(x, w):
    v = x.float()
    return (v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-5)).to(DTYPE) * w


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def step_of(m):
    layers, table, norm, output, device = m.layers, m.table, m.norm, m.output, m.device
    heads, kv_heads, head, q_rows, kv_rows = m.heads, m.kv_heads, m.head, m.q, m.kv
    scale = torch.tensor(SCALE, device=device)

    def linear(x, w):
        if not m.fp8:
            return F.linear(x, w)
        return torch._scaled_mm(
            e4m3(x.float()), w.t(), scale_a=scale, scale_b=scale, out_dtype=DTYPE, use_fast_accum=True
        )

    def step(tokens, positions, cos, sin, ks, vs):
        batch = tokens.shape[0]
        x = table[tokens]
        c, s = cos[positions].view(batch, 1, -1), sin[positions].view(batch, 1, -1)
        rows = torch.arange(batch, device=device)
        for i, layer in enumerate(layers):
            q, k, v = linear(rms(x, layer["norm1"]), layer["qkv"]).split([q_rows, kv_rows, kv_rows], -1)
            q, k = rope(q.view(batch, heads, head), c, s), rope(k.view(batch, kv_heads, head), c, s)
            ks[i][rows, :, positions] = k
            vs[i][rows, :, positions] = v.view(batch, kv_heads, head)
            a = F.scaled_dot_product_attention(q.unsqueeze(2), ks[i], vs[i], enable_gqa=True)
            x = x + linear(a.reshape(batch, q_rows), layer["o"])
            g, u = linear(rms(x, layer["norm2"]), layer["gate_up"]).chunk(2, -1)
            x = x + linear(F.silu(g) * u, layer["down"])
        return F.linear(rms(x, norm), output).float().argmax(-1)

    return step


def median_ms(fn, cuda, repeats=30):
    for _ in range(5 if cuda else 1):
        fn()
    times = []
    for _ in range(repeats if cuda else 2):
        if not cuda:
            begin = time.perf_counter()
            fn()
            times.append(1e3 * (time.perf_counter() - begin))
            continue
        a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        a.record()
        fn()
        b.record()
        torch.cuda.synchronize()
        times.append(a.elapsed_time(b))
    return sorted(times)[len(times) // 2]


def captured(run):
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
        run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    torch.cuda.synchronize()
    return graph


def measure(m, name, batch, context, mode, compile_only):
    cuda, draw = m.device == "cuda", lambda: torch.randn(
        batch, m.kv_heads, context, m.head, device=m.device, dtype=DTYPE
    )
    freq = 1.0 / (5e5 ** (torch.arange(0, m.head, 2, device=m.device).float() / m.head))
    angle = torch.outer(torch.arange(context, device=m.device).float(), freq)
    args = (
        torch.randint(0, m.vocab, (batch,), device=m.device),
        torch.full((batch,), context - 1, device=m.device),
        angle.cos().to(DTYPE),
        angle.sin().to(DTYPE),
        [draw() for _ in range(m.n)],
        [draw() for _ in range(m.n)],
    )
    step, begin = step_of(m), time.time()
    if mode != "eager":
        torch._dynamo.reset()
        step = torch.compile(
            step, fullgraph=True, dynamic=False, mode="max-autotune-no-cudagraphs" if mode == "max" else None
        )
    step(*args)
    if cuda:
        torch.cuda.synchronize()
    seconds, run, graph = time.time() - begin, lambda: step(*args), None
    if compile_only:
        return
    if cuda and mode != "eager":
        graph = captured(run)
        run = graph.replay
    ms, kv_bytes = median_ms(run, cuda), 4 * m.n * batch * context * m.kv
    print(
        json.dumps(
            {
                "what": "decode",
                "model": name + ("-fp8" if m.fp8 else ""),
                "mode": mode,
                "batch": batch,
                "context": context,
                "ms": round(ms, 4),
                "gb_per_s": round((m.bytes + kv_bytes) / ms / 1e6, 1),
                "compile_s": round(seconds, 1),
                "total_s": round(time.time() - BEGIN, 1),
            }
        ),
        flush=True,
    )


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("model", choices=list(SHAPES))
    p.add_argument("--batch", default="1,8,64")
    p.add_argument("--context", type=int, default=1024)
    p.add_argument("--mode", default="compile", choices=["compile", "max", "eager"])
    p.add_argument("--fp8", action="store_true", help="projections in e4m3, one scale a tensor")
    p.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    p.add_argument(
        "--compile-only", action="store_true", help="fill torch's cache of compiled kernels, measure nothing"
    )
    args = p.parse_args()
    torch.manual_seed(0)
    with torch.no_grad():
        m = Model(args.model, args.device, args.fp8)
        for batch in args.batch.split(","):
            measure(m, args.model, int(batch), args.context, args.mode, args.compile_only)
            if args.device == "cuda":
                torch.cuda.empty_cache()


main()
