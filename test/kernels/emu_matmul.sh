#!/bin/bash
# Runs the gemm and matvec samples of build.sh on the CPU, thread by thread (emu_gemm.h, emu_matvec.h), against the references of
# test/device/kernels_check.c, in small shapes. usage: emu_matmul.sh [only names that match this]
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cuda=${CUDA_HOME:-/usr/local/cuda}/include
build() { # NAME SOURCE FLAGS SPECS SET WIDTH: a line of build.sh's list
    {
        echo "#define SET $5"
        echo "#define WIDTH $6"
        for d in $3; do d=${d#-D}; echo "#define ${d%=*} ${d#*=}"; done
        echo "#include \"$root/test/kernels/emu_$2.h\""
        echo "#include \"$root/test/kernels/hooks.c\""
        echo "#include \"$root/compiler/kernels/cuda/$2.c\""
        for c in $4; do echo "const i32 ccc_${c%=*} = ${c#*=};"; done
        echo "static $2_args emu_args;"
        echo "static void emu_run(void) { ccc_kernel(emu_args); }"
        echo "void emu_launch(int gx, int gy, int threads, int cluster, const void *args);"
        echo "void emu_launch(int gx, int gy, int threads, int cluster, const void *args) { memcpy(&emu_args, args, sizeof emu_args); emu_clusters(gx, gy, threads, cluster, emu_run); }"
    } > "$tmp/$1.c"
    clang-19 -std=gnu17 -O2 -march=x86-64-v3 -ffp-contract=off -Wno-psabi -Wno-pass-failed -fPIC -shared -Wl,-Bsymbolic -o "$tmp/$1.cubin" "$tmp/$1.c" -lm || echo "FAIL $1: does not build"
}
export -f build
export root tmp
"$root/test/kernels/build.sh" list | grep -E '^(gemm|matvec)' | grep -E "${1:-.}" > "$tmp/list"
tr '\n' '\0' < "$tmp/list" | xargs -0 -P 2 -I{} bash -c 'IFS="|" read -r a b c d e f g h <<< "$1"; build "$a" "$b" "$c" "$d" "$e" "$f"' _ {}
gcc -std=gnu17 -O1 -Wall -Wextra -Wno-unused-parameter -fPIC -shared -I"$cuda" -Wl,-soname,libcuda.so.1 -o "$tmp/libcuda.so.1" "$root/test/kernels/emu_cuda.c" -ldl &&
gcc -std=gnu17 -O2 -ffp-contract=off -Wall -Wextra -I"$cuda" -o "$tmp/kernels_check" "$root/test/device/kernels_check.c" -ldl -lm &&
LD_LIBRARY_PATH=$tmp "$tmp/kernels_check" check small
