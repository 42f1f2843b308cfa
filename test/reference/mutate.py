#!/usr/bin/env python3
"""Do the comparisons of check_tiny.py notice a mistake? Each row makes one, alone, and must fail the
comparison that passes without it.

Mistakes are made where they would be made: in the graph (model.json), in the weights' order, in what
attention sees. Needs numpy and a build; exits 1 when a mistake is not noticed, or when the same path
without a mistake does not pass."""

import json
import os
import sys

import numpy as np

import tiny
from check_tiny import fixture, prefill, quantize, reference, verdict, write_model
from ours import HEAD, Engine, Tools, arguments
import ccc


def edit_graph(tools, model, change, *options):
    """model.json of `model`, with change(node) called for each node; it says whether it changed something."""
    path = tools.model_json(model, *options)
    with open(path) as f:
        graph = json.load(f)
    if change and not [n for n in graph["nodes"] if change(n)]:
        sys.exit("the graph has nothing to change")
    with open(path, "w") as f:
        json.dump(graph, f)
    return path


def setting(op, key, value):
    def change(node):
        if node["op"] != op or node.get(key) == value:
            return False
        if value is None:
            node.pop(key)
        else:
            node[key] = value
        return True

    return change


def no_unpermute(node):
    """unpermute becomes a cast to the type that it has already: rows stay in the file's order."""
    if node["op"] != "unpermute":
        return False
    del node["head_size"]
    node["op"], node["to"] = "cast", "bf16"
    return True


def other_heads(name, weights):
    """Query head h gets the KV head h mod n instead of h / ratio: the query heads are dealt out in that order,
    outputs likewise."""
    heads, kv_heads, head = tiny.MODELS[name][1:4]
    ratio, out = heads // kv_heads, dict(weights)
    order = [h for kv in range(kv_heads) for h in range(heads) if h % kv_heads == kv]
    assert order != list(range(heads)) and len(order) == heads and ratio > 1
    rows = np.concatenate([np.arange(h * head, (h + 1) * head) for h in order])
    for key, w in weights.items():
        if ".q_proj." in key:
            out[key] = w[rows]
        if ".o_proj.weight" in key:
            out[key] = np.ascontiguousarray(w[:, rows])
    return out


def tied(name):
    return {**tiny.config_of(name), "tie_word_embeddings": True}, {
        k: w for k, w in tiny.weights_of(name).items() if k != "lm_head.weight"
    }


def untied(name):
    weights = tiny.weights_of(name)
    return {**tiny.config_of(name), "tie_word_embeddings": False}, {
        **weights,
        "lm_head.weight": weights["model.embed_tokens.weight"][::-1].copy(),
    }


class Bench:
    def __init__(self, tools):
        self.tools, self.failed, self.n = tools, 0, 0

    def folder(self, name, config=None, weights=None):
        self.n += 1
        return tiny.write_hf(
            os.path.join(self.tools.folder.name, f"model{self.n}"),
            config or tiny.config_of(name),
            weights or tiny.weights_of(name),
        )

    def run(self, what, name, model, source, noticed=True, like=None, compiled=(), **options):
        """Compiles `model`, attaches `source`, compares the prefill with the reference, or `like`; noticed: it
        must fail. compiled: options of the compiler."""
        artifact = self.tools.open(self.tools.compile(model, *compiled))
        weights = ccc.Weights(artifact, self.tools.device, path=source)
        v = verdict(
            like or reference(name),
            *prefill(Engine(self.tools, artifact, weights, 40, fill=0xFF), tiny.tokens_of(name), **options),
        )
        good = v.ok != noticed
        self.failed += not good
        text = ("noticed" if not v.ok else "NOT NOTICED") if noticed else ("passes" if v.ok else "FAILS")
        print(
            f"{name:5} {what:42} {v.e:9.5f} {v.d:9.5f} {v.e / v.d:7.2f} {v.clear - v.wrong:4d}/{v.clear:<4d} {text}",
            flush=True,
        )


