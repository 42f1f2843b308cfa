#!/usr/bin/env python3
"""SmolLM2-135M-Instruct on ccc against smollm2.npz (make_smollm2.py): each prompt in one step, then the
reference's tokens one by one.

Needs numpy, the GGUF file (MODEL or $CCC_TEST_GGUF) and a build; exits 1 when a row fails."""

import os
import sys

import numpy as np

from ours import HEAD, Engine, Tools, Verdict, arguments
import ccc


def feed(engine, prompt, tokens):
    """Logits and argmaxes of the positions that predict `tokens`: a prefill, then decode steps with them."""
    seq = engine.sequence(len(prompt) + len(tokens))
    outs = [engine.step([(seq, prompt)], keep=1)] + [
        engine.step([(seq, tokens[i : i + 1])]) for i in range(len(tokens) - 1)
    ]
    return np.concatenate([o[0][0] for o in outs]), np.concatenate([o[1][0] for o in outs])


def main():
    args = arguments(
        __doc__,
        ("model", {"nargs": "?", "default": os.environ.get("CCC_TEST_GGUF")}),
        ("--artifact", {"help": "a compiled one; else it is compiled here"}),
    )
    if not args.model:
        sys.exit("give the GGUF file, or set CCC_TEST_GGUF")
    tools, ref = Tools(args), np.load(os.path.join(os.path.dirname(os.path.abspath(__file__)), "smollm2.npz"))
    artifact = tools.open(args.artifact or tools.compile(args.model))
    weights = ccc.Weights(artifact, tools.device, path=args.model)
    print(f"{'SmolLM2 on ' + tools.device.name:24.24} {HEAD}")
    ok, clear = True, 0
    for i, tokens in enumerate(ref["tokens"]):
        prompt = ref[f"prompt{i}"]
        with_blocks = -(-(len(prompt) + len(tokens)) // artifact.model.kv_block_size)
        logits, ids = feed(Engine(tools, artifact, weights, with_blocks), prompt, tokens)
        v = Verdict(
            logits[:, ref["sampled"]],
            ref["f32_sampled"][i],
            ref["bf16_sampled"][i],
            ids,
            ref["f32_top"][i],
            ref["f32_top_ids"][i, :, 0],
        )
        print(f"prompt {i}, {len(prompt):3d}+{len(tokens)} tokens   {v}")
        ok, clear = ok and v.ok, clear + v.clear
    print(f"{clear} of {ref['tokens'].size} positions are clear")
    sys.exit(0 if ok and clear else 1)


main()
