#!/bin/sh
# Who may include whom: layers.sh ROOT. A folder uses its own headers and those that its row names; of other people's libraries, those at the
# end of its row (the C library is free to all). A name in quotes is looked up from the file's own folder, so nothing comes in through an
# include path; one that is not there is made by the build, for the same folder.
set -uf
cd "$1" || exit 2
libraries="clang-c cuda jansson llvm llvm-c nccl xxhash zstd"
found=$(mktemp) || exit 2
trap 'rm -f "$found"' EXIT

allowed() { # allowed NAME PATTERNS...
    what=$1
    shift
    for pattern; do
        case $what in $pattern) return 0 ;; esac
    done
    return 1
}

layer() { # layer FOLDER "OUR HEADERS" "LIBRARIES' HEADERS"
    find "$1" \( -name '*.c' -o -name '*.h' -o -name '*.def' \) -exec grep -HnE '^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]' {} + |
        sed -E 's/^([^:]+):([0-9]+):[^<"]*(["<])([^">]+).*/\1 \2 \3 \4/' | while read -r file line mark name; do
        if [ "$mark" = '"' ]; then
            header=$(realpath -m --relative-to=. "$(dirname "$file")/$name")
            [ -e "$header" ] && ! allowed "$header" "$1/*" $2 && echo "$file:$line: a file of $1/ may not include $header"
        else
            allowed "${name%%[./]*}" $libraries && ! allowed "$name" $3 && echo "$file:$line: a file of $1/ may not include <$name>"
        fi
    done >>"$found"
}

layer ir "runtime/ccc_err.h" "jansson.h xxhash.h"
layer passes "ir/*" "xxhash.h"
layer cache "ir/base.h" "xxhash.h"
layer compiler "ir/* passes/* cache/* runtime/ccc_err.h runtime/ccart.h runtime/ccart_codec.h runtime/tensors.h" "llvm/* llvm-c/* jansson.h xxhash.h"
layer runtime "" "zstd.h xxhash.h cuda.h"
layer tools "ir/* passes/* cache/cache.h compiler/ccc.h runtime/cccrt.h runtime/ccc_err.h" "jansson.h xxhash.h"
cat "$found"
[ ! -s "$found" ]
