package hostile

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

const (
	slowPort  = 7200
	slowConns = 20
	// slowBytes would be far too much to keep: no sender may get rid of it while nobody reads.
	slowBytes = 64 << 20
)

// slowReader lets a pod send fast to applications that do not read, through both ztunnels. What is on its way is bounded, on
// each of many connections; then the readers wake up and everything arrives.
func (w *world) slowReader(t *testing.T) {
	accepted := make(chan net.Conn, slowConns)
	go serveAll(listen(t, w.victim, ":7200"), func(c net.Conn) { accepted <- c; <-t.Context().Done() })

	sent := make([]int64, slowConns)
	var senders []net.Conn
	var all sync.WaitGroup
	for i := range slowConns {
		conn, err := dial(t.Context(), w.attacker, at(w.victim, slowPort), 5*time.Second)
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		senders = append(senders, conn)
		all.Go(func() { sent[i] = pushUntilStuck(t, conn) })
	}
	all.Wait()
	var total int64
	for _, n := range sent {
		total += n
		if n >= slowBytes {
			t.Errorf("%d MiB went to a reader that does not read", n>>20)
		}
	}
	t.Logf("%d connections took %d MiB before they stood still", slowConns, total>>20)

	// Now read; whatever was sent must arrive, and nothing else.
	var got int64
	for _, conn := range senders {
		must(t, conn.(*net.TCPConn).CloseWrite())
	}
	for range slowConns {
		n, err := io.Copy(io.Discard, <-accepted)
		must(t, err)
		got += n
	}
	if got != total {
		t.Errorf("%d bytes arrived, %d were sent", got, total)
	}
}

// pushUntilStuck writes until nothing more has been taken for a second, or slowBytes are gone.
func pushUntilStuck(t *testing.T, conn net.Conn) (n int64) {
	block := make([]byte, 256<<10)
	for n < slowBytes {
		if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			t.Error(err)
			return n
		}
		wrote, err := conn.Write(block)
		n += int64(wrote)
		if errors.Is(err, os.ErrDeadlineExceeded) && wrote == 0 {
			return n
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
			return n
		}
	}
	return n
}

// serveAll accepts until the listener is closed.
func serveAll(l *net.TCPListener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			handle(c)
		}()
	}
}

// endless never ends.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
