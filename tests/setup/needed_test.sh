#!/usr/bin/env bash
# needed_test.sh LIBRARY: fails when the library needs anything but the C library, the compiler's own run time and, in such a build, its
# sanitizers: no CUDA, PyTorch, Python, Boost or libstdc++.
set -euo pipefail

needed=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
echo "$1 needs:" $needed
grep -qx 'libc\.so\..*' <<<"$needed" || { echo "FAIL: libc is not among them: was this read right?"; exit 1; }
if extra=$(grep -vxE '(libc|libm|libdl|librt|libpthread|libgcc_s|libasan|libubsan|libtsan|ld-linux-x86-64|ld-linux-aarch64)\.so\.[0-9]+' \
  <<<"$needed"); then
  echo "FAIL: not allowed:" $extra
  exit 1
fi
