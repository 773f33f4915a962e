#!/bin/sh
# install.sh install|uninstall: gam on a node, in the tree at $DESTDIR (the node's own where that is empty). For busybox's sh too.
#
# Installs, and lists in /etc/gam/installed:
#   $PREFIX/bin/gam and containerd-shim-gam-v2, by rename: managers that run go on with the build they have;
#   /etc/gam/config.toml, unless there is one;
#   units of systemd, unless $DESTDIR has no /etc/systemd/system; none is enabled;
#   the runtime "gam" in containerd's configuration, unless that has it: see `runtime` below.
# Again and after an interruption it does what is left to do. `uninstall` takes back what is listed, but what was changed since.
# Nothing is restarted.
set -eu

DESTDIR=${DESTDIR:-}
PREFIX=${PREFIX:-/usr/local}
here=$(cd "$(dirname "$0")" && pwd)
binary=${GAM_BINARY:-$here/../dist/gam}
list=/etc/gam/installed
containerd=/etc/containerd/config.toml
begin='# gam: begin. What is up to "gam: end" was added by gam, and goes with it.'
end='# gam: end'

say() { echo "gam: $*"; }
fail() {
  echo "gam: $*" >&2
  exit 1
}

# listed KIND PATH [SUM]: notes a file, directory or edit of ours before it is made, so that what is interrupted is known.
listed() { grep -qxF "$*" "$DESTDIR$list" 2>/dev/null || echo "$*" >>"$DESTDIR$list"; }

# directory PATH: makes it and what is above it; each that was missing is ours. What the list itself needs is listed later.
directory() {
  [ -d "$DESTDIR$1" ] && return
  directory "$(dirname "$1")"
  if [ -e "$DESTDIR$list" ]; then listed dir "$1"; else unlisted="$unlisted $1"; fi
  mkdir "$DESTDIR$1"
}

sum() { sha256sum <"$1" | cut -d' ' -f1; }

# put SOURCE PATH MODE: a file, by rename. One that is the same already is left alone: to gam, a file with another time is
# another build, whose pods share no manager with those that run.
put() {
  if ! cmp -s "$1" "$DESTDIR$2"; then
    rm -f "$DESTDIR$2.gam-new"
    cp "$1" "$DESTDIR$2.gam-new"
    chmod "$3" "$DESTDIR$2.gam-new"
    mv -f "$DESTDIR$2.gam-new" "$DESTDIR$2"
    say "installed $2"
  fi
}

# top FILE KEY: the value of a key before the first table.
top() { sed -n -e '/^[[:space:]]*\[/q' -e "s/^[[:space:]]*$2[[:space:]]*=[[:space:]]*//p" "$1" | head -n 1; }

