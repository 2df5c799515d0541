#!/usr/bin/env bash
# preflight.sh: one clear sentence when this machine cannot run the tests that need root and eBPF.
set -u
say() { echo "cannot run here: $*" >&2; exit 1; }
[ "$(uname -s)" = Linux ] || say "this needs Linux; run it on a Linux machine or in a VM"
[ "$(id -u)" -eq 0 ] || say "this needs root (network namespaces and eBPF); run it again with sudo"
[ -r /sys/kernel/btf/vmlinux ] || say "this kernel has no BTF (/sys/kernel/btf/vmlinux); use a distribution kernel of 5.15 or later"
grep -q cgroup2 /proc/mounts || say "no cgroup2 file system is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup"
