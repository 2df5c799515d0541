package load

import (
	"context"
	"errors"
	"net"
	"strconv"

	"golang.org/x/sync/errgroup"
)

// Serve answers on the three ports of all addresses until ctx ends.
func Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for port, handle := range map[int]func(*net.TCPConn) error{SinkPort: sink, SourcePort: source, EchoPort: echo} {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err := lc.Listen(ctx, "tcp", ":"+strconv.Itoa(port))
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { ln.Close() })
		g.Go(func() error { return accept(ctx, ln, handle) })
	}
	return g.Wait()
}

func accept(ctx context.Context, ln net.Listener, handle func(*net.TCPConn) error) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		go func() {
			defer c.Close()
			_ = handle(c.(*net.TCPConn)) // the client sees and counts what fails
		}()
	}
}

func sink(c *net.TCPConn) error {
	buf := make([]byte, 256<<10)
	var n int64
	for {
		m, err := c.Read(buf)
		n += int64(m)
		if err != nil {
			return writeCount(c, n)
		}
	}
}

func source(c *net.TCPConn) error {
	n, err := readCount(c)
	buf := make([]byte, 256<<10)
	for err == nil && n > 0 {
		var m int
		m, err = c.Write(buf[:min(int64(len(buf)), n)])
		n -= int64(m)
	}
	return err
}

// echo keeps its buffer small: the idle benchmark holds tens of thousands of these.
func echo(c *net.TCPConn) error {
	buf := make([]byte, MessageSize)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return err
		}
	}
}
