package datapath

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// findCgroup2 finds where the cgroup2 hierarchy is mounted.
func findCgroup2() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("cgroup2 root: %w", err)
	}
	defer f.Close()
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		// 36 35 98:0 / /mountpoint options - type source superoptions; root "/" only: hooks belong on the root.
		before, after, ok := strings.Cut(scan.Text(), " - ")
		fields := strings.Fields(before)
		if ok && strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 && fields[3] == "/" {
			return unescape(fields[4]), nil
		}
	}
	if err := scan.Err(); err != nil {
		return "", fmt.Errorf("cgroup2 root: %w", err)
	}
	return "", errors.New("no cgroup2 hierarchy is mounted; mount one with: mount -t cgroup2 none /sys/fs/cgroup")
}

// unescape undoes mountinfo's octal escapes of blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
