package ztunnel

import (
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// reservedFiles are for what is neither a connection nor a ready-made socket.
const reservedFiles = 256

// stockBudget answers how many descriptors ready-made sockets may take, given how many they do.
func stockBudget(stocked int) int { return stockShare(fileLimit(), openFiles(), stocked) }

// stockShare is a quarter of all descriptors, and at most half of what everything else leaves: a socket in stock is worth
// less than a connection that can be accepted.
func stockShare(limit, open, stocked int) int {
	left := limit - (open - stocked) - reservedFiles
	return max(0, min(limit/4, left/2))
}

// fileLimit is how many descriptors the process may have. The runtime has raised the soft limit to the hard one.
func fileLimit() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || r.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(r.Cur)
}

// openFiles counts the process's descriptors. Since Linux 6.2 the size of the directory is their number; before, it is 0 and
// they are listed, which with tens of thousands leaves a MiB of garbage.
func openFiles() (n int) {
	const fds = "/proc/self/fd"
	if info, err := os.Stat(fds); err == nil && info.Size() > 0 {
		return int(info.Size())
	}
	dir, err := os.Open(fds)
	if err != nil {
		return 0
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(1024)
		n += len(names)
		if err != nil || len(names) == 0 {
			return n
		}
	}
}
