#!/usr/bin/env bash
# A source build without headers names the packages that have them, in one line. Headers are hidden from CMake: /usr/include is passed over,
# and what is there after all is linked into a folder of the test.
# usage: packages_test.sh <source tree>
set -euo pipefail

readonly SOURCE=$1
WORK=$(mktemp -d "${TMPDIR:-/tmp}/lathe-packages-test-XXXXXX")
trap 'rm -rf "$WORK"' EXIT

# configure <options...>: the line that names packages.
configure() {
  rm -rf "$WORK/build"
  if cmake -S "$SOURCE" -B "$WORK/build" -DCMAKE_IGNORE_PATH=/usr/include -DCMAKE_PREFIX_PATH="$WORK/prefix" \
    -DLATHE_PYTHON=OFF -DLATHE_TESTS=OFF -DLATHE_BENCH=OFF "$@" >"$WORK/log" 2>&1; then
    echo "configured, with headers missing" >&2
    return 1
  fi
  grep -o 'apt-get install .*' "$WORK/log" || { cat "$WORK/log" >&2; return 1; }
}

# expect <line> <options...>
expect() {
  local wanted="apt-get install $1" seen
  shift
  seen=$(configure "$@")
  [[ $seen == "$wanted" ]] || { printf 'says     %s\nexpected %s\n' "$seen" "$wanted"; exit 1; }
}

mkdir -p "$WORK/prefix/include"
pip=(-DSKBUILD=2 -DLATHE_PYTHON=ON)
no_python=("${pip[@]}" -DPython_INCLUDE_DIR="$WORK/none")
all="libfmt-dev nlohmann-json3-dev libcli11-dev libxxhash-dev libspdlog-dev libkainjow-mustache-dev libboost-context-dev"
expect "$all"
expect "libpython3-dev $all" "${no_python[@]}"
expect "$all libgtest-dev libbenchmark-dev" -DLATHE_TESTS=ON -DLATHE_BENCH=ON
for header in nlohmann CLI xxhash.h spdlog kainjow boost; do
  ln -s "/usr/include/$header" "$WORK/prefix/include/$header"
done
expect libfmt-dev
ln -s /usr/include/fmt "$WORK/prefix/include/fmt"
expect libpython3-dev "${no_python[@]}"
echo "named in one line"
