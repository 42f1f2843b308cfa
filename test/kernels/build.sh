#!/bin/bash
# Builds the gather, rows, elt, matvec and gemm templates with sample constants and hooks, the way codegen does: bitcode, constants,
# hooks, internalise, O3, PTX, ptxas. Prints registers; fails on a spill, local memory, an unresolved symbol or a ptxas remark. Then builds
# test/device/kernels_check beside the cubins: the program that runs them on a GPU.
# usage: build.sh [FOLDER, default .carry/kernels] [all|tune], or build.sh list, which only prints the samples     tune: also the grid of matvec shapes that `kernels_check tune` times
# needs clang-19, llvm-link-19, opt-19, llc-19, ptxas, and cuda.h for the program (CUDA_HOME, default /usr/local/cuda)
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$root/.carry/kernels}
what=${2:-all}
clang="clang-19 --target=nvptx64-nvidia-cuda -march=sm_90a -std=c17 -O2 -ffreestanding -nogpulib -fconvergent-functions -ffp-contract=off
    -Xclang -target-feature -Xclang +ptx83 -Xclang -disable-llvm-passes -Wall -Wextra -Werror -emit-llvm -c"

# build NAME SOURCE FLAGS SPECS SET WIDTH THREADS [MIN_BLOCKS]: one sample; its line goes to stdout, FAIL in it when it is bad
build() {
    local name=$1 src=$2 flags=$3 specs=$4 set=$5 width=$6 threads=$7 min=$8 t=$tmp/$1
    {
        echo 'target triple = "nvptx64-nvidia-cuda"'
        for c in $specs; do echo "@ccc_${c%=*} = constant i32 ${c#*=}"; done
    } > "$t.spec.ll"
    {
        $clang $flags -o "$t.k.bc" "$root/compiler/kernels/cuda/$src.c" &&
        $clang -DSET=$set -DWIDTH=$width -o "$t.h.bc" "$root/test/kernels/hooks.c" &&
        llvm-link-19 -S -o "$t.ll" "$t.spec.ll" "$t.k.bc" "$t.h.bc" &&
        sed -i 's/^!nvvm.annotations = !{/&!9000, !9001, /' "$t.ll" &&
        printf '!9000 = !{ptr @ccc_kernel, !"maxntidx", i32 %d%s}\n!9001 = !{ptr @ccc_kernel, !"grid_constant", !9002}\n!9002 = !{i32 1}\n' \
            $threads "${min:+, !\"minctasm\", i32 $min}" >> "$t.ll" &&
        opt-19 -mcpu=sm_90a -passes='internalize,default<O3>' -internalize-public-api-list=ccc_kernel -o "$t.o.bc" "$t.ll" &&
        llc-19 -O3 -mcpu=sm_90a -mattr=+ptx83 -o "$t.ptx" "$t.o.bc" &&
        ptxas -arch=sm_90a -v -o "$out/$name.cubin" "$t.ptx"
    } > "$t.log" 2>&1 || { cat "$t.log"; echo "FAIL $name: does not build"; return; }
    local bad= regs
    regs=$(sed -n 's/.*Used \([0-9]*\) registers.*/\1/p' "$t.log")
    grep -q ' 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' "$t.log" || bad="$bad spills or stack"
    grep -q '\.local' "$t.ptx" && bad="$bad .local"
    grep -qE '^[^/]*(call|\.extern \.(global|const|func))' "$t.ptx" && bad="$bad call or unresolved symbol"
    grep -qiE 'warning|C75' "$t.log" && bad="$bad ptxas remark"
    printf '%-34s %3s registers%s\n' "$name" "$regs" "${bad:+  FAIL:$bad}"
    rm -f "$t".*
}

