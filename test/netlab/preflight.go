package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Preflight says in one sentence why a lab cannot be built here and what to do about it. It changes nothing.
func Preflight(c Config) error {
	if runtime.GOOS != "linux" {
		return errors.New("the lab needs Linux: run it on a Linux machine or in a VM")
	}
	if os.Geteuid() != 0 {
		return errors.New("the lab needs root, for network namespaces and eBPF: run it again with sudo")
	}
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	probe, err := os.MkdirTemp(root, "ambit-probe-")
	if err != nil {
		return fmt.Errorf("the lab cannot make a cgroup below %s (%w): run it on the machine itself or in a privileged container", root, err)
	}
	_, killErr := os.Stat(filepath.Join(probe, "cgroup.kill"))
	if err := os.Remove(probe); err != nil {
		return fmt.Errorf("cgroup probe: %w", err)
	}
	if killErr != nil {
		return errors.New("this kernel has no cgroup.kill: use Linux 5.15 or later")
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return errors.New("this kernel has no BTF (/sys/kernel/btf/vmlinux): use a distribution's kernel of 5.15 or later")
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		return errors.New("IPv6 is switched off in this kernel: boot without ipv6.disable=1")
	}
	for _, file := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("%s is missing and pods get their own by a mount over it: create it (an empty file will do)", file)
		}
	}
	for _, file := range []string{
		filepath.Join(c.BinDir, "labprog"), filepath.Join(c.CNIDir, "ptp"), filepath.Join(c.CNIDir, "host-local"),
	} {
		if unix.Access(file, unix.X_OK) != nil {
			return fmt.Errorf("the program %s is missing: run `make build-lab` first", file)
		}
	}
	return nil
}
