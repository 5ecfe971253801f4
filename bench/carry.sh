#!/usr/bin/env bash
# Collects what a GPU machine needs into build/carry (programs stripped, the kernels that are timed as a bundle, NVRTC compressed for what
# tests draw) and prints what it weighs with the tree. Fails above 64 MiB, the most that is carried.
# The Python package travels with the operators for PyTorch, where they were built; its extension module is that of the build's Python,
# and of each --module FILE (_lathe.cpython-312-x86_64-linux-gnu.so, say, built by that Python).
# usage: bench/carry.sh [--build DIR] [--arch sm_90a,...] [--no-nvrtc] [--module FILE]...
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."

readonly LIMIT=$((64 << 20))
readonly PROGRAMS=(lathe lathe-compile-worker lathe-gpu-tests lathe-bench-gpu)
readonly CARRY=build/carry
BUILD=build
ARCH=sm_90a
NVRTC=1
MODULES=()

while [[ $# -gt 0 ]]; do
  case $1 in
    --build) BUILD=$2; shift ;;
    --arch) ARCH=$2; shift ;;
    --no-nvrtc) NVRTC=0 ;;
    --module) MODULES+=("$2"); shift ;;
    *) printf 'usage: bench/carry.sh [--build DIR] [--arch sm_90a,...] [--no-nvrtc] [--module FILE]...\n' >&2; exit 2 ;;
  esac
  shift
done

die() { printf 'carry.sh: %s\n' "$1" >&2; exit 1; }

# needs_glibc_alone <program>
needs_glibc_alone() {
  local library
  while read -r library; do
    case $library in
      libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | ld-linux-*) ;;
      *) die "$1 needs $library: only glibc may be needed, a GPU machine has nothing else for it" ;;
    esac
  done < <(objdump -p "$1" | awk '$1 == "NEEDED" { print $2 }')
}

# The NVRTC in use and its builtins beside it.
nvrtc_libraries() {
  local main=${LATHE_NVRTC:-}
  if [[ -z $main ]]; then main=$(ls -d .venv/lib/python3*/site-packages/nvidia/cu1*/lib/libnvrtc.so.* 2>/dev/null | grep -v '\.alt\.' | head -n1); fi
  [[ -e $main ]] || die "NVRTC is not here: set LATHE_NVRTC, or pass --no-nvrtc to use the GPU machine's own"
  printf '%s\n' "$main" "$(dirname "$(readlink -f "$main")")"/libnvrtc-builtins.so.*
}

mkdir -p "$CARRY/bin" "$CARRY/lib"
for program in "${PROGRAMS[@]}"; do
  [[ -x $BUILD/bin/$program ]] || die "$BUILD/bin/$program is not built: ./x build"
  strip -o "$CARRY/bin/$program" "$BUILD/bin/$program"
  needs_glibc_alone "$CARRY/bin/$program"
done

# What PyTorch needs anyway is allowed here beside glibc: the C++ runtime, and PyTorch itself.
rm -rf "$CARRY/python"
if [[ -e $BUILD/lib/liblathe_torch.so ]]; then
  package=$CARRY/python/lathe
  mkdir -p "$package/lib"
  (cd python/lathe && find . -name '*.py') | while read -r file; do install -D -m 644 "python/lathe/$file" "$package/$file"; done
  for library in liblathe.so.0 liblathe_torch.so; do strip --strip-unneeded -o "$package/lib/$library" "$BUILD/lib/$library"; done
  for module in "$BUILD"/python/lathe/_lathe*.so "${MODULES[@]}"; do strip --strip-unneeded -o "$package/$(basename "$module")" "$module"; done
else
  printf 'carry.sh: %s/lib/liblathe_torch.so is not built (PyTorch was missing): no rows and no tests through PyTorch\n' "$BUILD" >&2
fi

libraries=
if [[ $NVRTC == 1 ]]; then
  libraries=$(nvrtc_libraries)
  # Lathe itself would take a toolkit's first: then what is timed would come from another compiler than what the tests check.
  LATHE_NVRTC=$(realpath -s "$(head -n1 <<<"$libraries")")
  export LATHE_NVRTC
fi
bench/gauntlet --list-specs >"$CARRY/specs.txt"
rm -rf "$CARRY/bundle"
"$BUILD/bin/lathe" warm --specs "$CARRY/specs.txt" --arch "$ARCH" --out "$CARRY/bundle"

if [[ $NVRTC == 1 ]]; then
  while read -r library; do
    packed=$CARRY/lib/$(basename "$library").xz
    if [[ ! $packed -nt $library ]]; then  # slow, so only when it changed
      xz -6 -T0 -c "$library" >"$packed.tmp"
      mv "$packed.tmp" "$packed"
    fi
  done <<<"$libraries"
else
  rm -f "$CARRY"/lib/*
fi

tree=$(git ls-files -z --cached --others --exclude-standard | du -cb --files0-from=- | awk 'END { print $1 }')
carried=$(find "$CARRY" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')
find "$CARRY" -type f -printf '%10s  %p\n' | sort -k2
printf '%10s  the tree\n%10s  in all, of %s\n' "$tree" "$((tree + carried))" "$LIMIT"
[[ $((tree + carried)) -le $LIMIT ]] || die "that is more than $LIMIT bytes"
