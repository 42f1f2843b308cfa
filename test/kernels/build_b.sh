#!/bin/bash
# Builds the attention, cache, argmax and load templates with sample constants, the way codegen does: clang -> bitcode, constants get
# their values, internalise, O3, PTX, ptxas. Prints registers, and fails on spills, local memory or a warning.
# usage: build_b.sh [FOLDER for the cubins, default .carry/attn]      (needs clang-19, opt-19, llc-19, llvm-link-19, ptxas)
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$root/.carry/attn}
mkdir -p "$out" || exit 1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0

clang="clang-19 --target=nvptx64-nvidia-cuda -march=sm_90a -std=c17 -O2 -ffreestanding -nogpulib -fconvergent-functions -ffp-contract=off
    -Xclang -target-feature -Xclang +ptx83 -Xclang -disable-llvm-passes -Wall -Wextra -Werror -emit-llvm -c"

# build NAME SOURCE THREADS MIN_BLOCKS [CONSTANT=VALUE]...
build() {
    local name=$quant$1 src=$2 threads=$3 min=$4 source flags= set=$(( ${quant:+2} + 0 )); shift 4
    source=$src
    case $src in *_fp8) source=${source%_fp8} flags=-DFP8=1 ;; *_bulk) source=${source%_bulk} flags=-DBULK=1 ;; esac
    case $source in attn_decode_rope) source=attn_decode flags="$flags -DROPE=1" ;; esac
    if [ ! -f "$tmp/$src.bc" ]; then
        $clang $flags -o "$tmp/$src.bc" "$root/compiler/kernels/cuda/$source.c" || { failed=1; return; }
    fi
    [ -f "$tmp/hooks$set.bc" ] || $clang -DSET=$set -DWIDTH=8 -o "$tmp/hooks$set.bc" "$root/test/kernels/hooks.c" || { failed=1; return; }
    { echo 'target triple = "nvptx64-nvidia-cuda"'
      for c in "$@" OUT_F32=$set; do echo "@ccc_${c%=*} = constant i32 ${c#*=}"; done
    } > "$tmp/spec.ll"
    llvm-link-19 -S -o "$tmp/l.ll" "$tmp/spec.ll" "$tmp/$src.bc" "$tmp/hooks$set.bc" 2>"$tmp/err" &&
    sed -i 's/^!nvvm.annotations = !{/&!9000, !9001, !9002, /' "$tmp/l.ll" &&
    printf '!9000 = !{ptr @ccc_kernel, !"maxntidx", i32 %d}\n!9001 = !{ptr @ccc_kernel, !"minctasm", i32 %d}\n!9002 = !{ptr @ccc_kernel, !"grid_constant", !9003}\n!9003 = !{i32 1}\n' \
        "$threads" "$min" >> "$tmp/l.ll" &&
    opt-19 -mcpu=sm_90a -passes='internalize,default<O3>' -internalize-public-api-list=ccc_kernel -o "$tmp/o.bc" "$tmp/l.ll" 2>>"$tmp/err" &&
    llc-19 -O3 -mcpu=sm_90a -mattr=+ptx83 -o "$out/$name.ptx" "$tmp/o.bc" 2>>"$tmp/err" &&
    ptxas -arch=sm_90a -v -o "$out/$name.cubin" "$out/$name.ptx" > "$tmp/log" 2>&1 || { cat "$tmp/err" "$tmp/log"; echo "FAIL $name: does not build"; failed=1; return; }
    local regs spill stack
    regs=$(sed -n 's/.*Used \([0-9]*\) registers.*/\1/p' "$tmp/log")
    stack=$(sed -n 's/ *\([0-9]*\) bytes stack frame.*/\1/p' "$tmp/log")
    spill=$(sed -n 's/.*stack frame, \([0-9]*\) bytes spill stores.*/\1/p' "$tmp/log")
    local bad=
    [ "$spill" = 0 ] && [ "$stack" = 0 ] || bad=" spills or stack"
    grep -q '\.local' "$out/$name.ptx" && bad="$bad .local"
    grep -qE '^[^/]*(call|\.extern \.(global|const|func))' "$out/$name.ptx" && bad="$bad call or unresolved symbol"
    grep -qiE 'warning|C75' "$tmp/log" && bad="$bad warning"
    printf '%-28s %3s registers, stack %s, spills %s, %6s bytes%s\n' "$name" "$regs" "$stack" "$spill" "$(stat -c %s "$out/$name.cubin")" "${bad:+  FAIL:$bad}"
    [ -n "$bad" ] && failed=1
    [ "${KEEP_PTX:-0}" = 1 ] || rm -f "$out/$name.ptx"
}

# quant SAMPLE...: the same with a hook that makes the result e4m3
quant() { quant=q_; "$@"; quant=; }
quant=
# fp8 SAMPLE...: the same with a cache of e4m3
fp8() { fp8=fp8_; "$@"; fp8=; }
fp8=
# joined SAMPLE...: of attn_decode, with the parts of rows that cross blocks left to attn_join, which is the same for both kinds of cache
joined() { joined=1; "$@"; joined=; }
joined=
# rope_kv LAYOUT BLOCK HQ HKV D ROTARY DO_Q DO_K DO_KV K_ROTATED (2: and ROWS_FP8)
rope() { build "${fp8}rope_$1_$2_$3_$4_$5_$6_$7$8$9${10}" "rope_kv${fp8:+_fp8}" 128 1 LAYOUT=$1 BLOCK=$2 HQ=$3 HKV=$4 D=$5 ROTARY=$6 DO_Q=$7 DO_K=$8 DO_KV=$9 K_ROTATED=$(( ${10} > 0 )) \
    ${fp8:+ROWS_FP8=$(( ${10} == 2 ))}; }
# attention LAYOUT BLOCK HQ HKV D
attn() { build "${fp8}attn_$1_$2_$3_$4_$5" "attention${fp8:+_fp8}" 256 $(( $5 <= 96 || $5 == 128 ? 2 : 1 )) LAYOUT=$1 BLOCK=$2 HQ=$3 HKV=$4 D=$5; }
# attn_decode BLOCK HQ HKV D [CLUSTER WARPS]
decode() { build "${fp8}decode_$1_$2_$3_$4${5:+_c$5w$6}${joined:+_joined}" "attn_decode${fp8:+_fp8}" $((32 * ${6:-8})) 1 BLOCK=$1 HQ=$2 HKV=$3 D=$4 CLUSTER=${5:-1} WARPS=${6:-8} JOINED=$(( ${joined:+1} + 0 )); }
# attn_join BLOCK HQ HKV D
join() { build "join_$1_$2_$3_$4" attn_join 64 1 BLOCK=$1 HQ=$2 HKV=$3 D=$4; }
# attn_decode_rope BLOCK HQ HKV D [CLUSTER WARPS]; attn_check compares it with the rope and decode of the same constants
fused() { build "${fp8}fused_$1_$2_$3_$4${5:+_c$5w$6}${joined:+_joined}" "attn_decode_rope${fp8:+_fp8}" $((32 * ${6:-8})) 1 BLOCK=$1 HQ=$2 HKV=$3 D=$4 CLUSTER=${5:-1} WARPS=${6:-8} JOINED=$(( ${joined:+1} + 0 )); }
# load SRC DST HALF
load() { build "load_$1_$2_$3" load 256 1 SRC=$1 DST=$2 HALF=$3; }

while read -r line; do case $line in ''|'#'*) ;; *) eval "$line" ;; esac; done < "$root/test/kernels/samples_b"
[ $failed = 0 ] && echo "PASS: every sample builds, without spills and local memory" || echo "FAIL"
exit $failed
