# graphs and configurations that cannot be compiled: where and why, and an output that is not touched
graph() { # graph NODES: a model.json of one input and one weight
    cat <<END
{"ccc_model": 1, "name": "t", "symbols": {"T": [1, 16]}, "inputs": {"x": "bf16[T,64]"}, "weights": {"w": "bf16[64,64]"},
 "nodes": [$1], "outputs": {"y": "y"}}
END
}
bad() { # bad NAME: compile NAME.json
    echo old >out
    try ccc compile $1 -o out --target x86-64-v3
    kept out
}
graph '{"op": "matmul", "in": ["x", "w"], "out": "h"}, {"op": "cast", "in": ["h"], "to": "bf16", "out": "y"}' >good.json
try ccc compile good.json -o good.ccart --target x86-64-v3
try cccrt verify good.ccart
graph '{"op": "matmul", "in": ["x", "w"], "out": 7}' >type.json
graph '{"op": "convolve", "in": ["x", "w"], "out": "y"}' >op.json
graph '{"op": "add", "in": ["x", "y2"], "out": "y"}, {"op": "add", "in": ["x", "y"], "out": "y2"}' >cycle.json
graph '{"op": "add", "in": ["x", "w"], "out": "y"}' >shape.json
graph '{"op": "silu", "in": ["x"], "frob": 1, "out": "y"}' >attribute.json
graph '{"op": "silu", "in": ["x", "x"], "out": "y"}' >operands.json
graph '{"op": "silu", "in": ["x"], "out": "y"' >syntax.json
echo '{"ccc_model": 2}' >version.json
echo '[]' >list.json
: >empty.json
for name in type op cycle shape attribute operands syntax version list empty; do bad $name.json; done

# what a load program can make of a weight: scaled once, rounded once
two='{"op": "constant", "value": 2, "out": "c"}, {"op": "mul", "in": ["w", "c"], "out": "v"}'
product='{"op": "matmul", "in": ["x", "u"], "out": "y"}'
graph "$two, {\"op\": \"cast\", \"in\": [\"v\"], \"to\": \"bf16\", \"out\": \"u\"}, $product" >scaled.json
try ccc compile scaled.json -o good.ccart --target x86-64-v3,sm_90a --ptxas none
try cccrt verify good.ccart
graph "$two, {\"op\": \"mul\", \"in\": [\"c\", \"v\"], \"out\": \"t\"}, {\"op\": \"cast\", \"in\": [\"t\"], \"to\": \"bf16\", \"out\": \"u\"}, $product" >scaled_twice.json
graph "{\"op\": \"cast\", \"in\": [\"w\"], \"to\": \"e4m3\", \"out\": \"v\"}, {\"op\": \"cast\", \"in\": [\"v\"], \"to\": \"bf16\", \"out\": \"u\"}, $product" >rounded_twice.json
graph "{\"op\": \"cast\", \"in\": [\"w\"], \"to\": \"e4m3\", \"out\": \"u\"}, $product" >mixed.json
graph '{"op": "rope_table", "rotary": 16, "rows": 8, "theta": 10000.0, "out": "r"}, {"op": "cast", "in": ["r"], "to": "bf16", "out": "s"}, {"op": "add", "in": ["x", "s"], "out": "y"}' | sed 's/T,64/8,16/' >table.json
for name in scaled_twice rounded_twice mixed table; do bad $name.json; done
printf '%%x = input "x" : f32[2]\n' >nothing.ir
bad nothing.ir
bad nowhere.json
bad .

config() { # config EDITS...: a Hugging Face folder `hf` without weights
    rm -rf hf
    python3 $T/model.py hf "$@"
    rm hf/model.safetensors
}
config 'architectures=["MixtralForCausalLM"]'; bad hf
config 'num_local_experts=8'; bad hf
config 'sliding_window=4096'; bad hf
config 'rope_scaling={"rope_type": "yarn", "factor": 4.0}'; bad hf
config 'rope_scaling={"rope_type": "dynamic", "factor": 4.0}'; bad hf
config 'rope_scaling={"type": "su", "factor": 4.0}'; bad hf
config 'quantization_config={"quant_method": "gptq"}'; bad hf
config 'hidden_act="gelu"'; bad hf
config 'hidden_size="64"'; bad hf
config 'hidden_size=-64'; bad hf
config 'num_attention_heads=3'; bad hf
config 'num_key_value_heads=3'; bad hf
config 'vocab_size=0'; bad hf
config 'frobnication=1'; bad hf
try ccc import hf -o g.json --ignore-config-key frobnication
config 'rms_norm_eps=1e-6'
echo '{"architectures": ["LlamaForCausalLM"],' >hf/config.json; bad hf
rm hf/config.json; bad hf
head -c 100 /dev/zero >zero.gguf; bad zero.gguf
printf 'GGUF\003\0\0\0' >cut.gguf; bad cut.gguf
