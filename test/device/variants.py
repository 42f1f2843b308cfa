#!/usr/bin/env python3
"""Every matmul kernel that the planner picks for 1 to 300 tokens, against torch in f32 on the same device.

What is run is the model itself with one layer, planned and compiled as it always is: its decode and its mixed programs, at the edges of the range of
tokens that each serves and at odd numbers between. What each matmul reads and writes is a result of the step as well, so that each is compared by
itself: inputs as they were, weights that ccc generated, random activations, NaN behind the rows of the step, and poison in results and arena. A row a
model says whether the kernels of the whole model are all among those that were run, so a later choice of the planner's cannot go by unseen.

`--make` compiles the graphs (with a real ccc, for the folder that test/device/prepare fills), else they are there.
"""

import os
import re
import subprocess
import tempfile

import numpy as np

import models

MOST = 300
SEED, BEHIND = 11, 64  # rows behind the step's own that must stay as they are
SX, SW = 8 / 448, 0.125 / 448  # the compiler's scales where it is given none
BF16, F32, FP8, CODES = 1e-3, 4e-4, 6e-3, 2e-2  # relative errors: roundings that went the other way; fewer bits in sums of e4m3 products; codes


def artifact_of(folder, name):
    return os.path.join(folder, f"variants-{name}.ccart")


# ---- making the graphs
def graph_of(ccc_program, folder, config, options):
    """The model with one layer as text, after the clean-up that merges siblings, with the values around each matmul as results."""
    path = os.path.join(models.write_config(folder, {**config, "num_hidden_layers": 1}), "model.json")
    subprocess.run([ccc_program, "import", folder, "-o", path, *options], check=True)
    text = subprocess.run([ccc_program, "opt", "--pipeline=clean", path], check=True, capture_output=True, text=True).stdout
    first = re.search(r"(%\S+) = slice (%\S+) ", text)  # of the merged q, k and v
    read = lambda v: v + "q" if f"\n{v}q = " in text else v  # what the next matmul reads: codes, or the value itself
    taken = {"qkv": first[2], "attn": read("%l0.a"), "x1": "%l0.x1", "p": read("%l0.p"), "x2": "%l0.x2"}
    missing = [v for v in taken.values() if f"\n{v} = " not in text]
    if missing or text.count(" = matmul ") != 5:
        raise SystemExit(f"{folder}: the graph of a layer is not as it was: {', '.join(missing) or 'another number of matmuls'}")
    return text.rstrip() + "".join(f", {name} = {value}" for name, value in taken.items()) + "\n"


def make(args, names):
    program, cache = os.path.join(args.build, "bin", "ccc"), ["--cache-dir", args.cache_dir] if args.cache_dir else []
    for name in names:
        with tempfile.TemporaryDirectory(prefix="ccc-variants-") as folder:
            text, graph = graph_of(program, folder, *models.variant_config(name)), os.path.join(folder, "graph.ir")
            with open(graph, "w") as f:
                f.write(text)
            subprocess.run([program, "compile", graph, "-o", artifact_of(args.artifacts, name), "--target", args.target, *cache], check=True)


# ---- running them
def kernels_of(artifact):
    """Name and sizes of each matmul kernel: those of another specialisation or other hooks are not equal."""
    return {
        (k["name"], k["code_bytes"], k["ptx_bytes"])
        for t in artifact.info()["targets"]
        for k in t["kernels"]
        if k["name"].startswith(("matvec", "matmul", "gemm"))
    }