def main():
    tools = Tools(arguments(__doc__))
    bench = Bench(tools)
    print(f"{'mistakes, on ' + tools.device.name:48.48} {HEAD}")
    for name in ("h16", "h64"):
        source = bench.folder(name)
        bench.run("none, through model.json", name, edit_graph(tools, source, None), source, noticed=False)
        bench.run(
            "eps 1e-6 for 1e-5", name, edit_graph(tools, source, setting("rms_norm", "eps", 1e-6)), source
        )
        bench.run(
            "theta 1.1 times too large",
            name,
            edit_graph(
                tools, source, setting("rope_table", "theta", 1.1 * (10000 if name == "h16" else 20000))
            ),
            source,
        )
        bench.run("no causal mask", name, source, source, acausal=True)
    for name in (
        "h16",
        "h64",
    ):  # that mistake is a missing mask and nothing else: transformers without one computes the same
        source = bench.folder(name)
        bench.run(
            "none, both without the mask",
            name,
            source,
            source,
            noticed=False,
            like=reference(name, "_acausal"),
            acausal=True,
        )
    name = "h64"
    bench.run(
        "no rope scaling",
        name,
        edit_graph(tools, bench.folder(name), setting("rope_table", "scaling", None)),
        bench.folder(name),
    )
    bench.run(
        "rope scaling factor 4 for 8",
        name,
        edit_graph(tools, bench.folder(name), setting("rope_table", "factor", 4.0)),
        bench.folder(name),
    )
    bench.run(
        "query head h reads KV head h mod n",
        name,
        bench.folder(name),
        bench.folder(name, weights=other_heads(name, tiny.weights_of(name))),
    )
    mistaken = bench.folder(name, *tied(name))
    bench.run("head tied though it is not", name, mistaken, mistaken)
    name = "h16"
    mistaken = bench.folder(name, *untied(name))
    bench.run("head not tied though it is", name, mistaken, mistaken)
    bench.run(
        "one row beyond the sequence, NaN there", name, bench.folder(name), bench.folder(name), beyond=1
    )
    gguf = tiny.write_gguf(os.path.join(tools.folder.name, "h16.gguf"), name, tiny.weights_of(name))
    bench.run("none, from GGUF", name, gguf, gguf, noticed=False)
    bench.run("q and k rows in the file's order", name, edit_graph(tools, gguf, no_unpermute), gguf)
    quantised(bench)
    cache_of_e4m3(bench)
    sys.exit(1 if bench.failed else 0)


def shifted(scales):
    """Each projection has the scales of the next one."""
    values = list(scales.values())
    return dict(zip(scales, values[1:] + values[:1]))


def exchanged(scales):
    return {k: (w, x) for k, (x, w) in scales.items()}


def smallest(scales):
    """Projections that share an input have the smallest scales of theirs: that is what each has if all have it."""
    out = dict(scales)
    for group in tiny.JOINED:
        for k in scales:
            names = [k.replace(k.split(".")[-2], n) for n in group]
            if k in names:
                out[k] = tuple(min(scales[n][i] for n in names) for i in (0, 1))
    return out


def scale_of_sums(factor):
    """The product of both scales, by far the smallest constants of the graph, is another one."""

    def change(node):
        if node["op"] != "constant" or node["value"] > 1e-3:
            return False
        node["value"] *= factor
        return True

    return change


def quantised(bench):
    """--quantize fp8-static: mistakes with scales."""
    name, scales = "q16", os.path.join(bench.tools.folder.name, "scales.json")
    source, weights = bench.folder(name), tiny.weights_of(name)
    bench.run("none, e4m3", name, source, source, noticed=False, compiled=quantize(name, scales))
    for what, change in (
        ("scales of the next projection", shifted),
        ("scales of input and weight exchanged", exchanged),
        ("the smallest of shared scales", smallest),
    ):
        bench.run(what, name, source, source, compiled=quantize(name, scales, change=change))
    bench.run("default scales for the file's", name, source, source, compiled=["--quantize", "fp8-static"])
    bench.run("not quantised", name, source, source)
    for factor in (1.25, 0.8):
        model = edit_graph(bench.tools, source, scale_of_sums(factor), *quantize(name, scales))
        bench.run(f"sums {factor} times too large", name, model, source)
    gguf = tiny.write_gguf(os.path.join(bench.tools.folder.name, "q16.gguf"), name, weights)
    bench.run("none, e4m3 from GGUF", name, gguf, gguf, noticed=False, compiled=quantize(name, scales, tiny.gguf_name))


def cache_of_e4m3(bench):
    """--kv-cache-dtype fp8: mistakes with scales."""
    name, fp8 = "k64", ["--kv-cache-dtype", "fp8"]
    scales = fixture(name)[name + "_scales"]
    source = write_model(os.path.join(bench.tools.folder.name, "k64.scales"), name)
    bench.run("none, cache of e4m3", name, source, source, noticed=False, compiled=fp8)
    bench.run("cache of bf16", name, source, source)
    for what, changed in (
        ("scales of K and V exchanged", scales[:, ::-1]),
        ("scales twice too small, so that more saturates", scales / 2),
        ("scales that are not there, so 1", None),
    ):
        bench.n += 1
        mistaken = tiny.write_hf(
            os.path.join(bench.tools.folder.name, f"model{bench.n}"), tiny.config_of(name), tiny.weights_of(name), changed
        )
        bench.run(what, name, mistaken, mistaken, compiled=fp8)
    for key in ("k_scale", "v_scale"):
        bench.run(f"{key} left out where the cache is read", name, edit_graph(bench.tools, source, setting("attention", key, None), *fp8), source)


main()
