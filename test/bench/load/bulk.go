package load

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// Upload sends total bytes to host over that many streams at once. The time ends when the receiver has said that it has
// everything: what sits in a queue on the way does not count as delivered.
func Upload(host string, streams int, total int64) (Result, error) {
	return bulk(host, SinkPort, streams, total, func(c *net.TCPConn, n int64) error {
		buf := make([]byte, 256<<10)
		for left := n; left > 0; {
			m, err := c.Write(buf[:min(int64(len(buf)), left)])
			if err != nil {
				return err
			}
			left -= int64(m)
		}
		if err := c.CloseWrite(); err != nil {
			return err
		}
		got, err := readCount(c)
		if err == nil && got != n {
			err = fmt.Errorf("the receiver has %d of %d bytes", got, n)
		}
		return err
	})
}

// Download asks host for total bytes over that many streams at once and reads them.
func Download(host string, streams int, total int64) (Result, error) {
	return bulk(host, SourcePort, streams, total, func(c *net.TCPConn, n int64) error {
		if err := writeCount(c, n); err != nil {
			return err
		}
		buf := make([]byte, 256<<10)
		var got int64
		for got < n {
			m, err := c.Read(buf)
			got += int64(m)
			if err != nil {
				return fmt.Errorf("after %d of %d bytes: %w", got, n, err)
			}
		}
		return nil
	})
}

func bulk(host string, port, streams int, total int64, carry func(*net.TCPConn, int64) error) (Result, error) {
	conns := make([]*net.TCPConn, streams)
	for i := range conns {
		c, err := dial(net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return Result{}, err
		}
		defer c.Close()
		conns[i] = c
	}
	each := total / int64(streams)
	var g errgroup.Group
	start := time.Now()
	for _, c := range conns {
		g.Go(func() error { return carry(c, each) })
	}
	err := g.Wait()
	return Result{Bytes: each * int64(streams), Elapsed: time.Since(start)}, err
}
