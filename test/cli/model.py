"""A model folder for test/models/tiny: config.json and model.safetensors with small pseudo-random bf16 weights.
model.py FOLDER [KEY=JSON of config.json | -TENSOR | TENSOR=ROWS,COLS | overlap]..."""
import json
import os
import struct
import sys

folder, edits = sys.argv[1], sys.argv[2:]
config = json.load(open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../models/tiny/config.json")))
layer = "model.layers.0."
shape = {
    "model.embed_tokens.weight": [101, 64], "model.norm.weight": [64],
    layer + "input_layernorm.weight": [64], layer + "post_attention_layernorm.weight": [64],
    layer + "self_attn.q_proj.weight": [64, 64], layer + "self_attn.k_proj.weight": [32, 64],
    layer + "self_attn.v_proj.weight": [32, 64], layer + "self_attn.o_proj.weight": [64, 64],
    layer + "mlp.gate_proj.weight": [160, 64], layer + "mlp.up_proj.weight": [160, 64], layer + "mlp.down_proj.weight": [64, 160],
}
for edit in edits:
    name, _, value = edit.partition("=")
    if edit[0] == "-":
        del shape[edit[1:]]
    elif name.endswith(".weight"):
        shape[name] = [int(n) for n in value.split(",")]
    elif edit != "overlap":
        config[name] = json.loads(value)
header, data, state = {}, bytearray(), 1
for name, dims in shape.items():
    begin = len(data)
    for _ in range(dims[0] * (dims[1] if len(dims) > 1 else 1)):
        state = state * 1103515245 + 12345 & 0x7FFFFFFF
        value = 1.0 if len(dims) == 1 else ((state >> 8) % 1024 - 512) / 2048
        data += struct.pack("<f", value)[2:]
    header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [begin, len(data)]}
if "overlap" in edits:
    header["model.norm.weight"]["data_offsets"] = [2, 130]
text = json.dumps(header).encode()
os.makedirs(folder, exist_ok=True)
json.dump(config, open(os.path.join(folder, "config.json"), "w"))
with open(os.path.join(folder, "model.safetensors"), "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + data)
