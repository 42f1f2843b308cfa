#!/usr/bin/env python3
"""ccc between torch's own kernels in one process: torch's context and stream, torch's tensors as inputs, outputs, KV cache and weights.

Inputs are computed by torch kernels on a side stream behind a long multiplication, the step follows on that stream without a host
synchronisation, and torch reads the logits behind it: the bits must be those of a session that has everything to itself. So 1000 times, and
from two threads with a stream each over the same weights. `--growth N` instead opens and closes everything N times beside a torch that stays.
"""

import gc
import os
import threading
import time

import numpy as np
import torch

import ccc
import tiny
from ours import Engine, Tools, arguments
from table import row

NAME = "h64"
TIMES = 1000


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


def same_bits(a, b):
    return np.array_equal(a.view(np.uint32), b.view(np.uint32))


def often(inside, want, tokens, blocks, stream, times):
    """Decode steps between torch's own kernels, none of which the host waits for; torch compares what each gave."""
    with torch.cuda.stream(stream):
        logits, ids = (torch.from_numpy(x).to(inside.where) for x in want[2:])
        wrong, handle = torch.zeros((), dtype=torch.int64, device=inside.where), stream.cuda_stream if stream else None
        n, held = len(tokens), [len(t) - 1 for t in tokens]
        for i in range(times):
            if i % 100 == 0:
                busy(inside.where)
            inside.buffer["logits"].fill_(float("nan"))
            inside.fill(tokens, held, blocks)
            inside.step(n, n, handle)
            wrong += (inside.buffer["logits"][:n].view(torch.int32) != logits.view(torch.int32)).sum()
            wrong += (inside.buffer["next_tokens"][:n] != ids).sum()
    inside.session.check(handle)
    return int(wrong)


def two_threads(tools, artifact, weights, n_blocks, want, ids, blocks, streams):
    """Sessions over the same weights step at the same time: whole sequences, on a stream each."""
    inside, bad, gate = [Inside(tools, artifact, weights, n_blocks) for _ in streams], [], threading.Barrier(len(streams))

    def work(i):
        try:
            with torch.cuda.stream(streams[i]):
                gate.wait()
                for _ in range(20):
                    got = run(inside[i], ids, blocks, streams[i])
                    if not all(same_bits(got[a], want[b]) for a, b in ((0, 0), (1, 1), (3, 2), (4, 3))):
                        bad.append(f"thread {i}: other bits")
        except Exception as e:  # a thread's error must not be lost
            bad.append(f"thread {i}: {e}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(streams))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return bad


def resident_kB():
    with open("/proc/self/status") as f:
        return int(next(line.split()[1] for line in f if line.startswith("VmRSS")))


def growth(tools, path, times):
    """Artifact, device, weights, cache and session, opened, used for a step, and closed; torch's context stays."""
    mb = 1 << 20
    at = lambda: (resident_kB() / 1024, (torch.cuda.mem_get_info()[0] if tools.device.is_cuda else 0) / mb)
    start, first = time.time(), None
    for i in range(times):
        with tools.open(path) as artifact, ccc.Device(tools.name) as device:
            with ccc.Weights(artifact, device, seed=1) as weights, ccc.KVCache(artifact, device, 4) as kv:
                with ccc.Session(artifact, weights, kv, max_blocks_per_seq=1) as session:
                    session.step(1, 1, 1, token_ids=[1], positions=[0], query_start_loc=[0, 1], seq_lens=[1],
                                 block_table=[[0]], slot_mapping=[0], logits_indices=[0])
                    session.check()
        if i == times // 10:
            gc.collect()
            first = at()
    gc.collect()
    last, ms = at(), (time.time() - start) * 1000 / times
    host, device = last[0] - first[0], first[1] - last[1]
    row(
        f"torch: all opened and closed {times} times beside it, growth",
        "<= 16 MB, 4 MB",
        f"process {host:+.1f} MB, device {device:+.1f} MB; {ms:.1f} ms each",
        host <= 16 and device <= 4,
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
    args = arguments(__doc__, ("--growth", dict(type=int, default=0, metavar="N")))
    if args.device != "cpu":
        torch.zeros(1, device="cuda")  # torch is first: its context is there
    tools = Tools(args)
    folder = tiny.write_hf(os.path.join(tools.folder.name, NAME), tiny.config_of(NAME), tiny.weights_of(NAME))
    path = tools.compile(folder, "--kv-layout", "nhd", "--kv-block-size", "16")
    if args.growth:
        tools.name = args.device
        return growth(tools, path, args.growth)
    artifact = tools.open(path)
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
    wrong = often(inside, want, ids, blocks, stream, TIMES)
    row(f"torch: {TIMES} steps between its kernels", "same bits", f"{wrong} values differ", wrong == 0)
    streams = [torch.cuda.Stream() if stream else None for _ in range(2)]
    bad = two_threads(tools, artifact, weights, n_blocks, want, ids, blocks, streams)
    row("torch: two threads, a stream each, the same weights, 20 times", "same bits", "; ".join(bad[:2]), not bad)
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
