package netlab

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// WaitListening waits until something listens on a TCP port in the network namespace of p, seen in the kernel's tables: no
// connection is made that a program would log or a policy would count. It fails at once if p ends.
func (l *Lab) WaitListening(ctx context.Context, p Process, port int, limit time.Duration) error {
	err := poll(ctx, limit, func() error {
		if !p.Alive() {
			return nil // told below
		}
		if !Listens(p.PID, port) {
			return fmt.Errorf("nothing listens on port %d", port)
		}
		return nil
	})
	if err == nil && p.Alive() {
		return nil
	}
	log, _ := l.LogText(p.Name)
	if len(log) > 600 {
		log = "..." + log[len(log)-600:]
	}
	if err == nil {
		return fmt.Errorf("process %s has ended; its log: %s", p.Name, strings.TrimSpace(log))
	}
	return fmt.Errorf("process %s: %w after %s; its log: %s", p.Name, err, limit, strings.TrimSpace(log))
}

// Listens reports whether anything listens on a TCP port in the network namespace of a process.
func Listens(pid, port int) bool {
	want := fmt.Sprintf(":%04X", port)
	for _, table := range []string{"tcp", "tcp6"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(content)) {
			// sl local_address rem_address st ...; state 0A is TCP_LISTEN
			if f := strings.Fields(line); len(f) > 3 && f[3] == "0A" && strings.HasSuffix(f[1], want) {
				return true
			}
		}
	}
	return false
}
