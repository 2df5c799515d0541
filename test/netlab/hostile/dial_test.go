package hostile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/test/netlab"
)

// dial connects from inside a pod: the socket is made there, by this process. Programs in the pod could do no more.
func dial(ctx context.Context, pod netlab.Pod, to string, limit time.Duration) (*net.TCPConn, error) {
	var conn net.Conn
	err := within(pod, func() (err error) {
		d := net.Dialer{Timeout: limit, FallbackDelay: -1}
		d.SetMultipathTCP(false)
		conn, err = d.DialContext(ctx, "tcp", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// listen listens inside a pod.
func listen(t *testing.T, pod netlab.Pod, addr string) *net.TCPListener {
	t.Helper()
	var l net.Listener
	must(t, within(pod, func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(t.Context(), "tcp", addr)
		return err
	}))
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// within runs do on a thread in the pod's network namespace.
func within(pod netlab.Pod, do func() error) error {
	ns, err := netns.Open(pod.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(do)
}

func at(pod netlab.Pod, port uint16) string { return netip.AddrPortFrom(pod.IP4(), port).String() }

// talk makes one connection to a pod's echo server and has one exchange on it.
func talk(ctx context.Context, from, to netlab.Pod) error {
	conn, err := dial(ctx, from, at(to, echoPort), 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn, bufio.NewReader(conn), 5*time.Second)
}

func exchange(conn net.Conn, lines *bufio.Reader, limit time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(conn, "hello"); err != nil {
		return err
	}
	_, err := lines.ReadString('\n')
	return err
}

// allowed wants a new connection to work, at once or as soon as a policy has settled.
func (w *world) allowed(t *testing.T, from, to netlab.Pod) {
	t.Helper()
	w.poll(t, 5*time.Second, func() error {
		if err := talk(t.Context(), from, to); err != nil {
			return fmt.Errorf("new connection from %s to %s: %w", from.Name, to.Name, err)
		}
		return nil
	})
}

// denied wants a new connection to be refused, not just to hang.
func (w *world) denied(t *testing.T, from, to netlab.Pod) {
	t.Helper()
	w.poll(t, 5*time.Second, func() error {
		err := talk(t.Context(), from, to)
		var slow net.Error
		switch {
		case err == nil:
			return fmt.Errorf("%s was let in to %s", from.Name, to.Name)
		case errors.As(err, &slow) && slow.Timeout():
			return fmt.Errorf("%s to %s: no refusal but silence: %w", from.Name, to.Name, err)
		}
		return nil
	})
}

func asTimeout(err error, slow *net.Error) bool { return errors.As(err, slow) && (*slow).Timeout() }
