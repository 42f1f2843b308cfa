"""Our side of the comparisons: programs and library, a paged engine as small as one can be, and the rule that
decides.

The rule: e = rms(ours - f32) and d = rms(bf16 - f32), both against transformers' f32 run. bf16 arithmetic
cannot be asked to be exact, but it can be asked to be as good as somebody else's: e <= 1.5 d, and the same
argmax wherever the f32 run is clear about it (top-2 gap above 4 d)."""

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tools", "python"))
import ccc

BOUND, CLEAR = 1.5, 4.0


def arguments(doc, *extra):
    p = argparse.ArgumentParser(description=" ".join(doc.split("\n\n")[0].split()))
    p.add_argument(
        "--build",
        default=os.environ.get("CCC_BUILD", "build"),
        help="build folder, with bin/ccc and lib/libcccrt.so",
    )
    p.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    p.add_argument("--cache-dir", help="cache of the compiler; else one that is thrown away")
    for name, options in extra:
        p.add_argument(name, **options)
    return p.parse_args()


class Tools:
    """bin/ccc, the opened device, and a folder that goes away."""

    def __init__(self, args):
        os.environ["CCCRT_LIBRARY"] = os.path.join(args.build, "lib", "libcccrt.so")
        self.ccc = os.path.join(args.build, "bin", "ccc")
        self.folder = tempfile.TemporaryDirectory(prefix="ccc-reference-")
        self.cache = args.cache_dir or os.path.join(self.folder.name, "cache")
        self.device = ccc.Device(args.device)
        self.target = "sm_90a" if self.device.is_cuda else "x86-64-v3"
        self.n = 0

    def run(self, *args):
        r = subprocess.run([self.ccc, *args], capture_output=True, text=True)
        if r.returncode:
            sys.exit(f"ccc {' '.join(args)}: {r.stderr.strip()}")

    def model_json(self, model, *options):
        self.n += 1
        path = os.path.join(self.folder.name, f"{self.n}.json")
        self.run("import", model, "-o", path, *options)
        return path

    def compile(self, model, *options):
        self.n += 1
        path = os.path.join(self.folder.name, f"{self.n}.ccart")
        self.run("compile", model, "-o", path, "--target", self.target, "--cache-dir", self.cache, *options)
        return path

    def open(self, path):
        return ccc.Artifact(path, allow_host_code=not self.device.is_cuda)


class Seq:
    def __init__(self, blocks):
        self.blocks, self.n = list(blocks), 0


class Engine:
    """A session and its paged cache. Blocks are handed out in the order of `blocks`; fill: byte of the cache
    that nobody wrote yet; poison: every intermediate is NaN before each step."""

    def __init__(self, tools, artifact, weights, n_blocks, blocks=None, fill=0, poison=False):
        self.artifact, self.device, self.poison = artifact, tools.device, poison
        m = self.m = artifact.model
        self.free = list(range(n_blocks) if blocks is None else blocks)
        layout = m.kv_layout.decode()
        row = m.head_size * (1 if m.kv_dtype == b"e4m3" else 2)
        page = m.kv_block_size * row
        if layout == "ccc":
            self.kv = ccc.KVCache(artifact, tools.device, n_blocks)
            d = self.kv.describe().contents
            for i in range(d.n_layers):
                tools.device.fill(d.k[i], fill, d.block_stride_B * n_blocks)
        else:  # K and V of a block one after the other, [n_blocks][2][...]: as vLLM has them
            half = page * m.kv_heads
            self.memory = [tools.device.empty((n_blocks * 2 * half,), "u8") for _ in range(m.n_layers)]
            for x in self.memory:
                tools.device.fill(x.address, fill, n_blocks * 2 * half)
            k = [x.address for x in self.memory]
            token, head = (m.kv_heads * row, row) if layout == "nhd" else (row, page)
            self.kv = ccc.kv_of_caller(k, [a + half for a in k], 2 * half, token, head, n_blocks)
        self.width = min(n_blocks, -(-m.max_model_len // m.kv_block_size))
        self.session = ccc.Session(artifact, weights, self.kv, max_blocks_per_seq=self.width)

    def sequence(self, n_tokens, shared=()):
        """A new sequence with blocks for n_tokens; its first blocks may be somebody else's."""
        need = -(-n_tokens // self.m.kv_block_size) - len(shared)
        blocks, self.free = list(shared) + self.free[:need], self.free[need:]
        return Seq(blocks)

    def inputs(self, batch, keep=None, acausal=False, beyond=0):
        """What a step of `batch` (see step) is given; its sequences are longer then."""
        size, first = self.m.kv_block_size, np.cumsum([0] + [len(t) for _, t in batch])
        positions = [np.arange(s.n, s.n + len(t)) for s, t in batch]
        slots = [np.array(s.blocks)[p // size] * size + p % size for (s, _), p in zip(batch, positions)]
        rows = [np.arange(a, b)[-keep if keep else 0 :] for a, b in zip(first, first[1:])]
        for s, t in batch:
            s.n += len(t)
        seqs = [s for s, t in batch for _ in (t if acausal else t[:1])]
        table = np.zeros((len(seqs), self.width), np.int32)
        for i, s in enumerate(seqs):
            table[i, : len(s.blocks)] = s.blocks
        return {
            "token_ids": np.concatenate([t for _, t in batch]),
            "positions": np.concatenate(positions),
            "query_start_loc": np.arange(first[-1] + 1) if acausal else first,
            "seq_lens": [s.n + beyond for s in seqs],
            "block_table": table,
            "slot_mapping": np.concatenate(slots),
            "logits_indices": np.concatenate(rows),
        }

    def step(self, batch, keep=None, acausal=False, beyond=0):
        """Logits and argmaxes of `batch`, [(sequence, new tokens)], one array for each sequence.

        keep: how many last rows of each are wanted, else all. acausal: every token is given as a sequence of
        its own that sees the whole of its sequence, which is what a missing causal mask does. beyond: rows that
        attention is told to read past the end."""
        given = self.inputs(batch, keep, acausal, beyond)
        if self.poison:
            self.session.fill_arena(0xFF)
        n = len(given["logits_indices"])
        self.session.step(len(given["token_ids"]), len(given["seq_lens"]), n, **given)
        logits = self.session.read("logits", (n, self.m.vocab))
        ids = self.session.read("next_tokens", n, "i32")
        self.session.check()
        cuts = np.cumsum([min(keep or len(t), len(t)) for _, t in batch])[:-1]
        return np.split(logits, cuts), np.split(ids, cuts)


def rms(x):
    x = np.asarray(x, np.float64)
    return float(np.sqrt((x * x).mean())) if np.isfinite(x).all() else float("inf")


class Verdict:
    """e, d and argmaxes of one comparison."""

    def __init__(self, ours, f32, bf16, ids=None, top=None, top_ids=None):
        self.e, self.d = rms(ours - f32), rms(bf16 - f32)
        clear = top[:, 0] - top[:, 1] > CLEAR * self.d if ids is not None else np.zeros(0, bool)
        self.clear, self.wrong = (
            int(clear.sum()),
            int((ids != top_ids)[clear].sum()) if ids is not None else 0,
        )
        self.ok = self.e <= BOUND * self.d and self.wrong == 0

    def __str__(self):
        right = f"{self.clear - self.wrong:5d}/{self.clear:<5d}"
        verdict = "ok" if self.ok else "FAILED"
        return f"{self.e:10.5f} {self.d:10.5f} {self.e / self.d:7.2f} {right} {verdict}"


HEAD = f"{'e':>10} {'d':>10} {'e/d':>7} {'argmax':>8}    bound e/d {BOUND}"