# without FILE: it without our lines, and without the empty one before them. Fails where the two that mark them are no pair.
without() { awk -v begin="$begin" -v end="$end" '
    $0 == begin { if (ours) single = 1; ours = 1; empty = 0; next }
    $0 == end { if (!ours) single = 1; ours = 0; next }
    ours { next }
    empty { print ""; empty = 0 }
    $0 == "" { empty = 1; next }
    { print }
    END { if (empty) print ""; exit ours || single }' "$1"; }

# named RUNTIME: whether what is read has a table of that runtime.
named() { grep "^[[:space:]]*\[[^]#]*runtimes\.[\"']*$1[\"']*\]" >/dev/null; }

# names FILE RUNTIME: whether it has a table of that runtime.
names() { [ -e "$1" ] && named "$2" <"$1"; }

# plain FILE: whether it says runtimes, and what they are in, by tables of their own only. Tables cannot be added to inline ones,
# and `names` does not see what dotted keys say.
plain() { awk '
    /^[ \t]*(#|$)/ { next }
    /^[ \t]*\[/ { keys = 0 }
    /^[ \t]*\[plugins\.["\047][a-z0-9.]+["\047]\.containerd\.runtimes\][ \t]*(#.*)?$/ { keys = 1; next }
    /^[ \t]*\[plugins\.["\047][a-z0-9.]+["\047]\.containerd\.runtimes\.[A-Za-z0-9_."\047-]+\][ \t]*(#.*)?$/ { next }
    keys || /runtimes/ { other = 1 }
    /^[ \t]*["\047]?(plugins|io\.containerd\.grpc\.v1\.cri|io\.containerd\.cri\.v1\.runtime|containerd)["\047]?[ \t]*[.=]/ { other = 1 }
    END { exit other }' "$1"; }

# tables VERSION: what is added to a configuration of that version: the runtime, and runc's where that is not named. 1.6 and
# 1.7, which read version 2, have no runtime of their own any more once one is named, and do not load CRI without the default.
tables() {
  case $1 in
  3) plugin=io.containerd.cri.v1.runtime ;;
  *) plugin=io.containerd.grpc.v1.cri ;;
  esac
  for name in runc gam; do
    names "$DESTDIR$containerd" "$name" ||
      printf '[plugins."%s".containerd.runtimes.%s]\n  runtime_type = "io.containerd.%s.v2"\n' "$plugin" "$name" "$name"
  done
}

# refuse REASON: fails, with containerd's configuration as it was.
refuse() {
  rm -f "$DESTDIR$containerd.gam-new"
  fail "$1; $containerd is left as it was"
}

# check FILE: fails unless containerd reads it and has the runtime then, and the one that is its default, without which it does
# not load CRI. Where this machine has no containerd, only that the file is `plain`.
check() {
  if ! command -v containerd >/dev/null; then
    plain "$1" ||
      refuse "$containerd says runtimes otherwise than by plain tables, and there is no containerd here to check the result with"
    say "there is no containerd here to check its configuration with"
    return
  fi
  dump=$(containerd --config "$1" config dump 2>/dev/null) || dump=
  printf '%s\n' "$dump" | grep 'io.containerd.gam.v2' >/dev/null ||
    refuse "containerd does not take $containerd with the runtime in it"
  default=$(printf '%s\n' "$dump" | sed -n "s/^[[:space:]]*default_runtime_name = [\"']\(.*\)[\"']\$/\1/p" | head -n 1)
  [ -z "$default" ] || printf '%s\n' "$dump" | named "$default" ||
    refuse "containerd would not load CRI: there is no runtime $default, which default_runtime_name names"
}

# The runtime in containerd's configuration. Version 3, which only containerd 2 has, takes a drop-in where it imports
# /etc/containerd/conf.d/*.toml. Else our tables are appended, between two lines that say so: to import a file would, on
# containerd 1.6 and 1.7, put it in the place of all that the configuration says of CRI. A configuration is changed by rename and
# only if containerd takes it; what it was before is kept beside it.
runtime() {
  file=$DESTDIR$containerd
  rm -f "$file.gam-new"
  [ ! -L "$file" ] || fail "$containerd is a symlink: add the runtime where it is made (containerd/runtime.toml)"
  if [ ! -e "$file" ]; then
    directory /etc/containerd
    listed owned "$containerd"
    { echo 'version = 2' && echo && echo "$begin" && tables 2 && echo "$end"; } >"$file.gam-new"
    check "$file.gam-new"
    chmod 644 "$file.gam-new"
    mv -f "$file.gam-new" "$file"
    say "made $containerd"
    return
  fi
  if names "$file" gam && ! grep -qxF "$begin" "$file"; then
    say "$containerd has a runtime gam, and is left as it is"
    return
  fi
  version=$(top "$file" version | sed 's/[^0-9].*//')
  case $version in
  2 | 3) ;;
  *) fail "$containerd is of version ${version:-1}: bring it to 2 first (containerd config migrate)" ;;
  esac
  if top "$file" disabled_plugins | grep -q '"cri"\|grpc\.v1\.cri'; then
    say "$containerd disables CRI: Kubernetes cannot use this containerd"
  fi
  drop=/etc/containerd/conf.d/gam.toml
  if [ "$version" = 3 ] && top "$file" imports | grep -q '/etc/containerd/conf\.d/\*\.toml'; then
    check "$here/containerd/conf.d-gam.toml"
    directory /etc/containerd/conf.d
    listed file "$drop"
    put "$here/containerd/conf.d-gam.toml" "$drop" 644
    return
  fi
  grep -qxF "owned $containerd" "$DESTDIR$list" || listed edited "$containerd"
  grep -qxF "$begin" "$file" && return
  cp -p "$file" "$file.gam-new"
  { cat "$file" && echo && echo "$begin" && tables "$version" && echo "$end"; } >"$file.gam-new"
  check "$file.gam-new"
  [ -e "$file.before-gam" ] || cp -p "$file" "$file.before-gam"
  mv -f "$file.gam-new" "$file"
  say "added the runtime to $containerd; what it was is in $containerd.before-gam"
}

# said: what containerd's configuration says.
said() { cat "$DESTDIR$containerd" "$DESTDIR/etc/containerd/conf.d/gam.toml" 2>/dev/null || true; }

install() {
  [ -f "$binary" ] || fail "there is no $binary: make build"
  [ -d "$DESTDIR/" ] || fail "there is no directory $DESTDIR"
  unlisted=
  directory /etc/gam
  for path in $unlisted; do listed dir "$path"; done
  : >>"$DESTDIR$list"
  directory "$PREFIX/bin"
  for name in gam containerd-shim-gam-v2; do listed file "$PREFIX/bin/$name"; done
  put "$binary" "$PREFIX/bin/gam" 755
  link=$DESTDIR$PREFIX/bin/containerd-shim-gam-v2
  if ! [ "$DESTDIR$PREFIX/bin/gam" -ef "$link" ]; then
    ln -f "$DESTDIR$PREFIX/bin/gam" "$link.gam-new"
    mv -f "$link.gam-new" "$link"
  fi
  if [ ! -e "$DESTDIR/etc/gam/config.toml" ]; then
    listed unchanged /etc/gam/config.toml "$(sum "$here/config.toml")"
    put "$here/config.toml" /etc/gam/config.toml 644
  fi
  if [ -d "$DESTDIR/etc/systemd/system" ]; then
    for unit in gam.slice gam-gc.service gam-gc.timer; do
      listed file "/etc/systemd/system/$unit"
      put "$here/systemd/$unit" "/etc/systemd/system/$unit" 644
    done
    say "to clean up after what dies: systemctl daemon-reload; systemctl enable --now gam-gc.timer"
  fi
  before=$(said)
  runtime
  [ "$before" = "$(said)" ] || say "containerd has to be restarted before it knows the runtime; containers live on"
  say "installed"
}

# remove KIND PATH [SUM]: takes one entry of the list back.
remove() {
  path=$DESTDIR$2
  rm -f "$path.gam-new"
  case $1 in
  file) rm -f "$path" ;;
  unchanged)
    if [ -e "$path" ] && [ "$(sum "$path")" != "$3" ]; then
      say "$2 was changed, and is left"
    else
      rm -f "$path"
    fi
    ;;
  owned)
    [ -e "$path" ] || return 0
    if [ "$(without "$path")" = 'version = 2' ]; then
      rm -f "$path"
    else
      take_back "$path"
    fi
    ;;
  edited) [ ! -e "$path" ] || take_back "$path" ;;
  dir) rmdir "$path" 2>/dev/null || true ;;
  esac
}

