#!/usr/bin/env bash
# deps.sh PACKAGE:WITNESS...: installs the Debian packages whose witness (a command, or a file by absolute path) is missing.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
missing=()
for pair in "$@"; do
	package=${pair%%:*} witness=${pair#*:}
	case $witness in
	/*) [ -e "$witness" ] || missing+=("$package") ;;
	*) command -v "$witness" >/dev/null || missing+=("$package") ;;
	esac
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
	echo "these Debian packages are missing and there is no apt-get to install them: ${missing[*]}" >&2
	exit 1
fi
[ "$(id -u)" -eq 0 ] || { echo "these packages are missing; install them as root: apt-get install ${missing[*]}" >&2; exit 1; }
echo "installing: ${missing[*]}"
# The lab starts its own servers in namespaces: packaged services must not start on the machine itself.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get -o DPkg::Lock::Timeout=300 update -qq
apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
