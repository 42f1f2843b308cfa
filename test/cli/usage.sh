# wrong usage is explained in one line on standard error; the exit status is 2
try ccc frobnicate
try ccc import
try ccc import $M/tiny
try ccc import $M/tiny -o
try ccc import $M/tiny $M/tiny -o g.json
try ccc import $M/tiny -o g.json --kv-layout xyz
try ccc import $M/tiny -o g.json --kv-cache-dtype fp8_e5m2
try ccc compile
try ccc compile $M/tiny
try ccc compile --frobnicate
try ccc compile $M/tiny -o a.ccart -O4
try ccc compile $M/tiny -o a.ccart -Ox
try ccc compile $M/tiny -o a.ccart --explain=yes
try ccc compile $M/tiny -o a.ccart --max-num-seqs 0
try ccc compile $M/tiny -o a.ccart --max-num-seqs 1e3
try ccc compile $M/tiny -o a.ccart --cache maybe
try ccc compile $M/tiny -o a.ccart --kv-block-size 17
try ccc compile $M/tiny -o a.ccart --target sm_10
try ccc compile $M/tiny -o a.ccart --target ''
try ccc compile $M/tiny -o a.ccart --sizes 1,zwei
try ccc compile $M/tiny -o a.ccart --sizes 0
try ccc compile $M/tiny -o a.ccart --outputs tokens,pictures
try ccc compile $M/tiny -o a.ccart --disable-passes fuse_everything
kept a.ccart
try ccc opt
try ccc opt --pass=frobnicate
try ccc opt --pipeline=frobnicate
try ccc opt --pass=dce --cap x
try ccc eval
try ccc eval a.ir --seed x
try ccc inspect
try ccc cache
try ccc cache frobnicate
try ccc cache gc
try ccc cache gc --max-size 12x
try ccc cache list --max-size 1K
try cccrt frobnicate
try cccrt info
try cccrt info a b
try cccrt info $F/cpu.ccart --device tpu
try cccrt info $F/cpu.ccart --device cuda:
try cccrt info $F/cpu.ccart --kv-blocks -1
try cccrt verify
try cccrt prepare $F/cpu.ccart
try cccrt prepare $F/cpu.ccart --weights random:1
try cccrt run
try cccrt run $F/cpu.ccart
try cccrt run $F/cpu.ccart --weights random:1
try cccrt run $F/cpu.ccart --weights random:1 --tokens 1 --steps 0
try cccrt run $F/cpu.ccart --weights random:1 --tokens 1 --steps many
try cccrt run $F/cpu.ccart --weights random:1 --tokens 1 --threads -1
try cccrt run $F/cpu.ccart --weights random:1 --tokens 1 --cudagraph-mode half
try cccrt run $F/cpu.ccart --weights random: --tokens 1
try cccrt run $F/cpu.ccart --weights random:1 --tokens 1,x
try cccrt run $F/cpu.ccart --weights random:1 --tokens ''
try cccrt run $F/cpu.ccart --weights random:1 --tokens @nowhere
try cccrt bench $F/cpu.ccart
try cccrt bench $F/cpu.ccart --weights random:1 --batch 0
try cccrt bench $F/cpu.ccart --weights random:1 --context 0
