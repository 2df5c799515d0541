#!/usr/bin/env bash
# preflight.sh: one clear sentence, and failure, when this machine cannot build and run the lab. It changes nothing.
set -u
cd "$(dirname "$0")/.."
say() { echo "cannot run here: $*" >&2; exit 1; }
[ "$(uname -s)" = Linux ] || say "this needs Linux; run it on a Linux machine or in a VM"
[ "$(id -u)" -eq 0 ] || say "this needs root (network namespaces and eBPF); run it again with sudo"
want=$(sed -n 's/^go //p' go.mod)
command -v go >/dev/null || say "no go on PATH ($PATH); install Go $want or later, or keep PATH through sudo: sudo env \"PATH=\$PATH\" make ..."
go list -m >/dev/null 2>&1 || say "$(go version | cut -d' ' -f3) cannot build this tree ($(go list -m 2>&1 | head -n 1)); install Go $want or later"
if [ -e .git ] && command -v git >/dev/null; then
	git rev-parse HEAD >/dev/null 2>&1 || say "git does not let $(id -un) read this clone ($(git rev-parse HEAD 2>&1 | head -n 1)); if it is another user's: git config --global --add safe.directory $PWD"
fi
IFS=.- read -r major minor _ <<<"$(uname -r)"
[ "$major" -gt 5 ] || [ "$major" -eq 5 -a "$minor" -ge 15 ] || say "this kernel is Linux $(uname -r); boot 5.15 or later"
[ -r /sys/kernel/btf/vmlinux ] || say "this kernel has no BTF (/sys/kernel/btf/vmlinux); use a distribution kernel of 5.15 or later"
grep -q ' cgroup2 ' /proc/mounts || say "no cgroup2 file system is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup"
unshare --net --mount true 2>/dev/null || say "this root may not make network namespaces; run on the machine itself or in a privileged container"