# ---- samples: lines of arguments of build, | between them
emit() { local IFS='|'; echo "$*"; }
keep() { [ $1 = 16 ] && echo 1 || echo 2; } # for rows of 4096; longer ones are right with either
matvec() { # TOK NORM PAIR OUT_F32 ROWS LOADS WARPS SPLIT SET
    emit "matvec_$1_$2_$3_$4_$5_$6_$7_$8_s$9" matvec "" "TOK=$1 NORM=$2 PAIR=$3 OUT_F32=$4 ROWS=$5 LOADS=$6 WARPS=$7 SPLIT=$8 WHOLE=0 TURNS=1 KEEP=$(keep $7) BULK=0" $9 1 $((32 * $7))
}
whole() { # as matvec, for one token whose rows of w are in flight at once
    emit "matvec_$1_$2_$3_$4_$5_$6_$7_$8_w_s$9" matvec "" "TOK=$1 NORM=$2 PAIR=$3 OUT_F32=$4 ROWS=$5 LOADS=$6 WARPS=$7 SPLIT=$8 WHOLE=1 TURNS=1 KEEP=$(keep $7) BULK=0" $9 1 $((32 * $7))
}
bulk() { # as matvec, with the row by one copy; then WHOLE
    emit "matvec_$1_$2_$3_$4_$5_$6_$7_$8_b${10}_s$9" matvec "" "TOK=$1 NORM=$2 PAIR=$3 OUT_F32=$4 ROWS=$5 LOADS=$6 WARPS=$7 SPLIT=$8 WHOLE=${10} TURNS=1 KEEP=1 BULK=1" $9 1 $((32 * $7))
}
turns() { # as matvec, by turns; then WHOLE, TURNS, KEEP, and -DFP8=1 for FP8. The hooks of set 1 take more registers than a model's do
    emit "matvec${13:+8}_$1_$2_$3_$4_$5_$6_$7_$8_w${10}_t${11}_k${12}_s$9" matvec "${13:-}" "TOK=$1 NORM=$2 PAIR=$3 OUT_F32=$4 ROWS=$5 LOADS=$6 WARPS=$7 SPLIT=$8 WHOLE=${10} TURNS=${11} KEEP=${12} BULK=0" \
        $9 1 $((32 * $7)) $([ $2 = 1 ] && [ $9 = 0 ] && echo $((32 / $7)))
}
gemm() { # BN PAIR OUT_F32 SET
    emit "gemm_$1_$2_$3_s$4" gemm "-DBN=$1 -DPAIR=$2" "OUT_F32=$3" $4 8 384 1
}
gemm_t() { # BN PAIR OUT_F32 COLS SPLIT BLOCKS SET
    emit "gemmt_$1_$2_$3_$4_$5_$6_s$7" gemm "-DSWAP=1 -DBN=$1 -DPAIR=$2" "OUT_F32=$3 COLS=$4 SPLIT=$5 BLOCKS=$6" $7 1 $((128 * (($4 + 63) / 64) + 32)) 1
}
matvec8() { # the same of FP8
    emit "matvec8_$1_$2_$3_$4_$5_$6_$7_$8_s$9" matvec "-DFP8=1" "TOK=$1 NORM=$2 PAIR=$3 OUT_F32=$4 ROWS=$5 LOADS=$6 WARPS=$7 SPLIT=$8 WHOLE=0 TURNS=1 KEEP=$(keep $7) BULK=0" $9 1 $((32 * $7))
}
whole8() {
    emit "matvec8_$1_$2_$3_$4_$5_$6_$7_$8_w_s$9" matvec "-DFP8=1" "TOK=$1 NORM=$2 PAIR=$3 OUT_F32=$4 ROWS=$5 LOADS=$6 WARPS=$7 SPLIT=$8 WHOLE=1 TURNS=1 KEEP=$(keep $7) BULK=0" $9 1 $((32 * $7))
}
gemm8() {
    emit "gemm8_$1_$2_$3_s$4" gemm "-DFP8=1 -DBN=$1 -DPAIR=$2" "OUT_F32=$3" $4 8 384 1
}
gemm8_t() {
    emit "gemmt8_$1_$2_$3_$4_$5_$6_s$7" gemm "-DFP8=1 -DSWAP=1 -DBN=$1 -DPAIR=$2" "OUT_F32=$3 COLS=$4 SPLIT=$5 BLOCKS=$6" $7 1 $((128 * (($4 + 63) / 64) + 32)) 1
}
samples() {
    emit gather gather "" "" 0 8 128
    for c in 64 576 2048 4096 16384; do
        nt=32; while [ $nt -lt 512 ] && [ $((nt * 16)) -lt $c ]; do nt=$((nt * 2)); done
        set=1; [ $c -gt 8192 ] && set=0 # hooks.c has rows of 8192
        emit "rows_${nt}_${c}_0_s$set" rows "" "NT=$nt COLS=$c OUT_F32=0" $set 8 $nt
    done
    for nt in 64 128 512; do emit "rows_${nt}_4096_1_s0" rows "" "NT=$nt COLS=4096 OUT_F32=1" 0 8 $nt; done
    emit elt_8_0_s1 elt "-DWIDTH=8" "OUT_F32=0" 1 8 256
    emit elt_8_1_s0 elt "-DWIDTH=8" "OUT_F32=1" 0 8 256
    emit elt_1_0_s1 elt "-DWIDTH=1" "OUT_F32=0" 1 1 256
    for b in 256 224; do gemm $b 0 0 0; gemm $b 0 0 1; gemm $b 0 1 0; gemm $b 1 0 0; gemm $b 1 0 1; done
    for b in 8 16 32 64 128; do
        gemm_t $b 0 0 128 1 1 0; gemm_t $b 0 0 64 1 1 1; gemm_t $b 0 1 96 1 2 0; gemm_t $b 1 0 56 1 1 1; gemm_t $b 1 0 112 1 1 0
        gemm_t $b 0 0 64 2 1 0; [ $b = 128 ] || gemm_t $b 1 0 64 2 1 1; gemm_t $b 0 0 128 4 1 1; gemm_t $b 0 0 40 1 1 0; gemm_t $b 1 0 8 1 1 1
        gemm_t $b 0 0 96 2 2 1; [ $b = 128 ] || gemm_t $b 1 0 112 4 1 0; gemm_t $b 0 0 8 1 4 0; [ $b = 128 ] || gemm_t $b 0 0 256 1 1 1
    done
    for b in 8 64; do # of schedules/sm_90a.def
        gemm_t $b 0 0 64 1 2 1; gemm_t $b 0 0 64 2 2 1; gemm_t $b 1 0 56 1 2 1
        gemm8_t $b 0 0 64 1 1 0; gemm8_t $b 0 0 64 1 2 1; gemm8_t $b 0 0 64 2 2 1; gemm8_t $b 0 0 32 1 2 0
    done
    matvec 1 0 0 0 1 4 16 1 0; matvec 1 0 0 0 1 8 4 1 0; matvec 1 0 0 1 2 8 4 1 0; matvec 1 1 0 0 1 4 16 1 1
    matvec 1 1 1 0 1 4 4 1 1;  matvec 1 0 0 0 1 4 16 1 1; matvec 1 0 0 0 1 4 8 8 0; matvec 1 0 1 0 2 2 8 2 0
    matvec 2 1 0 0 2 4 8 1 1;  matvec 2 1 1 0 2 4 8 1 1; matvec 2 0 0 0 2 4 8 2 1; matvec 2 0 0 1 2 4 8 1 0
    matvec 4 1 0 0 2 4 8 1 1;  matvec 4 1 1 0 2 4 8 1 1; matvec 4 0 0 0 2 4 8 4 1; matvec 4 0 0 1 4 2 8 1 0
    matvec 8 1 0 0 2 4 8 1 1;  matvec 8 1 1 0 1 4 8 1 1; matvec 8 0 1 0 1 4 8 1 0; matvec 8 0 0 0 2 4 8 1 1; matvec 8 0 0 1 4 4 8 2 0
    for tok in 2 4 8; do matvec $tok 0 0 0 2 4 8 1 0; matvec $tok 0 1 0 2 4 8 1 0; done
    matvec 1 0 1 0 1 4 4 1 0; matvec 1 0 0 0 2 8 4 1 0
    matvec 1 1 1 0 2 3 4 1 1; matvec 1 0 0 0 1 2 8 8 1; matvec 1 0 1 0 1 1 8 8 0; matvec 1 0 0 0 1 2 8 4 0; matvec 1 1 0 1 4 3 4 1 1
    for set in 0 1; do
        bulk 1 0 0 0 1 3 16 1 $set 1; bulk 1 0 0 0 2 1 16 8 $set 1; bulk 1 0 0 1 2 2 8 1 $set 0; bulk 1 0 1 0 1 4 8 4 $set 0
        whole 1 1 0 0 2 3 4 1 $set; whole 1 1 1 0 1 3 8 1 $set; whole 1 1 0 0 2 2 8 2 $set; whole 1 1 1 0 2 2 8 4 $set; whole 1 1 0 1 4 3 4 1 $set
        whole 1 0 0 0 1 3 4 1 $set; whole 1 0 0 0 2 1 16 8 $set; whole 1 0 1 0 2 2 8 8 $set
        whole8 1 0 0 0 1 4 8 2 $set; whole8 1 1 1 2 1 4 8 2 $set
        turns 1 1 0 0 2 2 16 8 $set 1 6 1; turns 1 1 1 0 1 2 16 8 $set 1 5 1; turns 1 1 1 0 2 1 8 8 $set 1 3 1; turns 1 1 0 0 1 2 8 2 $set 0 3 2
        turns 1 0 0 0 1 2 8 8 $set 1 3 1; turns 1 0 0 0 2 3 4 1 $set 0 4 1; turns 1 0 1 0 1 3 4 1 $set 0 2 1; turns 1 1 0 0 4 2 16 16 $set 1 3 1; turns 1 1 0 0 1 2 8 4 $set 1 3 1
        turns 1 1 0 0 2 2 8 4 $set 1 3 2 -DFP8=1; turns 1 1 1 2 1 2 16 4 $set 1 5 1 -DFP8=1; turns 1 1 0 0 1 2 8 2 $set 0 3 2 -DFP8=1; turns 1 1 1 0 1 2 8 4 $set 1 7 2 -DFP8=1
    done
    turns 1 1 0 0 2 2 8 8 0 1 6 2
    # of schedules/sm_90a.def, one token
    turns 1 1 0 0 2 1 8 8 0 1 3 1; turns 1 1 0 0 4 2 16 8 0 1 2 1; turns 1 1 0 0 2 2 16 4 0 1 3 1 -DFP8=1; matvec 1 1 1 0 1 2 8 2 0
    matvec 1 0 0 0 1 4 16 2 0; matvec 1 0 0 0 2 2 16 8 1; whole8 1 0 0 0 1 2 4 4 0; whole8 1 0 1 2 1 1 8 8 0; whole8 1 0 0 0 1 2 16 16 1
    emit rows_256_4096_2_s1 rows "" "NT=256 COLS=4096 OUT_F32=2" 1 8 256
    for b in 256 224; do gemm8 $b 0 0 0; gemm8 $b 0 2 1; gemm8 $b 1 2 1; done
    for b in 8 16 32 64 128; do
        gemm8_t $b 0 0 128 1 1 0; gemm8_t $b 0 1 48 1 2 0; gemm8_t $b 0 0 64 2 1 1; gemm8_t $b 1 2 56 1 1 1; gemm8_t $b 1 0 112 1 1 0
        [ $b = 128 ] || gemm8_t $b 1 2 64 2 1 1
    done
    matvec8 1 0 0 0 1 4 4 2 0; matvec8 1 0 0 1 1 4 8 8 0; matvec8 1 1 0 0 1 4 4 2 1; matvec8 1 1 1 2 1 4 4 2 1; matvec8 1 0 0 0 2 4 8 1 1
    matvec8 1 0 0 0 2 2 8 4 1; matvec8 1 0 0 0 2 4 8 8 1; matvec8 1 0 1 2 1 2 8 4 0
    matvec8 2 1 0 0 2 2 8 1 1; matvec8 2 1 1 2 2 4 8 1 1; matvec8 2 0 0 0 2 2 8 1 0; matvec8 2 0 0 1 2 4 8 2 0
    if [ "$what" = tune ]; then
        for rows in 1 2 4; do for loads in 2 4 8; do for warps in 4 8 16; do for split in 1 2 4; do
            [ $((rows * loads)) -le 16 ] && matvec8 1 0 0 0 $rows $loads $warps $split 0
        done; done; done; done
        for rows in 1 2; do for loads in 4 8 16; do for warps in 4 8 16; do for split in 1 2; do
            [ $((rows * loads)) -le 16 ] && matvec 1 0 0 0 $rows $loads $warps $split 0
        done; done; done; done
        for tok in 2 4 8; do for rows in 1 2 4; do for loads in 2 4 8; do for warps in 4 8; do
            [ $((rows * loads)) -le 16 ] && matvec $tok 0 0 0 $rows $loads $warps 1 0
        done; done; done; done
    fi
}

if [ "$out" = list ]; then samples | sort -u; exit; fi
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
mkdir -p "$out" && rm -f "$out"/*.cubin "$out/list" || exit 1
export -f build
export clang root tmp out
samples | sort -u > "$out/list"
tr '\n' '\0' < "$out/list" | xargs -0 -P 2 -I{} bash -c 'IFS="|" read -r a b c d e f g h <<< "$1"; build "$a" "$b" "$c" "$d" "$e" "$f" "$g" "$h"' _ {} | tee "$tmp/report"
gcc -std=gnu17 -O2 -ffp-contract=off -Wall -Wextra -Werror -I"${CUDA_HOME:-/usr/local/cuda}/include" -o "$out/kernels_check" "$root/test/device/kernels_check.c" -ldl -lm || echo "FAIL kernels_check: does not build" | tee -a "$tmp/report"
if grep -q FAIL "$tmp/report"; then echo "FAIL"; exit 1; fi
echo "PASS: $(wc -l < "$tmp/report") samples, no spill, no local memory; run on a GPU: $out/kernels_check"
