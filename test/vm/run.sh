#!/usr/bin/env bash
# run.sh SERIES: runs the kernel tests and one small lab on Debian's kernel of that series, in QEMU. VM_ONLY=PATTERN: only those.
# Exit 0 only if the guest came up, ran every test of the list and all passed.
set -euo pipefail
series=${1:?usage: run.sh SERIES, for instance 6.1}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
kernel=$("$here/kernel.sh" "$series")
version=$(basename "$kernel"/lib/modules/*)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,sbin,proc,sys,dev,tmp,run,root,etc,tests,modules}
cp /bin/busybox "$root/bin/busybox"
cp "$here/init" "$root/init"
chmod +x "$root/init"
touch "$root"/etc/{resolv.conf,hosts} # pods of the lab get their own by a mount over it
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$root/etc/passwd"

# The modules a test needs, with what they depend on, in loading order, each once.
for module in veth bridge dummy tun sch_ingress cls_bpf ipv6 mptcp_diag inet_diag tcp_diag; do
	modprobe -d "$kernel" -S "$version" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" {print $2}'
done | awk '!seen[$0]++' | while read -r path; do
	cp "$path" "$root/modules/"
	echo "/modules/$(basename "$path")"
done > "$root/modules.list"

# One static test binary a package, its testdata beside it.
add() { # name package arguments
	[[ $1 =~ ${VM_ONLY:-.} ]] || return 0
	mkdir -p "$root/tests/$1"
	(cd "$top" && CGO_ENABLED=0 go test -c -o "$root/tests/$1/test.bin" "$2")
	[ ! -d "$top/${2#./}/testdata" ] || cp -r "$top/${2#./}/testdata" "$root/tests/$1/"
	echo "$1 /tests/$1 ${3:-}" >> "$root/tests.list"
}
add bpf ./bpf/tests
add datapath ./agent/datapath
add podnet ./agent/podnet
add sockets ./agent/sockets
if [[ netlab =~ ${VM_ONLY:-.} ]]; then
	make -s -C "$top" build-lab >&2
	mkdir -p "$root/ambit"
	cp -r "$top/build/bin" "$top/build/cni" "$root/ambit/"
	add netlab ./test/netlab "-test.run ^TestSmallLab$ -lab.build /ambit"
fi
(cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) > "$work/initrd.gz"

log=$work/console
timeout 2400 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 3072 -smp 2 -nographic -no-reboot \
	-kernel "$kernel/boot/vmlinuz-$version" -initrd "$work/initrd.gz" \
	-append "console=ttyS0 quiet panic=-1 systemd.unified_cgroup_hierarchy=1" < /dev/null | tr -d '\r' | tee "$log"

want=$(wc -l < "$root/tests.list")
passed=$(grep -c '^VM result [a-z]* 0$' "$log" || true)
failed=$(grep -c '^VM result [a-z]* [1-9]' "$log" || true)
grep -q '^VM done' "$log" || { echo "test-vm $version: the guest did not finish" >&2; exit 1; }
echo "test-vm $version: $passed of $want test binaries passed, $failed failed"
[ "$passed" -eq "$want" ]