# take_back FILE: containerd's configuration without our lines; the one kept, if nothing else was changed.
take_back() {
  cp -p "$1" "$1.gam-new"
  without "$1" >"$1.gam-new"
  if [ -e "$1.before-gam" ] && without "$1.before-gam" | cmp -s - "$1.gam-new"; then
    rm -f "$1.gam-new"
    mv -f "$1.before-gam" "$1"
  else
    mv -f "$1.gam-new" "$1"
    [ ! -e "$1.before-gam" ] || say "${1#"$DESTDIR"} was changed since; what it was is in ${1#"$DESTDIR"}.before-gam"
  fi
}

uninstall() {
  if [ ! -e "$DESTDIR$list" ]; then
    say "there is no $DESTDIR$list: nothing is installed by this script"
    return
  fi
  for socket in "$DESTDIR"/run/gam/*/control.sock; do
    [ ! -e "$socket" ] || [ -n "${GAM_FORCE:-}" ] ||
      fail "managers run: delete their pods first, as containerd needs the binary for it, or see \`gam gc\` if they are dead" \
        "(GAM_FORCE=1 uninstalls all the same)"
  done
  entries=$(cat "$DESTDIR$list")
  # Before anything is removed: what our lines are cannot be told then.
  if printf '%s\n' "$entries" | grep -E "^(owned|edited) $containerd\$" >/dev/null && [ -e "$DESTDIR$containerd" ]; then
    without "$DESTDIR$containerd" >/dev/null ||
      fail "$containerd has only one of the lines \"$begin\" and \"$end\": put the other back, or take out what is gam's and both" \
        "lines; nothing is uninstalled"
  fi
  printf '%s\n' "$entries" | grep -v '^dir ' | while read -r kind path rest; do remove "$kind" "$path" "$rest"; done
  rm -f "$DESTDIR$list"
  # The deepest first.
  printf '%s\n' "$entries" | sed -n 's/^dir //p' | sort -r | while read -r path; do remove dir "$path"; done
  say "uninstalled; containerd has to be restarted before it forgets the runtime"
}

case ${1:-} in
install | uninstall) "$1" ;;
*) fail "usage: install.sh install|uninstall" ;;
esac
