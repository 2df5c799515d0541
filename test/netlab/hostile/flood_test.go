package hostile

import (
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/netlab"
)

// halfOpen connects 10,000 times to one pod's 15008 and says nothing. Each pod may have 1,024 handshakes under way; the
// oldest make room for the newest, so that honest peers get through.
func (w *world) halfOpen(t *testing.T) {
	const conns, limit = 10_000, 1024
	var files unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &files))
	if files.Cur < conns+1000 {
		t.Fatalf("this needs %d open files, the limit is %d: raise it with ulimit -n", conns+1000, files.Cur)
	}
	held := make([]net.Conn, 0, conns)
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	labels := map[string]string{"limit": "handshakes"}
	w.counted(t, "n2", "ambit_ztunnel_pod_limit_hits", labels, conns-limit, func() {
		must(t, within(w.stranger, func() error {
			d := net.Dialer{Timeout: 10 * time.Second, FallbackDelay: -1}
			d.SetMultipathTCP(false)
			for range conns {
				c, err := d.DialContext(t.Context(), "tcp", at(w.victim, 15008))
				if err != nil {
					return fmt.Errorf("connection %d: %w", len(held), err)
				}
				held = append(held, c)
			}
			return nil
		}))
	})
	// With all of them in place: the same pod, another pod, another client.
	begin := time.Now()
	for _, to := range []netlab.Pod{w.victim, w.neighbour} {
		for _, from := range []netlab.Pod{w.client, w.stranger} {
			w.allowed(t, from, to)
		}
	}
	if got := newPeer(t, w.stranger, w.victim, w.genuine(t)); got == nil {
		t.Error("no new tunnel")
	}
	t.Logf("new connections took %s", time.Since(begin).Round(time.Millisecond))
	if n := w.metric(t, "n2", "ambit_ztunnel_hbone_handshakes", nil); n > limit+10 {
		t.Errorf("%.0f handshakes are under way, want at most %d", n, limit)
	}
}
