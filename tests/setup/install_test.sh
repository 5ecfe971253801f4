#!/usr/bin/env bash
# cmake --install into a prefix that is then moved; README's C++ start built against it by find_package and by pkg-config, and run.
# usage: install_test.sh <build folder> <source tree>
set -euo pipefail

readonly BUILD=$1 SOURCE=$2
command -v pkg-config >/dev/null || { echo "pkg-config is not installed; this test builds programs with it (apt-get install pkg-config)" >&2; exit 1; }
WORK=$(mktemp -d "${TMPDIR:-/tmp}/lathe-install-test-XXXXXX")
trap 'status=$?; if [[ $status == 0 ]]; then rm -rf "$WORK"; else echo "kept $WORK"; fi' EXIT

cmake --install "$BUILD" --component development --prefix "$WORK/first" >"$WORK/install.log"
mv "$WORK/first" "$WORK/prefix"
export LATHE_CACHE_DIR=$WORK/cache

cmake -S "$SOURCE/tests/setup/consumer" -B "$WORK/cmake" -DCMAKE_PREFIX_PATH="$WORK/prefix" -DSTART="$SOURCE/examples/start.cc" >"$WORK/cmake.log"
cmake --build "$WORK/cmake" >>"$WORK/cmake.log"
"$WORK/cmake/start"
echo "find_package: works"

pc=$(dirname "$(find "$WORK/prefix" -name lathe.pc)")
libraries=$(dirname "$pc")
# shellcheck disable=SC2046
c++ "$SOURCE/examples/start.cc" -o "$WORK/start" $(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs lathe) -Wl,-rpath,"$libraries"
"$WORK/start"
echo "pkg-config: works"
# shellcheck disable=SC2046
cc -std=c11 -Wall -Werror "$SOURCE/examples/start.c" -o "$WORK/start_c" $(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs lathe-c) \
  -Wl,-rpath,"$libraries"
"$WORK/start_c"
echo "C: works"
"$WORK/prefix/bin/lathe" --version
if grep -rIl "$SOURCE\|$BUILD" "$WORK/prefix"; then
  echo "these files name the build's places"
  exit 1
fi
