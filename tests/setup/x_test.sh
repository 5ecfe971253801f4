#!/usr/bin/env bash
# ./x on machines that lack this or that: root or not, sudo or not, online or not. dpkg-query, apt-get, sudo, id and cmake are recorders
# that append to a log; everything else is real. Prints PASS or FAIL per case; a failed run keeps its folder.
set -uo pipefail

readonly REPO=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
WORK=$(mktemp -d "${TMPDIR:-/tmp}/lathe-x-test-XXXXXX")
FAILED=0
STATUS=0

# machine <name>: an empty tree with ./x and a PATH of recorders. Later settings: $M/uid, $M/installed, $M/has-sudo, $M/apt-fails.
machine() {
  M=$WORK/$1
  mkdir -p "$M/bin" "$M/tree"
  cp -r "$REPO/x" "$REPO/requirements" "$M/tree/"
  mkdir "$M/tree/.venv"  # as if the wheels of the Python module were there
  sha256sum <"$REPO/requirements/python.txt" >"$M/tree/.venv/.stamp-python"
  sha256sum <"$REPO/requirements/torch.txt" >"$M/tree/.venv/.stamp-torch"
  local tool
  for tool in bash env dirname basename readlink sha256sum grep sed head nproc mkdir rm cat find true; do
    ln -s "$(type -P "$tool")" "$M/bin/$tool"
  done
  echo 0 >"$M/uid"
  touch "$M/log" "$M/installed"
  recorder id 'cat "$M/uid"'
  recorder dpkg-query 'grep -qx -e all -e "${@: -1}" "$M/installed" && printf installed'
  recorder apt-get 'echo "apt-get DEBIAN_FRONTEND=$DEBIAN_FRONTEND $*" >>"$M/log"
    if [[ -e $M/apt-fails ]]; then exit 100; fi
    if [[ " $* " == *" install "* ]]; then echo all >"$M/installed"; fi'
  recorder cmake 'echo "cmake $*" >>"$M/log"'
  recorder ninja ''
  recorder c++ ''
}

recorder() {
  printf '#!%s\nM=%q\n%s\n' "$(command -v bash)" "$M" "$2" >"$M/bin/$1"
  chmod +x "$M/bin/$1"
}

# x <arguments...>: runs ./x there; leaves STATUS and $M/out.
x() {
  env -i HOME="$M" PATH="$M/bin" LATHE_NVRTC="${NVRTC-/some/libnvrtc.so}" PIP_CONFIG_FILE=/dev/null PIP_INDEX_URL=http://127.0.0.1:9/ \
    PIP_RETRIES=0 LATHE_IGNORE_TOOLKIT=1 "$M/tree/x" "$@" >"$M/out" 2>&1 </dev/null
  STATUS=$?
}

# check <what> <command...>
check() {
  if "${@:2}"; then
    echo "PASS $1"
  else
    echo "FAIL $1; status $STATUS; log and output:"
    cat "$M/log" "$M/out" | sed 's/^/    /'
    FAILED=1
  fi
}

refused() { [[ $STATUS == 2 && ! -s $M/log && $(grep -c 'apt-get install' "$M/out") == 1 ]] && grep 'apt-get install' "$M/out" | grep -q ' ninja-build '; }
logged() { grep -qE -- "$1" "$M/log"; }
said() { grep -qF -- "$1" "$M/out"; }

machine no-rights
echo 1000 >"$M/uid"
x build
check "no root, no sudo: the apt line, exit 2, nothing built" refused

machine sudo-refuses
echo 1000 >"$M/uid"
recorder sudo 'exit 1'
x test
check "sudo refuses: the apt line, exit 2, nothing built" refused

machine root
x build
check "root: exit 0" [ "$STATUS" == 0 ]
check "root: installs without questions and waits for locks" \
  logged '^apt-get DEBIAN_FRONTEND=noninteractive .*DPkg::Lock::Timeout=[1-9].* install -y .*cmake'
check "root: then builds" logged '^cmake --build build'
: >"$M/log"
x build
check "second run: installs nothing" [ "$STATUS$(grep -c apt-get "$M/log")" == 00 ]

machine sudo
echo 1000 >"$M/uid"
recorder sudo 'if [[ $1 == -n ]]; then shift; fi; echo "sudo $1" >>"$M/log"; exec "$@"'
x build
check "sudo: installs through it" logged '^sudo env'
check "sudo: then builds as the user" logged '^cmake --build build'

machine apt-fails
touch "$M/apt-fails"
x build
check "apt-get fails: says so, exit 2, nothing built" eval '[[ $STATUS == 2 ]] && said "could not install" && ! logged "^cmake"'

machine no-install
x build --no-install
check "--no-install: installs nothing, says what is missing, builds" \
  eval '[[ $STATUS == 0 ]] && ! logged apt-get && said "these Debian packages are missing" && logged "^cmake --build"'

if [[ -x /usr/bin/python3 ]] && /usr/bin/python3 -c 'import ensurepip' 2>/dev/null; then
  machine offline
  echo all >"$M/installed"
  rm "$M/tree/.venv/.stamp-python"
  NVRTC='' x build
  check "no index: goes on without NVRTC and the Python module, and says so" \
    eval '[[ $STATUS == 0 ]] && said "NVRTC is not here" && said "the Python module is left out" && logged "^cmake --build"'
fi

machine unknown
x frobnicate
check "an unknown job: usage, exit 2" eval '[[ $STATUS == 2 ]] && said "usage: ./x"'

if [[ $FAILED == 0 ]]; then rm -rf "$WORK"; else echo "kept $WORK"; fi
exit "$FAILED"
