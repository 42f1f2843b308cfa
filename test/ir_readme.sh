#!/bin/sh
# The examples of ir/README.md are true: ir_readme.sh IRTOOL README. The text form prints as it stands there, and model.json
# gives the same graph but for the names of two values and the group.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
awk '/^```/ { if (inside) inside = 0; else { inside = 1; n++ }; next } inside { print > (dir "/" n) }' dir="$tmp" "$2"
grep -v '^;' "$tmp/1" >"$tmp/want"
"$1" print <"$tmp/1" | diff -u "$tmp/want" -
"$1" print <"$tmp/2" >"$tmp/from_json"
sed -e '/^fact/d; /^group/d; s/ @1//; s/%3/%h/g; s/%4/%a/g; s/%up/%layers.0.up/g' "$tmp/want" | diff -u - "$tmp/from_json"
