#!/usr/bin/env python3
"""The tiny models of tiny.py on ccc against tiny.npz (make_tiny.py), for each layout and block size of the KV
cache, those in e4m3 against fp8.npz (make_fp8.py), and those with a cache of e4m3 against kv8.npz (make_kv8.py).

Prefill of 5 sequences in one step; decode of 5 sequences; a mixed step (5 lengths, 5 numbers of cached
tokens), against transformers and against the same sequences one at a time; and what must not change a bit:
which physical blocks, shared prefixes, and NaN in the part of the cache that nobody wrote and in the arena.
Needs numpy and a build; exits 1 when a row fails."""

import os
import sys

import numpy as np

import tiny
from ours import BOUND, HEAD, Engine, Tools, Verdict, arguments, rms
import ccc

N_DECODE = 6
SHARED = 256  # tokens of a common prefix


def layouts(name):
    """(layout, block size) of the KV cache; what projections are made of does not touch it."""
    if name in tiny.FP8:
        return [("ccc", 16), ("nhd", 32)]
    if name in tiny.KV8:
        return [("ccc", 16), ("ccc", 64), ("nhd", 32), ("hnd", 16)]
    return [(layout, size) for layout in ("ccc", "nhd", "hnd") for size in (16, 32)]


def fixture(name):
    file, maker = "tiny.npz", "make_tiny.py"
    if name in tiny.FP8:
        file, maker = "fp8.npz", "make_fp8.py"
    if name in tiny.KV8:
        file, maker = "kv8.npz", "make_kv8.py"
    ref = np.load(os.path.join(os.path.dirname(os.path.abspath(__file__)), file))
    if str(ref[name + "_weights"]) != tiny.digest(tiny.weights_of(name)):
        sys.exit(f"{file} was made of other weights of '{name}': run {maker}")
    return ref


def quantize(name, path, name_of=lambda key: key, change=lambda scales: scales):
    """Options for the compiler: the scales that the reference has, written to `path`. change: of {tensor: (input, weight)}."""
    if name in tiny.KV8:
        return ["--kv-cache-dtype", "fp8"]
    if name not in tiny.FP8:
        return []
    ref = fixture(name)
    scales = change(dict(zip(map(str, ref[name + "_names"]), ref[name + "_scales"])))
    return ["--quantize", "fp8-static", "--quantize-scales", tiny.write_scales(path, scales, name_of)]


def write_model(folder, name):
    """The model's files; with a cache of e4m3 the scales that the reference has, if they are not 1, are tensors."""
    ref = fixture(name) if name in tiny.KV8 else {}
    return tiny.write_hf(folder, tiny.config_of(name), tiny.weights_of(name), ref[name + "_scales"] if name + "_scales" in ref else None)


def reference(name, which=""):
    """(f32, bf16) logits of the last positions of each sequence; which: "_acausal": without the causal mask."""
    ref = fixture(name)
    cuts = np.cumsum([min(n, tiny.KEEP) for n in tiny.LENGTHS])[:-1]
    return np.split(ref[name + which + "_f32"], cuts), np.split(
        tiny.of_bf16(ref[name + which + "_bf16"]), cuts
    )


def verdict(ref, logits, ids):
    """Of the last rows of each sequence, as many as are given and known."""
    f32, bf16 = (
        [np.concatenate([r[max(0, len(r) - len(x)) :] for r, x in zip(part, logits)])] for part in ref
    )
    f32, bf16 = f32[0], bf16[0]
    ours, ids = (
        np.concatenate([x[-tiny.KEEP :] for x in logits]),
        np.concatenate([x[-tiny.KEEP :] for x in ids]),
    )
    order = np.argsort(f32, axis=1)[:, :-3:-1]
    return Verdict(ours, f32, bf16, ids, np.take_along_axis(f32, order, 1), order[:, 0])


def prefill(engine, tokens, **options):
    return engine.step([(engine.sequence(len(t)), t) for t in tokens], keep=tiny.KEEP, **options)


def decode(engine, tokens):
    """All but the last tokens at once, then one of each a step: logits of the steps, a sequence at a time."""
    seqs = [engine.sequence(len(t)) for t in tokens]
    engine.step([(s, t[:-N_DECODE]) for s, t in zip(seqs, tokens)], keep=1)
    outs = [
        engine.step([(s, t[i : i + 1 or None]) for s, t in zip(seqs, tokens)]) for i in range(-N_DECODE, 0)
    ]
    return tuple([np.concatenate([o[part][s] for o in outs]) for s in range(len(seqs))] for part in (0, 1))


