#!/bin/sh
# The top README's program: readme.sh BUILD SOURCE CC [FLAGS]. Installs the build into an empty folder, compiles the README's C against what was
# installed, and runs it on a tiny model: it must find the token that `cccrt run` finds.
set -eu
build=$1 source=$2
shift 2
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cmake --install "$build" --prefix "$tmp" >/dev/null
sed -n '/^```c$/,/^```$/p' "$source/README.md" | sed '/^```/d' >"$tmp/example.c"
lib=$(dirname "$(find "$tmp" -name libcccrt.so)")
"$@" -Wall -Wextra -Werror "$tmp/example.c" -o "$tmp/example" -I"$tmp/include" -L"$lib" -lcccrt -Wl,-rpath,"$lib"
grep -q "^Version: " "$lib/pkgconfig/cccrt.pc"
if command -v pkg-config >/dev/null; then
    PKG_CONFIG_PATH=$lib/pkgconfig pkg-config --cflags --libs cccrt | grep -q -- "-lcccrt"
fi
"$tmp/bin/ccc" compile "$source/test/models/tiny" -o "$tmp/tiny.ccart" --target x86-64-v3 --sizes 1 --max-num-batched-tokens 16 --max-num-seqs 2 --cache-dir "$tmp/cache"
python3 "$source/test/cli/model.py" "$tmp/model"
: >"$tmp/libcuda.so.1" # no GPU is to be seen
export LD_LIBRARY_PATH="$tmp"
said=$("$tmp/example" "$tmp/tiny.ccart" "$tmp/model")
wanted=$("$tmp/bin/cccrt" run "$tmp/tiny.ccart" --weights "$tmp/model" --device cpu --tokens 1,2,3 --steps 1)
echo "the README's program says $said, cccrt run says $wanted"
[ "$said" = "$wanted" ]
if "$tmp/example" "$tmp/tiny.ccart" "$tmp/nowhere" 2>"$tmp/err"; then exit 1; fi
grep "cannot open" "$tmp/err"
