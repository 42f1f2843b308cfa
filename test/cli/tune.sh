# candidates, their times on a GPU that the fake driver plays, and a schedule made of times
tiny="$M/tiny --max-num-batched-tokens 32 --max-num-seqs 4 --sizes 1,2,4 --max-model-len 64 --ptxas none"
try ccc tune $tiny -o t.ccart --tokens 1,4 --candidates 3
ccc tune $tiny -o again.ccart --tokens 1,4 --candidates 3 -j 1 --no-cache && cmp t.ccart again.ccart && echo the same bytes
ccc inspect t.ccart | grep -E '^ +(decode|mixed|read) |tune.tokens'
shapes() { sed -E 's/^.*(matvec|gemm)/\1/; s/ (rows|bn)=[^#]*/ /' | sort | uniq -c; }
ccc inspect t.ccart | grep 'tune\.[0-9]' | shapes
try ccc tune $M/tiny
try ccc tune $tiny -o x.ccart --tokens 1,x
try ccc tune $tiny -o x.ccart --tokens 5
try ccc tune $tiny -o x.ccart --candidates 1
try ccc tune $tiny -o x.ccart --target x86-64-v3
try ccc tune $tiny -o x.ccart --batch-invariant true
try ccc tune $tiny -o x.ccart --apply r.json
kept x.ccart

try cccrt tune
try cccrt tune t.ccart --in-steps 16
try cccrt tune t.ccart --repeats 0
try cccrt tune t.ccart -o r.json
kept r.json
(
    export LD_LIBRARY_PATH=$bin/../fake
    try cccrt tune $F/gpu.ccart -o r.json
    try cccrt tune t.ccart -o nowhere/r.json
    cccrt tune t.ccart -o r.json --repeats 1 --in-steps 2 | sed -E 's/ *[0-9.]+ +[0-9]+ +[0-9.]+% +[0-9.-]+  /  /; s/ <- best//; s/[0-9.]+ ms/N ms/g; s/ceiling .*/ceiling N/; s/(rows|bn)=[^#]*/.. /' | sort | uniq -c
    FAKE_CUDA_FAIL=300:999 cccrt tune t.ccart -o half.json 2>&1 | sed 's/cannot .*: fake error/cannot ...: fake error/'
    kept half.json; kept half.json.tmp
)
python3 -c 'import json; r = json.load(open("r.json")); print(r["tune"], r["target"], len(r["candidates"]), sum(c["step_us"] is not None for c in r["candidates"]), sorted(r["candidates"][0]))'
ccc tune --apply r.json >s1.def 2>log && ccc tune --apply r.json 2>/dev/null | cmp - s1.def && grep -c : log

cat >times.json <<'END'
{"tune": 1, "target": "sm_90a", "candidates": [
{"row": "matvec bf16 N=64 K=160 pair=0 T=1..1 rows=1 loads=1 warps=4 split=1 turns=1 # by rule", "tokens": 1, "count": 1, "us": 5.0},
{"row": "matvec bf16 N=64 K=160 pair=0 T=1..1 rows=2 loads=1 warps=8 split=1 turns=1", "tokens": 1, "count": 1, "us": 4.0},
{"row": "matvec bf16 N=160 K=64 pair=1 T=1..1 rows=1 loads=1 warps=4 split=1 turns=1 # by rule", "tokens": 1, "count": 1, "us": 5.0},
{"row": "matvec bf16 N=160 K=64 pair=1 T=1..1 rows=2 loads=1 warps=8 split=1 turns=1", "tokens": 1, "count": 1, "us": 4.99}]}
END
ccc tune --apply times.json -o new.def 2>/dev/null && ccc tune --apply times.json 2>/dev/null | cmp - new.def && echo a new file begins as the built-in one
echo 'target sm_90a' >s.def
try ccc tune --apply times.json -o s.def
cat s.def
try ccc tune --apply times.json -o s.def
ccc compile $tiny -o with.ccart --target sm_90a --schedule s.def && ccc inspect with.ccart | grep -c 'ROWS=2 LOADS=1 WARPS=8 SPLIT=1'
ccc compile $tiny -o without.ccart --target sm_90a && ccc inspect without.ccart | grep -c 'ROWS=2 LOADS=1 WARPS=8 SPLIT=1'
try ccc tune --apply nowhere.json
echo old >bad.def
try ccc tune --apply times.json -o bad.def
kept bad.def
echo 'matvec bf16 N=64 K=160 pair=0 T=1..1 rows=3 loads=1 warps=8 split=1 turns=1' | cat s.def - >bad.def
try ccc compile $tiny -o x.ccart --target sm_90a --schedule bad.def
try ccc compile $tiny -o x.ccart --target sm_90a --schedule nowhere.def
kept x.ccart
