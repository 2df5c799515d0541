package handoff

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/ambit-mesh/ambit/agent/api"
	"golang.org/x/sys/unix"
)

// Peer is a process that connected, as the kernel attests it.
type Peer struct {
	PID    int32
	UID    uint32
	Cgroup string // its path in the unified hierarchy, or of the first controller where there is none; "" if not readable
	Born   uint64 // when it started, in clock ticks since boot
}

// identify asks the kernel who is at the other end. The pid is held while its files are read, so they are this process's.
func identify(c *api.Conn) (Peer, error) {
	cred, err := c.Peer()
	if err != nil {
		return Peer{}, err
	}
	p := Peer{PID: cred.Pid, UID: cred.Uid}
	if cred.Pid <= 0 {
		return p, errors.New("the peer's process is not visible: the agent must run in the host's pid namespace")
	}
	pidfd, err := unix.PidfdOpen(int(cred.Pid), 0)
	if err != nil {
		return p, fmt.Errorf("peer process %d: %w", cred.Pid, err)
	}
	defer unix.Close(pidfd)
	directory := "/proc/" + strconv.Itoa(int(cred.Pid))
	cgroup, err := os.ReadFile(directory + "/cgroup")
	if err != nil {
		return p, fmt.Errorf("peer process: %w", err)
	}
	stat, err := os.ReadFile(directory + "/stat")
	if err != nil {
		return p, fmt.Errorf("peer process: %w", err)
	}
	if p.Born, err = bornAt(string(stat)); err != nil {
		return p, err
	}
	p.Cgroup = cgroupOf(string(cgroup))
	// Were the process gone, the number might have been another's when the files were read.
	if err := unix.PidfdSendSignal(pidfd, 0, nil, 0); err != nil && !errors.Is(err, unix.EPERM) {
		return p, fmt.Errorf("peer process %d is gone: %w", cred.Pid, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(directory, &st); err != nil || st.Uid != cred.Uid && st.Uid != 0 {
		return p, fmt.Errorf("peer process %d is not the one that connected", cred.Pid)
	}
	return p, nil
}

// bornAt reads field 22 of /proc/PID/stat. The second field is a name that may hold anything, so count from its end.
func bornAt(stat string) (uint64, error) {
	_, rest, ok := cutLast(stat, ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("process status %.64q", stat)
	}
	born, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("process status: start time: %w", err)
	}
	return born, nil
}

// cgroupOf picks the path of the unified hierarchy ("0::/path"), unless the process sits in its root and a controller of
// version 1 knows better.
func cgroupOf(file string) string {
	unified, named := "", ""
	for line := range strings.Lines(file) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		if parts[0] == "0" && parts[1] == "" {
			unified = parts[2]
		} else if named == "" || named == "/" {
			named = parts[2]
		}
	}
	if (unified == "" || unified == "/") && named != "" {
		return named
	}
	return unified
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// AllowOne admits processes of one uid, and, where cgroup is not empty, only in that cgroup or below.
func AllowOne(uid uint32, cgroup string) func(Peer) error {
	return func(p Peer) error {
		if p.UID != uid {
			return fmt.Errorf("uid %d is not the ztunnel's, %d", p.UID, uid)
		}
		if cgroup != "" && p.Cgroup != cgroup && !strings.HasPrefix(p.Cgroup, strings.TrimSuffix(cgroup, "/")+"/") {
			return fmt.Errorf("cgroup %.256q is not the ztunnel's, %q", p.Cgroup, cgroup)
		}
		return nil
	}
}
