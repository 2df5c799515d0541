// Package floor is the baseline that the tunnel is measured against: a pair of minimal proxies in the place of the two
// ztunnels. They accept, speak TLS 1.3 to each other and copy; there is no HTTP/2, no capture, no policy. What a mesh costs
// above this pair is the mesh's own doing; what it costs above no mesh at all is also the price of encryption and two
// more TCP hops. Used only by test/bench; each side runs as a process of its own.
package floor

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
)

// chunk is the size of one read, in bytes, and so of one batch of TLS records.
const chunk = 128 << 10

// Out accepts plain connections on listen and carries each over a TLS connection of its own to peer, until ctx ends.
func Out(ctx context.Context, listen, peer string, conf *tls.Config) error {
	return serve(ctx, listen, func(c *net.TCPConn) error {
		raw, err := dial(ctx, peer)
		if err != nil {
			return err
		}
		return pair(c, raw, func(b *batched) *tls.Conn { return tls.Client(b, conf) })
	})
}

// In accepts TLS connections on listen and carries each over a plain connection to app, until ctx ends.
func In(ctx context.Context, listen, app string, conf *tls.Config) error {
	return serve(ctx, listen, func(raw *net.TCPConn) error {
		c, err := dial(ctx, app)
		if err != nil {
			return err
		}
		return pair(c, raw, func(b *batched) *tls.Conn { return tls.Server(b, conf) })
	})
}

func dial(ctx context.Context, addr string) (*net.TCPConn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func serve(ctx context.Context, listen string, handle func(*net.TCPConn) error) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
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
			_ = handle(c.(*net.TCPConn)) // a failed connection is seen by the load generator as one
		}()
	}
}

// pair copies both ways between a plain connection and a TLS connection over raw until both directions have ended.
func pair(plain, raw *net.TCPConn, wrap func(*batched) *tls.Conn) error {
	defer plain.Close()
	defer raw.Close()
	b := &batched{TCPConn: raw, in: make([]byte, 0, chunk+chunk/8)}
	sec := wrap(b)
	if err := sec.Handshake(); err != nil {
		return err
	}
	var both sync.WaitGroup
	both.Go(func() {
		_ = encrypt(sec, b, plain)
		_ = sec.CloseWrite()
	})
	err := decrypt(plain, sec, b)
	_ = plain.CloseWrite()
	both.Wait()
	return err
}

// encrypt sends what one read gives as records that leave in one write.
func encrypt(dst *tls.Conn, b *batched, src *net.TCPConn) error {
	buf := make([]byte, chunk)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			b.hold()
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return werr
			}
			if werr := b.flush(); werr != nil {
				return werr
			}
		}
		if err != nil {
			return ignoreEOF(err)
		}
	}
}

// decrypt gathers the records that have arrived whole, up to one chunk, into one write.
func decrypt(dst *net.TCPConn, src *tls.Conn, b *batched) error {
	buf := make([]byte, chunk)
	for {
		n, err := src.Read(buf)
		for err == nil && len(buf)-n >= 16<<10 && b.wholeRecord() {
			var m int
			m, err = src.Read(buf[n:])
			n += m
		}
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err != nil {
			return ignoreEOF(err)
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
