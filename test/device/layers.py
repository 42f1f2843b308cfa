#!/usr/bin/env python3
"""Layers of a real model's size against torch in f32 on the same device, on the weights that ccc generated (random:SEED).

Two layers with embedding and head: prefill of 33 and 257 tokens, decode steps of 1, 2, 7, 8, 33 and 40 sequences of odd lengths; where sequences may
be long, of up to 5001 tokens. With e the error of
ccc and d that of the same torch code in bf16, both against f32 in the Frobenius norm: e <= 1.5 d for the hidden state and the logits. Then the
same steps again 100 times, eagerly, with full edges and unfused: the same bits. Weights come to torch through DLPack, as kernels read them.
With --fp8 projections are in e4m3, in torch too: casts, f32 products of the codes' values, scales.
"""

import os

import numpy as np
import torch
import torch.nn.functional as F

import ccc
import models
from ours import BOUND, Engine, Tools, arguments
from table import row

SEED, REPEATS = 5, 100
SX, SW = np.float32(8 / 448), np.float32(0.125 / 448)  # the compiler's scales where it is given none


class Reference:
    """The llama architecture, written plainly; one sequence at a time, any dtype."""

    def __init__(self, name, weights, fp8):
        c = models.layers_config(name)
        self.c, self.fp8, self.tensors = c, fp8, {}
        for k, a in weights.arrays().items():
            t = torch.from_dlpack(a)
            self.tensors[k] = t.view(torch.float8_e4m3fn) if a.dtype == "e4m3" else t
        q, kv = c["num_attention_heads"] * c["head_dim"], c["num_key_value_heads"] * c["head_dim"]
        self.rows = {
            "q_proj": q,
            "k_proj": kv,
            "v_proj": kv,
            "gate_proj": c["intermediate_size"],
            "up_proj": c["intermediate_size"],
        }
        self.dtype = self.cache = None

    def weight(self, name):
        """By its name in the model's files; merged tensors are the rows of one after those of the other."""
        for key, t in self.tensors.items():
            parts, at = [p.split("*")[0] for p in key.split("+")], 0  # NAME, or NAME*SCALE:e4m3
            for p in parts:
                n = self.rows[p.split(".")[-2]] if len(parts) > 1 else t.shape[0]
                if p == name:
                    assert len(parts) == 1 or t.shape[0] == sum(self.rows[x.split(".")[-2]] for x in parts), key
                    return t[at : at + n] if self.fp8 and t.dtype == torch.float8_e4m3fn else t[at : at + n].to(self.dtype)
                at += n
        raise KeyError(name)

    def use(self, dtype):
        self.dtype, self.cache = dtype, {}

    def w(self, name):
        if name not in self.cache:
            self.cache[name] = self.weight(name)
        return self.cache[name]

    def linear(self, x, name):
        """With fp8: codes of the input, a plain f32 product of the codes' values, both scales."""
        if not self.fp8:
            return F.linear(x, self.w(name))
        codes = (x.float() * (1 / SX)).clamp(-448, 448).to(torch.float8_e4m3fn)
        return (F.linear(codes.float(), self.w(name).float()) * (SX * SW)).to(self.dtype)

    def norm(self, x, name):
        v = x.float()
        return self.w(name) * (v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])).to(
            self.dtype
        )

    def angles(self, n, device):
        r, d = self.c["rope_parameters"], self.c["head_dim"]
        freq = 1.0 / r["rope_theta"] ** (np.arange(0, d, 2, dtype=np.float64) / d)
        if r["rope_type"] == "llama3":
            waves = r["original_max_position_embeddings"] * freq / (2 * np.pi)
            k = np.clip((waves - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"]), 0, 1)
            freq = (1 - k) * freq / r["factor"] + k * freq
        a = np.arange(n, dtype=np.float32)[:, None] * freq.astype(np.float32)
        return [
            torch.from_numpy(f(a.astype(np.float64)).astype(np.float32)).to(device, self.dtype)
            for f in (np.cos, np.sin)
        ]

    def attention(self, h, at, cos, sin):
        n, d = h.shape[0], self.c["head_dim"]
        q, k, v = (
            self.linear(h, f"{at}self_attn.{p}_proj.weight").view(n, -1, d).transpose(0, 1) for p in "qkv"
        )

        def rope(x):
            a, b = x.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        groups = q.shape[0] // k.shape[0]
        k, v = rope(k).repeat_interleave(groups, 0), v.repeat_interleave(groups, 0)
        scores = rope(q) @ k.transpose(1, 2) * d**-0.5
        scores = scores + torch.full((n, n), float("-inf"), device=h.device, dtype=self.dtype).triu(1)
        p = torch.softmax(scores.float(), -1).to(self.dtype)
        return self.linear((p @ v).transpose(0, 1).reshape(n, -1), at + "self_attn.o_proj.weight")

    def run(self, ids, keep):
        """Hidden state and logits of the last `keep` tokens."""
        table = self.w("model.embed_tokens.weight")
        x = table[torch.from_numpy(ids.astype(np.int64)).to(table.device)]
        cos, sin = self.angles(len(ids), x.device)
        for i in range(self.c["num_hidden_layers"]):
            at = f"model.layers.{i}."
            x = x + self.attention(self.norm(x, at + "input_layernorm.weight"), at, cos, sin)
            h = self.norm(x, at + "post_attention_layernorm.weight")
            g, u = (self.linear(h, f"{at}mlp.{p}_proj.weight") for p in ("gate", "up"))
            x = x + self.linear(F.silu(g) * u, at + "mlp.down_proj.weight")
        h = self.norm(x[-keep:], "model.norm.weight")
        return (
            h.float().cpu().numpy(),
            F.linear(h, self.w("model.embed_tokens.weight" if self.c["tie_word_embeddings"] else "lm_head.weight"))
            .float()
            .cpu()
            .numpy(),
        )


def cases(vocab, longest):
    """(what, token ids of each sequence, tokens of each in the step that is compared)"""
    rng = np.random.Generator(np.random.PCG64(3))
    draw = lambda n: rng.integers(0, vocab, n).astype(np.int32)
    for n in (33, 257):
        yield f"prefill of {n}", [draw(n)], n
    for batch in (1, 2, 7, 8, 33, 40):
        yield f"decode of {batch}", [draw(2 + 2 * (i * 37 % 150 + (batch == 1) * 105)) for i in range(batch)], 1
    for lengths in ((5001,), (2900, 90), (640, 17, 1300, 2)) if longest > 4096 else ():
        yield f"decode of {len(lengths)}, {max(lengths)} tokens", [draw(n) for n in lengths], 1


class Step:
    """The step of one case on an engine of its own; can be run again."""

    def __init__(self, tools, artifact, weights, tokens, last, graphs="on-demand"):
        size = artifact.model.kv_block_size
        self.e = e = Engine(tools, artifact, weights, sum(-(-len(t) // size) for t in tokens))
        if graphs != "on-demand":
            e.session = ccc.Session(artifact, weights, e.kv, max_blocks_per_seq=e.width, graphs=graphs)
        seqs = [e.sequence(len(t)) for t in tokens]
        if last < len(tokens[0]):
            e.step([(s, t[:-last]) for s, t in zip(seqs, tokens)], keep=1)
        self.batch, self.held = [(s, t[-last:]) for s, t in zip(seqs, tokens)], [s.n for s in seqs]

    def run(self):
        for (s, _), n in zip(self.batch, self.held):
            s.n = n
        logits, _ = self.e.step(self.batch)
        rows = sum(len(t) for _, t in self.batch)
        return self.e.session.read("hidden", (rows, self.e.m.hidden), "bf16"), np.concatenate(logits)


def equal(a, b):
    return all(np.array_equal(x.view(np.uint32), y.view(np.uint32)) for x, y in zip(a, b))


def distance(a, b):
    """Relative, in the Frobenius norm; infinite when a is no number. Zeros are at distance 1."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b)) if np.isfinite(a).all() else float("inf")


def compare(args, tools, folder, open_variant):
    artifact, weights = open_variant("plain")
    ref, kept = Reference(args.shape, weights, args.fp8), []
    for what, tokens, last in cases(artifact.model.vocab, ref.c["max_position_embeddings"]):
        step = Step(tools, artifact, weights, tokens, last)
        ours = step.run()
        kept.append((what, tokens, last, ours))
        parts = []
        for dtype in (torch.float32, torch.bfloat16):
            ref.use(dtype)
            out = [ref.run(t, last) for t in tokens]
            parts.append([np.concatenate([o[i] for o in out]) for i in (0, 1)])
        text, ok = [], True
        for name, x, f32, bf16 in zip(("hidden", "logits"), ours, *parts):
            e, d = distance(x, f32), distance(bf16, f32)
            ok &= e <= BOUND * d
            text.append(f"{name} e {e:.5f} d {d:.5f} e/d {e / d:.2f}")
        row(f"{args.what} layers, {what}", f"e <= {BOUND} d against torch f32", ", ".join(text), ok)
        if what in ("prefill of 257", "decode of 7") or last == 1 and len(tokens[0]) > 4096:
            row(
                f"{args.what} layers, {what}, {args.repeats} times",
                "same bits",
                "",
                all(equal(ours, step.run()) for _ in range(args.repeats)),
            )
    return kept


def same_bits(args, tools, kept, open_variant):
    for variant in ("eager", "full edges", "unfused"):
        artifact, weights = open_variant("plain" if variant == "eager" else variant)
        graphs = "none" if variant == "eager" else "on-demand"
        # an empty sequence, the padding of a graph, takes part in dividing the attention's work: eager steps of other sizes may differ
        sizes = {artifact.model.sizes[i] for i in range(artifact.model.n_sizes)}
        chosen = [k for k in kept if variant != "eager" or k[2] > 1 or len(k[1]) in sizes]
        other = [
            what
            for what, tokens, last, ours in chosen
            if not equal(ours, Step(tools, artifact, weights, tokens, last, graphs).run())
        ]
        row(
            f"{args.what} layers, {variant}, {len(chosen)} steps",
            "same bits",
            "other bits: " + ", ".join(other) if other else "",
            not other,
        )


def main():
    args = arguments(
        __doc__,
        ("--shape", {"default": "8b", "choices": list(models.WHOLE)}),
        ("--repeats", {"type": int, "default": REPEATS}),
        ("--fp8", {"action": "store_true", "help": "weights and inputs of the projections in e4m3"}),
    )
    args.what = args.shape + (" fp8" if args.fp8 else "")
    tools = Tools(args)
    folder = models.write_config(os.path.join(tools.folder.name, args.shape), models.layers_config(args.shape))

    def open_variant(variant):
        artifact = tools.open(tools.compile(folder, *models.HIDDEN, *models.VARIANTS[variant], *(models.FP8 if args.fp8 else [])))
        return artifact, ccc.Weights(artifact, tools.device, seed=SEED)

    with torch.inference_mode():
        kept = compare(args, tools, folder, open_variant)
    same_bits(args, tools, kept, open_variant)


main()
