package floor_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"testing"

	"github.com/ambit-mesh/ambit/test/bench/floor"
)

// The pair must carry bytes exactly, in both directions, and a half-close, or what it is compared with means nothing.
func TestPairCarriesBytesBothWaysAndHalfClose(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conf, err := floor.Config()
	if err != nil {
		t.Fatal(err)
	}
	app := listen(t)
	out, in := free(t), free(t)
	go floor.In(ctx, in, app.Addr().String(), conf)
	go floor.Out(ctx, out, in, conf)
	go func() {
		c, err := app.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		all, _ := io.ReadAll(c) // ends only when the half-close arrives
		c.Write(all)
	}()

	sent := make([]byte, 3<<20+17)
	rand.Read(sent)
	c := connect(t, out)
	defer c.Close()
	go func() {
		c.Write(sent)
		c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("sent %d bytes, got %d back, equal %v, error %v", len(sent), len(got), bytes.Equal(got, sent), err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// free returns an address that was free a moment ago.
func free(t *testing.T) string {
	t.Helper()
	ln := listen(t)
	defer ln.Close()
	return ln.Addr().String()
}

// connect waits until the proxy listens: a refused connection is tried again until the test's own deadline.
func connect(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	for t.Context().Err() == nil {
		if c, err := net.Dial("tcp", addr); err == nil {
			return c.(*net.TCPConn)
		}
	}
	t.Fatal("no connection before the test ended")
	return nil
}
