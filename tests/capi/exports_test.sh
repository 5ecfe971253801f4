#!/usr/bin/env bash
# exports_test.sh LIBRARY HEADER: the library's names in C are those that the header declares, and all else that it gives away is
# lathe's own, in C++.
set -euo pipefail

exported=$(nm -D --defined-only --format=posix "$1" | cut -d' ' -f1 | sort)
declared=$(grep -oE '\blathe_[a-z_]+\(' "$2" | tr -d '(' | sort -u)
in_c=$(grep -E '^lathe_' <<<"$exported")
if ! diff <(echo "$declared") <(echo "$in_c"); then
  echo "FAIL: < is declared in $2, > is exported"
  exit 1
fi
if others=$(grep -vE '^lathe_' <<<"$exported" | c++filt | grep -vE '(^|for |[ &*(<])lathe::'); then
  echo "FAIL: exported too:"
  head -n 20 <<<"$others"
  exit 1
fi
echo "$(wc -l <<<"$in_c") functions of C, $(grep -cvE '^lathe_' <<<"$exported") names of C++"
