#!/usr/bin/env bash
# pip install of the source tree into a fresh environment, as a user does it; then README's Python start and the command, away from the
# tree; then the PyTorch operators, where <python> has PyTorch; then `lathe doctor` and a checked run where no header of any library lies.
# Exits 77 (skipped) where the index of packages cannot be reached, or no folder can be hidden. usage: wheel_test.sh <python> <source tree>
set -euo pipefail

readonly PYTHON=$1 SOURCE=$2
WORK=$(mktemp -d "${TMPDIR:-/tmp}/lathe-wheel-test-XXXXXX")
trap 'status=$?; if [[ $status == 0 || $status == 77 ]]; then rm -rf "$WORK"; else echo "kept $WORK"; fi' EXIT

"$PYTHON" -m venv "$WORK/venv"
PIP=("$WORK/venv/bin/python" -m pip --disable-pip-version-check --no-input -q)
if ! "${PIP[@]}" download --no-deps -d "$WORK/probe" 'scikit-build-core>=0.11' numpy >"$WORK/probe.log" 2>&1; then
  echo "no index of Python packages: skipped"
  exit 77
fi
cd "$WORK"
export LATHE_CACHE_DIR=$WORK/cache PYTHONSAFEPATH=1
# first_snippet <page>: README has only one in Python.
first_snippet() {
  sed -n '/^```python$/,/^```$/{/^```python$/d;/^```$/q;p}' "$1"
}
first_snippet "$SOURCE/README.md" >start.py
from_nothing_to_a_result() {
  "${PIP[@]}" install "$SOURCE"
  venv/bin/python start.py
}
exec 3>&1 4>&2
spent=$({ TIMEFORMAT='%R %U %S'; time from_nothing_to_a_result >&3 2>&4; } 2>&1)
# The clock of a busy machine says little; two cores that do nothing else need half of the processor time at least.
awk '{ printf "pip install and README: %d s, %d s of processor time\n", $1, $2 + $3; exit $2 + $3 > 2 * 300 }' <<<"$spent"
"${PIP[@]}" check
test "$(venv/bin/lathe --version)" == "$(venv/bin/python -m lathe --version)"
venv/bin/lathe env
package=$(venv/bin/python -c 'import lathe, os; print(os.path.dirname(lathe.__file__))')
ls -l "$package/bin" "$package/lib"
for file in py.typed _lathe.pyi bin/lathe bin/lathe-compile-worker; do
  test -s "$package/$file" -o "$file" == py.typed -a -e "$package/$file"
done
# Nothing but the C and C++ run-time libraries is needed of the machine.
needed=$(readelf -d "$package"/_lathe*.so "$package"/lib/*.so* "$package"/bin/* | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | sort -u)
echo "$needed"
! grep -vE '^(lib(lathe|c|m|dl|gcc_s|stdc\+\+)\.so|ld-linux)' <<<"$needed"

if torch=$("$PYTHON" -c 'import torch, os; print(os.path.dirname(os.path.dirname(torch.__file__)))' 2>/dev/null); then
  # As docs/pytorch.md says: PyTorch first, then a build that sees it.
  "$PYTHON" -m venv with-torch
  echo "$torch" >"$(echo with-torch/lib/python3*/site-packages)/torch.pth"
  with-torch/bin/python -m pip --disable-pip-version-check --no-input -q install 'scikit-build-core>=0.11' 'pybind11>=3'
  with-torch/bin/python -m pip --disable-pip-version-check --no-input -q install --no-build-isolation --no-deps "$SOURCE"
  first_snippet "$SOURCE/docs/pytorch.md" >torch_start.py
  with-torch/bin/python torch_start.py
  library=$(with-torch/bin/python -c 'import lathe.torch; print(lathe.torch.library())')
  [[ $library == "$WORK"/with-torch/* ]]
  ! readelf -d "$library" | grep -E 'NEEDED.*(python|cuda|torch_cuda)'
  echo "the operators work from a wheel"
else
  echo "no PyTorch: its operators were not tried from a wheel"
fi

# Kernels for the host include nothing, so a compiler without a single header serves.
HIDDEN=(unshare --mount --map-root-user)
if ! "${HIDDEN[@]}" true; then
  echo "no mount namespaces: the doctor without headers was not tried; all else works"
  exit 77
fi
cat >without_headers.sh <<'END'
set -eu
for folder in /usr/include /usr/local/include /usr/local/cuda*/include /usr/lib/gcc/*/*/include; do
  if [ -d "$folder" ]; then mount -t tmpfs none "$folder"; fi
done
if echo '#include <stdint.h>' | c++ -fsyntax-only -x c++ - 2>/dev/null; then echo "the headers are still there"; exit 1; fi
export LATHE_CACHE_DIR=$PWD/another-cache
venv/bin/lathe doctor --target host
venv/bin/lathe run --check --spec '{"op":"attention","group_size":2,"mask":"causal"}' --batch '{"num_kv_heads":2,"qo_lens":[1,5],"kv_lens":[40,17]}'
END
"${HIDDEN[@]}" bash without_headers.sh
echo "the wheel works"