def mixed(engine, tokens, together=True):
    """Each sequence has tokens in the cache; the rest of all comes in one step, or one sequence at a time."""
    seqs = [engine.sequence(len(t)) for t in tokens]
    for s, t, n in zip(seqs, tokens, tiny.CACHED):
        if n:
            engine.step([(s, t[:n])], keep=1)
    batch = [(s, t[n:]) for s, t, n in zip(seqs, tokens, tiny.CACHED)]
    if together:
        return engine.step(batch)
    outs = [engine.step([b]) for b in batch]
    return [o[0][0] for o in outs], [o[1][0] for o in outs]


def prefix(engine, tokens, share):
    """Two sequences that begin alike, in blocks of their own or sharing those of the first; then a mixed step
    and a decode step of both."""
    a = engine.sequence(len(tokens))
    engine.step([(a, tokens[:SHARED])], keep=1)
    b = engine.sequence(len(tokens), a.blocks[: SHARED // engine.m.kv_block_size] if share else ())
    if share:
        b.n = SHARED
    else:
        engine.step([(b, tokens[:SHARED])], keep=1)
    outs = [engine.step([(a, tokens[SHARED:-2]), (b, tokens[SHARED - 9 : SHARED])])]
    outs.append(engine.step([(a, tokens[-2:-1]), (b, tokens[:1])]))
    return [x for o in outs for x in o[0]]


def same(a, b):
    return all(np.array_equal(x.view(np.uint32), y.view(np.uint32)) for x, y in zip(a, b))


def check(tools, folder, name, layout, size):
    """Rows of the table: (what, text, ok)."""
    tokens, ref = tiny.tokens_of(name), reference(name)
    options = ["--kv-layout", layout, "--kv-block-size", str(size), *quantize(name, folder + ".scales")]
    artifact = tools.open(tools.compile(folder, *options))
    weights = ccc.Weights(artifact, tools.device, path=folder)
    n = 2 * sum(-(-t // size) for t in tiny.LENGTHS) + 3
    engine = lambda **options: Engine(tools, artifact, weights, n, **options)
    for what, run in (("prefill", prefill), ("decode", decode)):
        v = verdict(ref, *run(engine(), tokens))
        yield what, str(v), v.ok
    plain = mixed(engine(), tokens)
    v = verdict(ref, *plain)
    yield "mixed", str(v), v.ok
    alone = mixed(engine(), tokens, together=False)
    e = rms(np.concatenate(plain[0]) - np.concatenate(alone[0]))
    yield "one at a time", f"{e:10.5f} {v.d:10.5f} {e / v.d:7.2f}", e <= BOUND * v.d
    order = np.random.Generator(np.random.PCG64(7)).permutation(n)
    nan = {"fill": 0xFF, "poison": True}
    for what, ok in (
        ("blocks permuted", same(plain[0], mixed(engine(blocks=order), tokens)[0])),
        ("NaN around", same(plain[0], mixed(engine(blocks=order, **nan), tokens)[0])),
        ("NaN, decode", same(decode(engine(), tokens)[0], decode(engine(blocks=order, **nan), tokens)[0])),
        ("prefix shared", same(prefix(engine(), tokens[-1], False), prefix(engine(**nan), tokens[-1], True))),
    ):
        yield what, "same bits" if ok else "other bits", ok


def main():
    args = arguments(
        __doc__,
        ("--models", {"default": ",".join(tiny.ALL)}),
        ("--verbose", {"action": "store_true", "help": "all rows, not the failing ones and the worst"}),
    )
    tools, failed, n, worst = Tools(args), 0, 0, {}
    print(f"{'tiny models on ' + tools.device.name:32.32} {HEAD}")
    for name in args.models.split(","):
        folder = write_model(os.path.join(tools.folder.name, name), name)
        for layout, size in layouts(name):
            for what, text, ok in check(tools, folder, name, layout, size):
                n, failed = n + 1, failed + (not ok)
                if args.verbose or not ok:
                    print(
                        f"{name:5} {layout} {size} {what:16}     {text}{'' if ok or 'FAILED' in text else ' FAILED'}",
                        flush=True,
                    )
        print(f"{name}: done", flush=True)
    print(f"{n - failed} of {n} comparisons hold")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
