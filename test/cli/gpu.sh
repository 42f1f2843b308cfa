# a GPU, played by the fake driver (test/fake_cuda), which runs no kernel: what it must be able to do
export LD_LIBRARY_PATH=$bin/../fake
run="cccrt run $F/gpu.ccart --weights $F/model --tokens 1,2,3 --steps 2"
try cccrt info $F/gpu.ccart
try cccrt run $F/cpu.ccart --weights $F/model --tokens 1,2,3
try $run --device cuda:1
$run >/dev/null && echo it runs
$run --build-all --json | sed 's/.*"graphs":\([0-9]*\).*/\1 graphs/'
$run --cudagraph-mode none --json | sed 's/.*"graphs":\([0-9]*\).*/\1 graphs/'
bytes() { tr , '\n' | sed -n 's/.*"bytes":\([0-9]*\).*/\1/p' | tr '\n' ' '; echo; } # of each step, then of each of its kernels
cccrt bench $F/gpu.ccart --weights $F/model --batch 1,2 --context 10 --steps 3 --kernels --repeats 1 --json | bytes
with() { # with SETTING: the driver plays another device
    echo "with $1:"
    (export "FAKE_CUDA_$1"; try $run)
}
with CC=80
with CC=100
with DRIVER=12020
with MEMORY=50000
with FAIL=40:999 | sed 's/cannot .*: fake error/cannot ...: fake error/'
