# compiling: the same bytes by every way, outputs, and what stands in the way
small="--max-num-batched-tokens 32 --max-num-seqs 4 --sizes 1,2 --target x86-64-v3"
same() { cmp "$1" "$2" && echo "$1 and $2 are the same"; }
try ccc import $M/tiny -o g.json --max-num-batched-tokens 32 --max-num-seqs 4
try ccc import g.json -o g.ir --text
try ccc import g.ir -o h.json
same g.json h.json
try ccc compile g.json -o a.ccart $small
try ccc compile g.ir -o b.ccart $small --no-cache -j 1
same a.ccart b.ccart
ccc compile - -o - $small <g.json >c.ccart
try ccc compile g.json -o x.ccart $small --max-model-len 64
same a.ccart c.ccart
try ccc compile $M/tiny -o d.ccart $small --cache-dir elsewhere
cmp a.ccart d.ccart >differ; echo "from a graph and from its folder: cmp says $?"
ccc compile $M/tiny -o f.ccart $small --max-model-len 64
cmp f.ccart $F/cpu.ccart && echo the same again
ccc cache gc --max-size 1T --cache-dir elsewhere | sed "s/, [0-9]* bytes/, N bytes/"
try ccc cache list --cache-dir nowhere
ccc cache list --cache-dir elsewhere | tail -1 | sed 's/[0-9]* bytes/N bytes/'
ccc cache verify --cache-dir elsewhere | tail -1 | sed 's/[0-9]* bytes/N bytes/'
ccc cache clear --cache-dir elsewhere | sed 's/[0-9]* bytes/N bytes/'
ccc cache list --cache-dir elsewhere
try ccc compile $M/tiny -o missing/a.ccart $small
try ccc compile $M/tiny -o e.ccart --target sm_90a --ptxas /nowhere/ptxas
kept e.ccart
try ccc compile $M/tiny -o e.ccart $small --dump /proc/nowhere
kept e.ccart
mkdir dumps
try ccc compile $M/tiny -o d.ccart $small --no-cache --dump dumps
(cd dumps && ls -- *.ir)
ls dumps | sed 's/.*[.]//' | sort -u | tr '\n' ' '
ccc opt --pass=dce dumps/001-*.ir >again.ir && cmp again.ir dumps/001-*.ir && echo a dump is an input
try ccc compile $M/tiny -o d.ccart $small --explain
try ccc compile $M/tiny -o e.ccart --target x86-64-v3 --max-model-len 1024
kept e.ccart
try ccc compile $M/tiny -o e.ccart --target x86-64-v3 --sizes 64 --max-num-seqs 8
kept e.ccart
ccc inspect d.ccart | grep -v ' name$\|^  .*[0-9] B' | sed 's/[0-9]* bytes/N bytes/' | grep '^[a-z]'
ccc inspect d.ccart --json | python3 -c 'import json, sys; print(*json.load(sys.stdin))'
echo '%x = input "x" : f32[2,3] %y = silu %x : f32[2,3] return y = %y' >s.ir
try ccc eval s.ir
try ccc eval s.ir --json
try ccc opt s.ir --pass=dce
