#!/usr/bin/env python3
"""ccc between torch's own kernels in one process: torch's context and stream, torch's tensors as inputs, outputs, KV cache and weights.

Inputs are computed by torch kernels on a side stream behind a long multiplication, the step follows on that stream without a host
synchronisation, and torch reads the logits behind it: the bits must be those of a session that has everything to itself.
"""

import os

import numpy as np
import torch

import ccc
import tiny
from ours import Engine, Tools, arguments
from table import row

NAME = "h64"


class Inside:
    """A session whose buffers all are torch's. Cache as vLLM has it: [blocks, 2, block_size, heads, head_size] a layer."""

    def __init__(self, tools, artifact, weights, n_blocks):
        m, self.where = artifact.model, "cuda" if tools.device.is_cuda else "cpu"
        new = lambda shape, dtype: torch.zeros(shape, dtype=dtype, device=self.where)
        size, self.m = m.kv_block_size, m
        self.kv = [
            torch.full(
                (n_blocks, 2, size, m.kv_heads, m.head_size), float("nan"), dtype=torch.bfloat16, device=self.where
            )
            for _ in range(m.n_layers)
        ]
        row_B = m.head_size * 2
        half = size * m.kv_heads * row_B
        kv = ccc.kv_of_caller(
            [t.data_ptr() for t in self.kv],
            [t.data_ptr() + half for t in self.kv],
            2 * half,
            m.kv_heads * row_B,
            row_B,
            n_blocks,
        )
        self.width = n_blocks
        i32, i64 = torch.int32, torch.int64
        self.buffer = {
            "token_ids": new(m.max_tokens, i32),
            "positions": new(m.max_tokens, i64),
            "slot_mapping": new(m.max_tokens, i64),
            "query_start_loc": new(m.max_seqs + 1, i32),
            "seq_lens": new(m.max_seqs, i32),
            "block_table": new((m.max_seqs, self.width), i32),
            "logits_indices": new(m.max_seqs, i32),
            "logits": new((m.max_seqs, m.vocab), torch.float32),
            "next_tokens": new(m.max_seqs, i32),
        }
        bindings = {n: (t.data_ptr(), t.numel() * t.element_size()) for n, t in self.buffer.items()}
        self.session = ccc.Session(artifact, weights, kv, max_blocks_per_seq=self.width, bindings=bindings)
        if tools.device.is_cuda:
            torch.cuda.synchronize()  # side streams do not wait for the default stream, which has zeroed the buffers

    def fill(self, tokens, n_cached, blocks):
        """Inputs of one step by torch kernels: the last tokens of each sequence."""
        b, size = self.buffer, self.m.kv_block_size
        b["slot_mapping"].fill_(-1)
        b["seq_lens"].zero_()
        first = 0
        for s, (t, n, mine) in enumerate(zip(tokens, n_cached, blocks)):
            last = first + len(t) - n
            b["token_ids"][first:last] = t[n:]
            p = torch.arange(n, len(t), device=self.where)
            b["positions"][first:last] = p
            b["slot_mapping"][first:last] = mine[p // size].long() * size + p % size
            b["query_start_loc"][s] = first
            b["query_start_loc"][s + 1 :] = last
            b["seq_lens"][s] = len(t)
            b["block_table"][s, : len(mine)] = mine
            b["logits_indices"][s] = last - 1
            first = last
        return first

    def step(self, n_tokens, n_seqs, stream, mode="auto"):
        longest = 1 if n_tokens == n_seqs else n_tokens
        self.session.step(n_tokens, n_seqs, n_seqs, max_query_len=longest, mode=mode, stream=stream)


def busy(where):
    """Keeps the stream occupied, so that an unordered reader would be early."""
    x = torch.ones(64 if where == "cpu" else 4096, 64 if where == "cpu" else 4096, device=where)
    for _ in range(4):
        x = x @ x * 1e-4
    return x


def run(inside, tokens, blocks, stream):
    """A prefill and a decode step; logits and argmaxes as torch sees them behind the steps, on the same stream."""
    handle, out, held = stream.cuda_stream if stream else None, [], [len(t) - 1 for t in tokens]
    with torch.cuda.stream(stream):
        for cached, part in (([0] * len(tokens), [t[:-1] for t in tokens]), (held, tokens)):
            busy(inside.where)
            n = inside.fill(part, cached, blocks)
            inside.step(n, len(tokens), handle)
            out += [
                inside.buffer["logits"][: len(tokens)].clone(),
                inside.buffer["next_tokens"][: len(tokens)].clone(),
                inside.buffer["logits"][: len(tokens)].argmax(-1),
            ]
    if stream:
        stream.synchronize()
    return [x.cpu().numpy() for x in out]


def expected(tools, artifact, weights, tokens, n_blocks):
    e = Engine(tools, artifact, weights, n_blocks)
    seqs = [e.sequence(len(t)) for t in tokens]
    outs = [
        e.step([(s, t[:-1]) for s, t in zip(seqs, tokens)], keep=1),
        e.step([(s, t[-1:]) for s, t in zip(seqs, tokens)], keep=1),
    ]
    return [x for logits, ids in outs for x in (np.concatenate(logits), np.concatenate(ids))], [
        s.blocks for s in seqs
    ]


def judge(what, got, want):
    alive = all(
        np.isfinite(x).all() and x.std() > 0 for x in want[::2]
    )  # zeros everywhere would be the same bits, too
    pairs = [(got[i], want[j]) for i, j in ((0, 0), (1, 1), (3, 2), (4, 3))]
    row(
        what,
        "same bits",
        "",
        alive
        and all(np.array_equal(a.view(np.uint32), b.view(np.uint32)) for a, b in pairs)
        and np.array_equal(got[2], got[1])
        and np.array_equal(got[5], got[4]),
    )


def captured(inside, want, n_seqs, mode):
    """The decode step inside a graph that torch captures, between torch's kernels; replayed with other bits in the buffer before."""
    what, graph, ok = f"torch: a step ({mode}) captured in torch's graph, 3 replays", torch.cuda.CUDAGraph(), True
    try:
        with torch.cuda.graph(graph):
            inside.buffer["token_ids"].add_(0)
            inside.step(n_seqs, n_seqs, torch.cuda.current_stream().cuda_stream, mode)
            out = inside.buffer["logits"][:n_seqs] * 1.0
        for _ in range(3):
            inside.buffer["logits"].fill_(float("nan"))
            graph.replay()
            torch.cuda.synchronize()
            ok &= np.array_equal(out.cpu().numpy().view(np.uint32), want[2].view(np.uint32))
        row(what, "same bits", "", ok)
    except RuntimeError as e:  # of ccc, or of torch when the capture was broken off
        row(what, "same bits", str(e.__context__ or e).split("\n")[0], False)


def main():
    args = arguments(__doc__)
    if args.device != "cpu":
        torch.zeros(1, device="cuda")  # torch is first: its context is there
    tools = Tools(args)
    folder = tiny.write_hf(os.path.join(tools.folder.name, NAME), tiny.config_of(NAME), tiny.weights_of(NAME))
    artifact = tools.open(tools.compile(folder, "--kv-layout", "nhd", "--kv-block-size", "16"))
    weights, tokens = ccc.Weights(artifact, tools.device, path=folder), tiny.tokens_of(NAME)
    n_blocks = sum(-(-len(t) // 16) for t in tokens)
    want, blocks = expected(tools, artifact, weights, tokens, n_blocks)
    where = "cuda" if tools.device.is_cuda else "cpu"
    ids, blocks = [torch.from_numpy(t).to(where) for t in tokens], [
        torch.tensor(b, dtype=torch.int32, device=where) for b in blocks
    ]
    stream = torch.cuda.Stream() if tools.device.is_cuda else None
    judge(
        "torch: its stream, its tensors as inputs, outputs and cache",
        run(Inside(tools, artifact, weights, n_blocks), ids, blocks, stream),
        want,
    )
    held = {
        k: torch.from_numpy(w.view(np.int16).copy()).view(torch.bfloat16).to(where)
        for k, w in tiny.weights_of(NAME).items()
    }
    theirs = ccc.Weights(artifact, tools.device, tensors=held)
    del held
    inside = Inside(tools, artifact, theirs, n_blocks)
    judge("torch: weights from its tensors (DLPack)", run(inside, ids, blocks, stream), want)
    names = {n: torch.from_dlpack(a) for n, a in weights.arrays().items()}
    row(
        "torch: ccc's weights seen through DLPack",
        "same bits",
        f"{len(names)} tensors",
        all(
            torch.equal(t.view(torch.uint8), torch.from_dlpack(a).view(torch.uint8))
            for t, a in zip(names.values(), theirs.arrays().values())
        ),
    )
    if stream:
        for mode in ("eager", "auto"):
            captured(inside, want, len(tokens), mode)


main()
