#!/bin/sh
# Golden tests: golden.sh [--update] BIN_DIR FOLDER
# The first line of FOLDER/NAME.ir or NAME.json is "; run: COMMAND", for example "; run: ccc opt --pass=dce -". The command's
# program is taken from BIN_DIR; its standard input is the file with that line left empty, so line numbers are those of the file.
# Standard output must be NAME.out, standard error NAME.err (no file: empty), and it must fail if and only if there is a NAME.err.
# --update writes what came instead of comparing.
set -u
update=no
if [ "${1-}" = --update ]; then
    update=yes
    shift
fi
[ $# -eq 2 ] || { echo "usage: golden.sh [--update] BIN_DIR FOLDER" >&2; exit 2; }
bin=$(cd "$1" && pwd) || exit 2
cd "$2" || exit 2
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
LC_ALL=C
PATH=$bin:$PATH
export LC_ALL PATH
count=0
failed=0

# settle GOT WANTED: writes or compares one expectation; an empty one has no file
settle() {
    if [ $update = yes ]; then
        if [ -s "$1" ]; then cp "$1" "$2"; else rm -f "$2"; fi
    elif [ -e "$2" ]; then
        diff -u "$2" "$1"
    else
        diff -u /dev/null "$1"
    fi
}

for file in *.ir *.json; do
    [ -e "$file" ] || continue
    name=${file%.*}
    count=$((count + 1))
    command=$(sed -n '1s/^; run: //p' "$file")
    if [ -z "$command" ]; then
        echo "$file: the first line is not '; run: COMMAND'"
        failed=$((failed + 1))
        continue
    fi
    sed '1s/.*//' "$file" | sh -c "$command" >"$tmp/out" 2>"$tmp/err"
    status=$?
    good=yes
    if [ -s "$tmp/err" ]; then [ $status -ne 0 ] || good=no; else [ $status -eq 0 ] || good=no; fi
    [ $good = yes ] || echo "$file: exit status $status does not fit the presence of error messages"
    settle "$tmp/out" "$name.out" || good=no
    settle "$tmp/err" "$name.err" || good=no
    [ $good = yes ] || { echo "FAILED $file: $command"; failed=$((failed + 1)); }
done
echo "$count golden tests, $failed failed"
[ $count -gt 0 ] && [ $failed -eq 0 ]
