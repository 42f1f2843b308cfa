#!/bin/bash
# Runs the attention, cache, argmax and load templates on the CPU, thread by thread (emu.h), against the references of
# test/device/attn_check.c. Slow: small models. usage: emu_b.sh [only names that contain this]      EMU_SM: multiprocessors, default 13
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
only=${1:-}

build() { # NAME SOURCE ARGS [CONSTANT=VALUE]...
    local name=$quant$fp8$1 src=$2 args=$3; shift 3
    case $only in chain | *fused* | _c* | q_* | *joined*) ;; *) case $name in *"$only"*) ;; *) return 0 ;; esac ;; esac # those compare several
    { echo "#include \"$root/test/kernels/emu.h\""
      [ -z "$fp8" ] || echo "#define FP8 1"
      [ "$args" != attention_rope_args ] || echo "#define ROPE 1"
      [ "$name" != read_bulk ] || echo "#define BULK 1"
      case $src in att*)
          echo "#define SET ${quant:+2} + 0"
          echo "#define WIDTH 8"
          echo "#include \"$root/test/kernels/hooks.c\""
          set -- "$@" OUT_F32=$(( ${quant:+2} + 0 )) ;;
      esac
      echo "#include \"$root/compiler/kernels/cuda/$src.c\""
      for c in "$@"; do echo "const i32 ccc_${c%=*} = ${c#*=};"; done
      echo "static $args emu_args;"
      echo "static void emu_run(void) { ccc_kernel(emu_args); }"
      echo "void emu_launch(int gx, int gy, int threads, int cluster, const void *args);"
      echo "void emu_launch(int gx, int gy, int threads, int cluster, const void *args) { memcpy(&emu_args, args, sizeof emu_args); emu_clusters(gx, gy, threads, cluster, emu_run); }"
    } > "$tmp/k.c"
    clang-19 -std=gnu17 -O2 -march=x86-64-v3 -ffp-contract=off -Wno-psabi -fPIC -shared -Wl,-Bsymbolic -o "$tmp/$name.so" "$tmp/k.c" -lm
}
quant() { quant=q_; "$@"; quant=; } # the same with a hook that makes the result e4m3
quant=
fp8() { fp8=fp8_; "$@"; fp8=; } # the same with a cache of e4m3
fp8=
joined() { joined=1; "$@"; joined=; } # with the parts of rows that cross blocks left to attn_join
joined=
rope() { build "rope_$1_$2_$3_$4_$5_$6_$7$8$9${10}" rope_kv rope_kv_args LAYOUT=$1 BLOCK=$2 HQ=$3 HKV=$4 D=$5 ROTARY=$6 DO_Q=$7 DO_K=$8 DO_KV=$9 K_ROTATED=$(( ${10} > 0 )) \
    ${fp8:+ROWS_FP8=$(( ${10} == 2 ))}; }
attn() { build "attn_$1_$2_$3_$4_$5" attention attention_args LAYOUT=$1 BLOCK=$2 HQ=$3 HKV=$4 D=$5; }
decode() { build "decode_$1_$2_$3_$4${5:+_c$5w$6}${joined:+_joined}" attn_decode attention_args BLOCK=$1 HQ=$2 HKV=$3 D=$4 CLUSTER=${5:-1} WARPS=${6:-8} JOINED=$(( ${joined:+1} + 0 )); }
fused() { build "fused_$1_$2_$3_$4${5:+_c$5w$6}${joined:+_joined}" attn_decode attention_rope_args BLOCK=$1 HQ=$2 HKV=$3 D=$4 CLUSTER=${5:-1} WARPS=${6:-8} JOINED=$(( ${joined:+1} + 0 )); }
join() { build "join_$1_$2_$3_$4" attn_join attention_args BLOCK=$1 HQ=$2 HKV=$3 D=$4; }
load() { build "load_$1_$2_$3" load load_args SRC=$1 DST=$2 HALF=$3; }

rope 3 16 4 2 128 128 1 0 1 0
rope 3 64 9 3 64 64 1 1 1 0
rope 3 32 9 3 64 64 1 0 1 0
rope 3 16 12 1 64 64 1 0 1 0
rope 3 32 4 4 72 72 1 0 1 0
rope 1 64 8 2 64 32 1 1 1 0
rope 2 16 3 1 16 12 1 1 1 0
rope 3 16 4 2 128 128 0 0 1 1
attn 3 16 4 1 128
attn 1 32 2 2 64
attn 2 64 3 1 72
attn 3 16 5 1 16
attn 1 16 8 1 256
attn 3 32 3 1 120
decode 16 4 2 128
decode 32 9 3 64
decode 64 16 1 128
decode 16 12 1 64
decode 16 4 2 128 8 8
decode 16 4 2 128 2 8
decode 16 12 1 64 8 4
decode 16 4 2 128 8 4
joined decode 16 4 2 128
joined decode 16 12 1 64
join 16 4 2 128
join 16 12 1 64
joined fused 16 12 1 64 1 4
joined decode 16 12 1 64 1 4
fp8 joined decode 16 4 2 128
quant joined decode 16 4 2 128
quant join 16 4 2 128
fused 16 4 2 128
fused 16 4 2 128 8 8
fused 16 4 2 128 2 8
fused 16 4 2 128 8 4
fused 16 12 1 64 8 4
fused 32 9 3 64
fused 16 12 1 64
fp8 rope 3 16 4 2 128 128 1 0 1 0
fp8 rope 1 64 8 2 64 32 1 1 1 0
fp8 rope 2 16 3 1 16 12 1 1 1 0
fp8 rope 3 32 4 4 80 80 1 0 1 0
fp8 rope 3 16 4 2 128 0 0 0 1 2
fp8 rope 1 16 3 3 48 48 0 0 1 1
fp8 attn 3 16 4 1 128
fp8 attn 1 32 2 2 64
fp8 attn 2 64 3 1 80
fp8 attn 3 16 5 1 16
fp8 attn 3 16 8 1 256
fp8 rope 3 32 9 3 64 64 1 0 1 0
fp8 rope 3 16 12 1 64 64 1 0 1 0
fp8 decode 16 4 2 128
fp8 decode 32 9 3 64
fp8 decode 64 16 1 128
fp8 decode 16 12 1 64
fp8 fused 16 4 2 128
fp8 fused 32 9 3 64
fp8 fused 16 12 1 64
fp8 decode 16 4 2 128 8 4
fp8 fused 16 4 2 128 8 4
fp8 decode 16 12 1 64 8 4
fp8 fused 16 12 1 64 8 4
fp8 decode 32 9 3 64 8 8
fp8 fused 32 9 3 64 8 8
quant decode 16 4 2 128
quant decode 16 4 2 128 8 4
quant decode 16 12 1 64
quant fused 16 4 2 128 8 8
fused 16 4 2 128 2 8
quant fused 32 9 3 64
quant attn 3 16 4 1 128
quant attn 1 32 2 2 64
quant fp8 attn 2 64 3 1 80
quant fp8 decode 16 4 2 128
quant fp8 fused 16 4 2 128 8 4
build argmax argmax argmax_args
load 0 3 0
load 1 3 0
load 2 3 32
load 3 1 64
load 4 3 0
load 5 1 0
load 14 3 32
load 15 1 0
load 16 1 0
build rope_table rope_table rope_table_args
build advance advance advance_args
build read read read_args
build read_bulk read read_args
gcc -std=gnu17 -O3 -march=x86-64-v3 -Wall -Wextra -Wshadow -Wno-unused-function -DEMULATE -o "$tmp/check" "$root/test/device/attn_check.c" -ldl -lm
"$tmp/check" "$tmp" check "$only"
