#!/usr/bin/env python3
"""Text in, text out: an artifact, its GGUF file (weights and tokenizer), a question. Needs numpy and the tokenizers package."""
import time

START = time.time()
import argparse
import os
import struct
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, AddedToken

import ccc


def gguf_metadata(path):
    """The key/value pairs of a GGUF file (version 3)."""
    scalar = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with open(path, "rb") as f:

        def read(fmt):
            return struct.unpack("<" + fmt, f.read(struct.calcsize("<" + fmt)))[0]

        def value(kind):
            if kind == 8:
                return f.read(read("Q")).decode("utf-8", "surrogateescape")
            if kind == 9:
                inner, n = read("I"), read("Q")
                return [value(inner) for _ in range(n)]
            return read(scalar[kind])

        if f.read(4) != b"GGUF" or read("I") != 3:
            sys.exit(f"{path}: not a GGUF file of version 3")
        read("Q")
        pairs = {}
        for _ in range(read("Q")):
            key = value(8)
            pairs[key] = value(read("I"))
        return pairs


def tokenizer_of(meta):
    if meta.get("tokenizer.ggml.model") != "gpt2":
        sys.exit(f"tokenizer '{meta.get('tokenizer.ggml.model')}': this example knows byte-level BPE ('gpt2') alone")
    tokens = meta["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ")) for m in meta["tokenizer.ggml.merges"]]
    t = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(tokens)}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    special = [s for s, kind in zip(tokens, meta["tokenizer.ggml.token_type"]) if kind == 3]
    t.add_special_tokens([AddedToken(s, special=True) for s in special])
    return t


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("artifact")
    p.add_argument("gguf")
    p.add_argument("prompt")
    p.add_argument("--steps", type=int, default=64)
    p.add_argument("--device", help="cpu, cuda or cuda:N; else what is there")
    p.add_argument("--library", help="path of libcccrt.so")
    p.add_argument("--raw", action="store_true", help="the prompt as it is, without the chat template")
    a = p.parse_args()
    if a.library:
        os.environ["CCCRT_LIBRARY"] = a.library
    meta = gguf_metadata(a.gguf)
    tok = tokenizer_of(meta)
    text = a.prompt if a.raw else f"<|im_start|>user\n{a.prompt}<|im_end|>\n<|im_start|>assistant\n"
    ids = tok.encode(text).ids
    device = ccc.Device(a.device)
    artifact = ccc.Artifact(a.artifact, allow_host_code=not device.is_cuda)
    weights = ccc.Weights(artifact, device, path=a.gguf)
    times, shown, new = [], "", []

    def on_token(token):
        nonlocal shown
        times.append(time.time())
        new.append(token)
        whole = tok.decode(new)
        if not whole.endswith("\ufffd"):
            print(whole[len(shown):], end="", flush=True)
            shown = whole

    print(f"> {a.prompt}")
    ccc.generate(artifact, weights, device, ids, a.steps, eos=(meta.get("tokenizer.ggml.eos_token_id", -1),), on_token=on_token)
    rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
    print(f"\n-- {device.name}: {len(ids)} prompt tokens, {len(times)} new, {rate:.1f} tokens/s, {times[0] - START:.2f} s from process start to the first token (Python included)")


if __name__ == "__main__":
    main()
