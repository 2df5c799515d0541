#!/usr/bin/env bash
# kernel.sh SERIES: prints the folder that holds an unpacked Debian cloud kernel of that series (6.1, 6.12).
# The package is downloaded by apt-get, never installed, and cached outside the tree.
set -euo pipefail
series=$1
cache=${AMBIT_CACHE:-$HOME/.cache/ambit}/kernels

newest() {
	apt-cache search --names-only "^linux-image-${series//./\\.}\.[0-9].*-cloud-amd64$" | awk '{print $1}' | sort -V | tail -n 1
}
package=$(newest)
if [ -z "$package" ]; then
	apt-get update -qq >&2
	package=$(newest)
fi
[ -n "$package" ] || { echo "kernel.sh: no Debian cloud kernel of series $series is offered; try apt-get update" >&2; exit 1; }

dir=$cache/$package
if [ ! -e "$dir/ok" ]; then
	mkdir -p "$dir"
	(cd "$dir" && apt-get download -qq "$package" >&2 && dpkg-deb -x ./*.deb . && rm -f ./*.deb)
	version=$(basename "$dir"/lib/modules/*)
	depmod -b "$dir" "$version" >&2
	touch "$dir/ok"
fi
echo "$dir"
