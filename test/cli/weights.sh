# weights that do not fit the artifact, and a model's own files that disagree with it
good="cccrt run $F/cpu.ccart --tokens 1,2,3 --steps 4 --device cpu"
bad() { # bad EDITS...
    rm -rf m
    python3 $T/model.py m "$@"
    try $good --weights m
}
norm=model.layers.0.input_layernorm.weight
q=model.layers.0.self_attn.q_proj.weight
try $good --weights $F/model
try $good --weights $F/model/model.safetensors
bad -$norm
bad model.layers.1.input_layernorm.weight=64
bad $q=32,64
bad $q=64
bad overlap
bad rope_theta=500000.0
bad rms_norm_eps=1e-06
bad 'rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}'
bad tie_word_embeddings=false
rm -rf m; cp -r $F/model m
head -c 20000 $F/model/model.safetensors >m/model.safetensors; try $good --weights m
echo hello >m/model.safetensors; try $good --weights m
rm m/model.safetensors; try $good --weights m
try $good --weights nowhere
try $good --weights $F/cpu.ccart
echo hello >w.ccw; try $good --weights w.ccw
try cccrt prepare $F/cpu.ccart --weights m --device cpu -o out
kept out
try cccrt prepare $F/cpu.ccart --weights $F/model --device cpu -o nowhere/w.ccw
try cccrt prepare $F/cpu.ccart --weights $F/model --device cpu -o w.ccw
try $good --weights w.ccw
try $good --weights random:7
try cccrt prepare $F/cpu.ccart --weights random:7 --device cpu -o r.ccw
try $good --weights r.ccw
head -c 4000 w.ccw >cut.ccw; try $good --weights cut.ccw
ccc compile $M/tiny-bias -o other.ccart --target x86-64-v3 --sizes 1
try cccrt run other.ccart --tokens 1,2,3 --device cpu --weights w.ccw
