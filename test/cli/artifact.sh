# artifacts that are cut off, changed, or something else
flip() { # flip FILE OFFSET: another bit pattern in one byte
    old=$(od -An -tu1 -j "$2" -N1 "$1" | tr -d ' ')
    printf "\\$(printf '%03o' $((old ^ 64)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}
size=$(wc -c <$F/cpu.ccart)
: >empty
echo hello, world: this is long enough to be looked at twice, is it not >foreign
head -c 40 $F/cpu.ccart >header
head -c $((size / 2)) $F/cpu.ccart >half
head -c $((size - 1)) $F/cpu.ccart >short
cat $F/cpu.ccart empty foreign >long
for part in 3 9 40 70 200 $((size / 2)) $((size - 1)); do
    cp $F/cpu.ccart flipped.$part
    flip flipped.$part $part
done
rename() { mv "$1" "$2"; }
rename flipped.$((size / 2)) flipped.middle
rename flipped.$((size - 1)) flipped.last
{
    try cccrt verify $F/cpu.ccart
    try cccrt verify $F/gpu.ccart
    for file in nowhere . empty foreign header half short long flipped.3 flipped.9 flipped.40 flipped.70 flipped.200 flipped.middle flipped.last; do
        try cccrt verify $file
    done
    try cccrt info half
    try cccrt info half --json
    try ccc inspect half
    try ccc inspect half --json
    try cccrt run half --weights random:1 --tokens 1 --device cpu
} | sed 's/[0-9]\{5,\}/N/g' # sizes
echo old >w.ccw
cccrt prepare half --weights random:1 --device cpu -o w.ccw 2>/dev/null || echo it failed
kept w.ccw
