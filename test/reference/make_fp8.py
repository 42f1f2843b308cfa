#!/usr/bin/env python3
"""Makes fp8.npz: what torch computes for the models FP8 of tiny.py with projections in e4m3, one scale a tensor.

transformers' model with its projections replaced: torch.float8_e4m3fn casts of input and weight, a plain f32 product of the
codes' values, times both scales. Activations between them are f32 in one run and bf16 in the other: the rule of
README.md then leaves room for what bf16 does to the codes, and for no other mistake. Scales are such that the
largest inputs and weights saturate, and differ within projections that share an input. Run once, by hand, with
torch and transformers: make_fp8.py [OUT.npz]. The tests need numpy alone."""

import os
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

import tiny
from make_tiny import in_both, keep, run

SATURATED = {"q_proj": 0.8, "k_proj": 0.7, "v_proj": 0.6, "up_proj": 0.75, "o_proj": 0.9}  # scale / (largest / 448)


def projections(model):
    return {name: m for name, m in model.named_modules() if name.endswith("_proj")}


def scales_of(model, tokens):
    """Projection -> (of its input, of its weight), f32, from a run without quantisation."""
    largest, hooks = {}, []
    for name, m in projections(model).items():
        look = lambda _, x, name=name: largest.update({name: max(largest.get(name, 0), float(x[0].abs().max()))})
        hooks.append(m.register_forward_pre_hook(look))
    run(model, tokens)
    for h in hooks:
        h.remove()
    part = {name: np.float32(SATURATED.get(name.split(".")[-1], 1) / 448) for name in largest}
    return {
        name: (np.float32(largest[name]) * part[name], np.float32(m.weight.abs().max()) * part[name])
        for name, m in projections(model).items()
    }


def shared(scales, name):
    """The largest scales of the projections that read what this one reads."""
    group, last = name.rsplit(".", 1)
    names = [f"{group}.{n}" for n in next(g for g in tiny.JOINED if last in g)]
    return [max(scales[n][i] for n in names) for i in (0, 1)]


def e4m3(x, scale):
    inverse = torch.tensor(np.float32(1) / scale)
    return (x.float() * inverse).clamp(-448, 448).to(torch.float8_e4m3fn).float()


class Quantised(torch.nn.Module):
    def __init__(self, linear, scales):
        super().__init__()
        (self.x, w), self.bias = scales, linear.bias
        self.codes, self.scale = e4m3(linear.weight, w), torch.tensor(self.x * w)

    def forward(self, x):
        y = F.linear(e4m3(x, self.x), self.codes) * self.scale
        return (y if self.bias is None else y + self.bias.float()).to(x.dtype)


def quantise(model, scales):
    for name, m in projections(model).items():
        parent, last = name.rsplit(".", 1)
        setattr(model.get_submodule(parent), last, Quantised(m, shared(scales, name)))
    return model


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    out, data = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "fp8.npz"), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in tiny.FP8:
            weights, tokens = tiny.weights_of(name), tiny.tokens_of(name)
            f32, bf16 = in_both(os.path.join(folder, name), name, weights)
            plain, scales = run(f32, tokens)[0], scales_of(f32, tokens)
            want, other = (run(quantise(m, scales), tokens)[0] for m in (f32, bf16))
            size, d, q = (np.sqrt((x.astype(np.float64) ** 2).mean()) for x in (want, other - want, plain - want))
            print(f"{name}: logits {size:.4f}, d {d:.5f}, quantisation {q:.5f}")
            keep(data, name, want, other)
            data[name + "_names"] = np.array([k + ".weight" for k in scales])
            data[name + "_scales"] = np.array(list(scales.values()), np.float32)
            data[name + "_weights"] = np.array(tiny.digest(weights))
    np.savez_compressed(out, **data)
    print(os.path.getsize(out), "bytes")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
