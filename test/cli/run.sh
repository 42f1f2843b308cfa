# what a run can ask of an artifact, and of the machine
run="cccrt run $F/cpu.ccart --weights $F/model --device cpu"
try $run --tokens 5,6,7 --steps 3
try $run --tokens 5,6,7 --steps 3 --threads 1
try cccrt run $F/cpu.ccart --weights $F/model --tokens 5,6,7 --steps 3
echo '5 6,7' >ids
try $run --tokens @ids --steps 3
$run --tokens 5 --steps 61 | tr , '\n' | wc -l
try $run --tokens 5 --steps 64
try $run --tokens 101 --steps 1
try $run --tokens -1 --steps 1
try $run --tokens 1,99999999999 --steps 1
try $run --tokens 5,6,7,101 --steps 1
try $run --tokens $(seq -s, 1 40) --steps 2
try $run --tokens $(seq -s, 1 63) --steps 1
try $run --tokens $(seq -s, 1 64) --steps 1
try $run --tokens $(seq -s, 1 80) --steps 1
first=$($run --tokens 5,6,7 --steps 1)
try $run --tokens 5,6,7 --steps 9 --eos $first
try cccrt bench $F/cpu.ccart --weights $F/model --device cpu --context 100
try cccrt bench $F/cpu.ccart --weights $F/model --device cpu --batch 5 --context 10
bytes() { tr , '\n' | sed -n 's/.*"bytes":\([0-9]*\).*/\1/p' | tr '\n' ' '; echo; } # of each step, then of each of its kernels
cccrt bench $F/cpu.ccart --weights $F/model --device cpu --batch 1,2 --context 10 --steps 3 --kernels --repeats 1 --json | bytes
cccrt bench $F/cpu.ccart --weights $F/model --device cpu --context 10 --steps 3 --kernels --repeats 3 >out # on a CPU every kernel can be told
awk '/^decode/ { next } $1 + 0 > 0 { n++; if ($2 == "-" || $5 > 1000) bad++ } END { print n, "kernels,", bad + 0, "without a time that can be" }' out
try cccrt run $F/gpu.ccart --weights $F/model --tokens 1
try cccrt run $F/gpu.ccart --weights $F/model --tokens 1 --device cpu
try cccrt run $F/gpu.ccart --weights $F/model --tokens 1 --device cuda
try cccrt run $F/cpu.ccart --weights $F/model --tokens 1 --device cuda:1
try cccrt info $F/cpu.ccart
try cccrt info $F/cpu.ccart --device cpu --kv-blocks 4
try cccrt info $F/gpu.ccart
try cccrt info $F/gpu.ccart --device cpu
try cccrt info $F/cpu.ccart --device cuda
# a KV cache of fp8 has half of the bytes
ccc compile $F/model -o kv8.ccart --target x86-64-v3 --sizes 1,2 --max-num-batched-tokens 32 --max-num-seqs 4 --kv-cache-dtype fp8
try cccrt info kv8.ccart --device cpu --kv-blocks 1024
try cccrt run kv8.ccart --weights $F/model --device cpu --tokens 5,6,7 --steps 3
cccrt bench kv8.ccart --weights $F/model --device cpu --batch 1,2 --context 10 --steps 3 --kernels --repeats 1 --json | bytes
