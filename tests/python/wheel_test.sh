#!/usr/bin/env bash
# pip install of the source tree into a fresh environment, as a user does it; then README's Python start and the command, away from the
# tree. Exits 77 (skipped) where the index cannot be reached. usage: wheel_test.sh <python> <source tree>
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
started=$SECONDS
"${PIP[@]}" install "$SOURCE"
echo "pip install: $((SECONDS - started)) s"
"${PIP[@]}" check

cd "$WORK"
export LATHE_CACHE_DIR=$WORK/cache PYTHONSAFEPATH=1
# Only one snippet of README is Python.
sed -n '/^```python$/,/^```$/p' "$SOURCE/README.md" | grep -v '^```' >start.py
venv/bin/python start.py
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
echo "the wheel works"
