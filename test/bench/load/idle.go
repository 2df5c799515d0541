package load

import (
	"fmt"
	"io"
	"net"
	"strconv"
)

// Idle opens n connections, exchanges one message on each, calls ready, and holds them until hold ends.
func Idle(host string, n int, ready func(), hold io.Reader) error {
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	buf := make([]byte, MessageSize)
	for range n {
		c, err := dial(net.JoinHostPort(host, strconv.Itoa(EchoPort)))
		if err != nil {
			return fmt.Errorf("connection %d of %d: %w", len(conns)+1, n, err)
		}
		conns = append(conns, c)
		if err := exchange(c, buf); err != nil {
			return fmt.Errorf("first message on connection %d of %d: %w", len(conns), n, err)
		}
	}
	ready()
	_, err := io.Copy(io.Discard, hold)
	return err
}
