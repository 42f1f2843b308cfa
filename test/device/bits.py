#!/usr/bin/env python3
"""What must not change a bit: the tiny models of test/reference, steps of every kind, run again and again, eagerly, with full edges between
kernels, without fusion. And a context on half of the multiprocessors, which may change bits (grids follow it) but no result.
"""

import os


import numpy as np

import ccc
import check_tiny
import models
import tiny
from check_tiny import decode, mixed, prefill, same
from driver import Driver
from ours import Engine, Tools, arguments
from table import row

REPEATS = 100


class Model:
    def __init__(self, tools, folder, name, variant="plain", layout="ccc", size=16):
        self.tools, self.tokens = tools, tiny.tokens_of(name)
        options = [*check_tiny.quantize(name, folder + ".scales"), *models.VARIANTS[variant]]
        self.artifact = tools.open(tools.compile(folder, "--kv-layout", layout, "--kv-block-size", str(size), *options))
        self.weights = ccc.Weights(self.artifact, tools.device, path=folder)
        self.blocks = 2 * sum(-(-n // size) for n in tiny.LENGTHS)

    def engine(self, graphs="on-demand"):
        e = Engine(self.tools, self.artifact, self.weights, self.blocks)
        if graphs != "on-demand":
            e.session = ccc.Session(self.artifact, self.weights, e.kv, max_blocks_per_seq=e.width, graphs=graphs)
        return e

    def steps(self, graphs="on-demand"):
        """Logits of prefill, of mixed steps, and of decode steps of 1 to 5 sequences."""
        out = prefill(self.engine(graphs), self.tokens)[0] + mixed(self.engine(graphs), self.tokens)[0]
        for n in range(1, len(self.tokens) + 1):
            out += decode(self.engine(graphs), self.tokens[:n])[0]
        return out


def alive(outputs):
    """Numbers, and not all the same: zeros everywhere would be the same bits, too."""
    return all(np.isfinite(x).all() and x.std() > 0 for x in outputs)


def again(model, times):
    """One prefill and one decode step of 5 sequences, run again on the same cache."""
    ok = True
    for last in (0, 1):
        e = model.engine()
        seqs = [e.sequence(len(t)) for t in model.tokens]
        if last:
            e.step([(s, t[:-last]) for s, t in zip(seqs, model.tokens)], keep=1)
        batch, held, first = [(s, t[-last:]) for s, t in zip(seqs, model.tokens)], [s.n for s in seqs], None
        for _ in range(times):
            for s, n in zip(seqs, held):
                s.n = n
            logits, _ = e.step(batch, keep=1)
            first = first or logits
            ok &= same(first, logits) and alive(logits)
    return ok


def advances(model, n):
    """The last token of n sequences, then the token that follows four times: by the host each time, and by steps that advance."""
    logits, follows = [], 4
    for on_device in (False, True):
        e = model.engine()
        batch = [(e.sequence(len(t) + follows), t) for t in model.tokens[:n]]
        e.step([(s, t[:-1]) for s, t in batch], keep=1)
        last = [(s, t[-1:]) for s, t in batch]
        out, (_, ids) = [], e.step(last, keep=1)
        for i in range(follows):
            if on_device:
                given = {} if i else e.inputs([(s, x) for (s, _), x in zip(last, ids)])
                e.session.step(n, n, n, max_query_len=1, advance=True, **given)
                out.append(e.session.read("logits", (n, e.m.vocab)))
                e.session.check()
            else:
                out += [np.concatenate(e.step([(s, x) for (s, _), x in zip(last, ids)], keep=1)[0])]
        logits.append(out)
    return same(*logits) and alive(logits[0])


def bits(args, tools):
    for name in args.models.split(","):
        folder = check_tiny.write_model(os.path.join(tools.folder.name, name), name)
        plain = Model(tools, folder, name)
        steps = plain.steps()
        row(f"{name}: outputs are numbers", "finite, not constant", f"{len(steps)} outputs", alive(steps))
        row(f"{name}: a step {args.repeats} times", "same bits", "", again(plain, args.repeats))
        for n in 4, 5:  # 5 are padded to 8, and the padding must not advance
            row(f"{name}: {n} sequences that advance on the device", "same bits", "4 steps", advances(plain, n))
        row(f"{name}: eager and graphs", "same bits", f"{len(steps)} outputs", same(steps, plain.steps("none")))
        for variant in ("full edges", "unfused"):
            row(
                f"{name}: {variant}",
                "same bits",
                f"{len(steps)} outputs",
                same(steps, Model(tools, folder, name, variant).steps()),
            )


def half(args, tools):
    driver = Driver()
    whole = driver.multiprocessors()
    tools.device = ccc.Device(context=driver.part(whole // 2).value)
    n = tools.device.props().n_sm
    row("context on half of the multiprocessors", "SM count that ccc sees", f"{n} of {whole}", 0 < n <= 0.6 * whole)
    for name in args.models.split(","):
        folder = check_tiny.write_model(os.path.join(tools.folder.name, name), name)
        rows = list(check_tiny.check(tools, folder, name, "ccc", 16))
        bad = [what for what, _, ok in rows if not ok]
        row(
            f"{name} on half of the multiprocessors",
            "as on all",
            f"{len(rows)} comparisons" + ("; wrong: " + ", ".join(bad) if bad else ""),
            not bad,
        )


def main():
    args = arguments(
        __doc__,
        ("what", {"choices": ["bits", "half"]}),
        ("--models", {"default": ",".join([*tiny.MODELS, *tiny.KV8])}),
        ("--repeats", {"type": int, "default": REPEATS}),
    )
    (half if args.what == "half" else bits)(args, Tools(args))


main()