def tokens_of(program):
    a, b = program["tokens_min"], min(program["tokens_max"], MOST)
    return sorted({t for t in (a, a + 1, (a + b) // 2 | 1, b - 1, b) if a <= t <= b})


class Model:
    """One artifact with weights and a session whose interesting buffers are torch's."""

    def __init__(self, tools, path):
        import torch
        import ccc

        self.torch, self.where = torch, "cuda" if tools.device.is_cuda else "cpu"
        self.artifact = tools.open(path)
        self.weights, m = ccc.Weights(self.artifact, tools.device, seed=SEED), self.artifact.model
        w = {k: torch.from_dlpack(a) if a.dtype != "e4m3" else torch.from_dlpack(a).view(torch.float8_e4m3fn)
             for k, a in self.weights.arrays().items()}  # fmt: skip
        self.by_name = lambda part: next((t for k, t in w.items() if part in k), None)
        self.fp8 = self.by_name("q_proj").dtype == torch.float8_e4m3fn
        rows = dict(qkv=self.by_name("q_proj"), o=self.by_name("o_proj"), gate_up=self.by_name("gate_proj"), down=self.by_name("down_proj"))
        head = self.by_name("lm_head")
        self.w = {k: t.float() for k, t in rows.items()} | {"head": (self.by_name("embed_tokens") if head is None else head).float()}
        self.norms = [self.by_name(n) for n in ("input_layernorm", "post_attention_layernorm", "model.norm")]
        codes = torch.float8_e4m3fn if self.fp8 else torch.bfloat16
        wide = {"inputs_embeds": (m.max_tokens, m.hidden, torch.bfloat16), "qkv": (m.max_tokens, self.w["qkv"].shape[0], torch.bfloat16),
                "attn": (m.max_tokens, self.w["o"].shape[1], codes), "x1": (m.max_tokens, m.hidden, torch.bfloat16),
                "p": (m.max_tokens, self.w["down"].shape[1], codes), "x2": (m.max_tokens, m.hidden, torch.bfloat16),
                "logits": (m.max_seqs, m.vocab, torch.float32)}  # fmt: skip
        self.b = {k: torch.zeros(r * c * dtype.itemsize, dtype=torch.uint8, device=self.where).view(dtype).view(r, c) for k, (r, c, dtype) in wide.items()}
        size = m.kv_block_size
        self.kv = ccc.KVCache(self.artifact, tools.device, MOST)
        self.width = min(MOST, -(-m.max_model_len // size))
        bound = {k: (t.data_ptr(), t.numel() * t.element_size()) for k, t in self.b.items()}
        self.session = ccc.Session(self.artifact, self.weights, self.kv, max_blocks_per_seq=self.width, graphs="none", bindings=bound)

    def bytes_of(self, name, rows):
        t = self.b[name][rows]
        return t.contiguous().view(self.torch.uint8)

    def step(self, mode, n, x):
        """The results of a step of n tokens on the rows of x; None and a reason where something else was written."""
        torch, m = self.torch, self.artifact.model
        decode, size = mode == "decode", m.kv_block_size
        out = [k for k in self.b if k != "inputs_embeds"]
        for k in out:
            self.b[k].view(torch.uint8)[: n + BEHIND] = 0xFF
        self.b["inputs_embeds"][:n] = x
        self.b["inputs_embeds"][n : n + BEHIND] = float("nan")
        self.session.fill_arena(0xFF)
        if self.where == "cuda":
            torch.cuda.synchronize()
        at = np.arange(n)
        table = np.zeros((n if decode else 1, self.width), np.int32)
        table[:, : 1 if decode else -(-n // size)] = at[:, None] if decode else np.arange(-(-n // size))
        self.session.step(n, n if decode else 1, n, mode="auto" if decode else "mixed", token_ids=np.zeros(n), positions=np.zeros(n) if decode else at,
                          query_start_loc=np.arange(n + 1) if decode else [0, n], seq_lens=np.ones(n) if decode else [n], block_table=table,
                          slot_mapping=at * size if decode else at, logits_indices=at)  # fmt: skip
        self.session.check()
        if self.where == "cuda":
            torch.cuda.synchronize()
        beyond = [k for k in out if not bool((self.bytes_of(k, slice(n, n + BEHIND)) == 0xFF).all())]
        return {k: self.b[k][:n].clone() for k in out}, beyond

    # ---- the same in torch
    def norm(self, x, i):
        v = x.float()
        v = v * self.torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + 1e-5)
        return (v.bfloat16().float() * self.norms[i].float()).bfloat16()

    def codes(self, x):
        return (x.float() * self.torch.tensor(1 / SX, dtype=self.torch.float32)).clamp(-448, 448).to(self.torch.float8_e4m3fn)

    def linear(self, x, name):
        """bf16 of a product of f32 sums; in e4m3 of the codes' values, times both scales."""
        if not self.fp8:
            return (x.float() @ self.w[name].T).bfloat16()
        x = x if x.dtype == self.torch.float8_e4m3fn else self.codes(x)
        return (x.float() @ self.w[name].T * (SX * SW)).bfloat16()

    def expected(self, x, got):
        """Each result from what its kernel read."""
        add = lambda a, b: (a.float() + b.float()).bfloat16()
        gate, up = self.linear(self.norm(got["x1"], 1), "gate_up").float().chunk(2, -1)
        p = ((gate / (1 + (-gate).exp())).bfloat16().float() * up).bfloat16()
        return {
            "qkv": self.linear(self.norm(x, 0), "qkv"),
            "x1": add(x, self.linear(got["attn"], "o")),
            "p": self.codes(p) if self.fp8 else p,
            "x2": add(got["x1"], self.linear(got["p"], "down")),
            "logits": self.norm(got["x2"], 2).float() @ self.w["head"].T,
        }

    def bound(self, name):
        if name == "logits":
            return F32
        return (CODES if name == "p" else FP8) if self.fp8 else BF16

    def judge(self, name, got, want):
        """The relative error, and how many values are off beyond what rounding can do."""
        got, want = got.float(), want.float()
        off, size = (got - want).abs(), want.abs()
        near = (1 / 7 if name == "p" and self.fp8 else 0.03) * size + 0.03 * want.pow(2).mean().sqrt()
        return float(off.norm() / want.norm()), int((~(off <= near)).sum())


def check(model, name, row):
    """Every program at its tokens, twice: the same bits."""
    torch, worst, bad, steps = model.torch, {}, [], 0
    generator = torch.Generator(device=model.where).manual_seed(SEED)
    programs = [p for t in model.artifact.info()["targets"] for p in t["programs"] if p["mode"] in ("decode", "mixed") and p["tokens_min"] <= MOST]
    for kernel in sorted(k[0] for k in kernels_of(model.artifact)):
        print(f"{name}: {kernel}")
    for p in programs:
        print(f"{name}: {p['mode']} {p['tokens_min']} to {p['tokens_max']}, {p['nodes']} nodes: {tokens_of(p)}")
        for n in tokens_of(p):
            x = torch.randn(n, model.artifact.model.hidden, generator=generator, device=model.where).bfloat16()
            (got, beyond), (again, _) = model.step(p["mode"], n, x), model.step(p["mode"], n, x)
            steps += 1
            where = f"{p['mode']} of {n}"
            bad += [f"{where}: {k} is written behind its rows" for k in beyond]
            bad += [f"{where}: {k} has other bits the second time" for k in got if not torch.equal(got[k].view(torch.uint8), again[k].view(torch.uint8))]
            for k, want in model.expected(x, got).items():
                e, off = model.judge(k, got[k], want)
                worst[k] = max(worst.get(k, 0.0), e if e == e else float("inf"))
                if off or not e <= model.bound(k):
                    bad.append(f"{where}: {k} has error {e:.1e}, {off} of {want.numel()} values are off")
    text = f"{len(kernels_of(model.artifact))} kernels, {len(programs)} programs, {steps} steps; " + ", ".join(f"{k} {e:.1e}" for k, e in worst.items())
    for line in bad:
        print(f"{name}: {line}", flush=True)
    row(f"matmul variants of {name}, 1 to {MOST} tokens", f"error {model.bound('x1'):.0e}, the same bits", bad[0] if bad else text, bool(programs) and not bad)


def main():
    from ours import Tools, arguments

    args = arguments(
        __doc__,
        ("--artifacts", {"help": "folder of the compiled graphs; default BUILD/../artifacts"}),
        ("--models", {"default": ",".join(models.MATMULS), "help": "which, joined by commas"}),
        ("--make", {"action": "store_true", "help": "compile the graphs, and no more"}),
        ("--target", {"default": "sm_90a", "help": "of --make"}),
    )
    args.artifacts = args.artifacts or os.path.join(args.build, "..", "artifacts")
    names = args.models.split(",")
    if args.make:
        os.makedirs(args.artifacts, exist_ok=True)
        return make(args, names)
    import torch
    from table import row

    torch.backends.cuda.matmul.allow_tf32 = False
    tools = Tools(args)
    for name in names:
        with torch.inference_mode():
            check(Model(tools, artifact_of(args.artifacts, name)), name, row)
        model = models.MATMULS[name]
        whole = os.path.join(args.artifacts, f"{model}.ccart")
        if model and tools.target == "sm_90a":
            here, there = kernels_of(tools.open(artifact_of(args.artifacts, name))), kernels_of(tools.open(whole))
            missing = sorted(k[0] for k in there - here)
            row(f"matmul kernels of {model}", "all were compared", f"{len(there & here)} of {len(there)}{': not ' if missing else ''}{', '.join(missing)}",
                bool(there) and not missing)  # fmt: skip


main()
