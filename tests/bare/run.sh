#!/usr/bin/env bash
# Proves the promise of README on bare Debian 12: in a fresh minimal system, a clone of this repository sets itself up and does its job,
# for root and for a user with sudo; a user without sudo is told what to type. Needs root, debootstrap and the network.
#
#   tests/bare/run.sh [job [arguments]]      the job of ./x to run; default: demo
#
# Prints one PASS or FAIL line per case; exits 0 when all pass, 77 where it cannot run. The committed tree is what is tested. A failed
# case keeps its folder and says where.
set -euo pipefail

readonly REPO=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
readonly SUITE=bookworm
JOB=("$@")
if [[ ${#JOB[@]} == 0 ]]; then JOB=(demo); fi

skip() { echo "SKIP bare: $1"; exit 77; }
[[ $(id -u) == 0 ]] || skip "needs root"
command -v debootstrap >/dev/null || skip "debootstrap is not installed"
command -v git >/dev/null || skip "git is not installed"
unshare --mount --pid --fork true 2>/dev/null || skip "may not make namespaces"

WORK=$(mktemp -d "${TMPDIR:-/tmp}/lathe-bare-XXXXXX")
chmod 755 "$WORK"
FAILED=0
say() { printf '== %s (%s)\n' "$*" "$(date +%T)"; }

# The machine's own mirror of the suite, as its apt sources name it.
mirror() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk -v suite="$SUITE" '$2 == suite && !seen++ {print $1}'
}

# The machine's way to the network: names, proxies of apt and pip, extra certificates.
copy_network_settings() {
  local root=$1 file
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  for file in /etc/hosts /etc/pip.conf; do
    if [[ -f $file ]]; then cp "$file" "$root$file"; fi
  done
  for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
    if grep -qsiE '^[^/#]*Acquire::' "$file"; then cp "$file" "$root/etc/apt/apt.conf.d/"; fi
  done
  mkdir -p "$root/usr/local/share/ca-certificates"
  find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$root/usr/local/share/ca-certificates/" \;
}

# inside <root> <user> <command...>: runs a command in the system, in namespaces of its own, as CI would: no terminal, plain environment.
inside() {
  local root=$1 user=$2 name variables=()
  shift 2
  while IFS= read -r name; do
    variables+=("$name=${!name}")
  done < <(compgen -e | grep -E '^(https?_proxy|no_proxy|HTTPS?_PROXY|NO_PROXY|PIP_[A-Z_]+)$' || true)
  unshare --mount --pid --fork --kill-child bash -c '
    mount -t proc proc "$1/proc"
    mount -t tmpfs tmpfs "$1/dev/shm"
    exec chroot --userspec="$2:$2" "$1" "${@:3}"' bash "$root" "$user" \
    env -i "HOME=$(home "$user")" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 CI=true \
    "${variables[@]}" "$@" </dev/null
}

home() { if [[ $1 == root ]]; then echo /root; else echo "/home/$1"; fi; }

# system <name> <user>: a fresh copy of the base system with a clone in the user's home; prints its folder.
system() {
  local root=$WORK/$1 user=$2
  cp -a --reflink=auto "$WORK/base" "$root"
  if [[ $user != root ]]; then chroot "$root" useradd --create-home "$user"; fi
  git clone --quiet --no-hardlinks "$REPO" "$root$(home "$user")/lathe"
  chroot "$root" chown -R "$user:$user" "$(home "$user")/lathe"
  echo "$root"
}

# x <root> <user> <log> <arguments...>: runs ./x in the clone.
x() {
  local root=$1 user=$2 log=$3
  shift 3
  inside "$root" "$user" bash -c 'cd ~/lathe && exec ./x "$@"' bash "$@" >"$log" 2>&1
}

# verdict <root> <case> <status of the check> <log>
verdict() {
  if [[ $3 == 0 ]]; then
    echo "PASS $2"
    rm -rf --one-file-system "$1"
  else
    echo "FAIL $2: kept $1; the end of $4:"
    tail -n 30 "$4" | sed 's/^/    /'
    FAILED=1
  fi
}

case_no_rights() {
  local root log=$WORK/no-rights.log status=0
  root=$(system no-rights guest)
  x "$root" guest "$log" "${JOB[@]}" || status=$?
  [[ $status == 2 && $(grep -c 'apt-get install' "$log") == 1 && ! -e $root/home/guest/lathe/build ]]
  verdict "$root" "a user without sudo is told the one apt line, exit 2, nothing built" $? "$log"
}

# case_works <name> <user> <text>: the first run installs and works, the second installs nothing and works.
case_works() {
  local root=$WORK/$1 user=$2 log=$WORK/$1.log again=$WORK/$1-again.log status=0 start=$SECONDS
  x "$root" "$user" "$log" "${JOB[@]}" || status=$?
  echo "   first run: $((SECONDS - start)) s"
  if [[ $status == 0 ]]; then
    start=$SECONDS
    x "$root" "$user" "$again" "${JOB[@]}" || status=$?
    echo "   second run: $((SECONDS - start)) s"
    if grep -q '^== installing' "$again"; then
      echo "   the second run installed something again"
      status=1
    fi
    [[ -s $again && $status != 0 ]] && log=$again
  fi
  verdict "$root" "$3" "$status" "$log"
}

main() {
  local from
  from=$(mirror)
  [[ -n $from ]] || skip "the machine's apt sources name no mirror of $SUITE"
  say "debootstrap $SUITE into $WORK"
  debootstrap --variant=minbase "$SUITE" "$WORK/base" "$from" >"$WORK/debootstrap.log" 2>&1 ||
    { tail -n 20 "$WORK/debootstrap.log"; echo "FAIL debootstrap: kept $WORK"; exit 1; }
  copy_network_settings "$WORK/base"

  say "a user without sudo: ./x ${JOB[*]}"
  set +e
  case_no_rights

  say "root: ./x ${JOB[*]}"
  system as-root root >/dev/null
  case_works as-root root "root: ./x ${JOB[*]}, twice"

  say "a user with sudo: ./x ${JOB[*]}"
  system as-sudo dev >/dev/null
  inside "$WORK/as-sudo" root bash -c 'apt-get -q update && apt-get -q install -y --no-install-recommends sudo' >"$WORK/sudo.log" 2>&1
  echo 'dev ALL=(ALL) NOPASSWD: ALL' >"$WORK/as-sudo/etc/sudoers.d/dev"
  case_works as-sudo dev "a user with sudo: ./x ${JOB[*]}, twice"

  if [[ $FAILED == 0 ]]; then
    rm -rf --one-file-system "$WORK"
    echo "all passed"
  fi
  exit "$FAILED"
}

main
