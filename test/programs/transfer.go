package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/test/programs/result"
)

// transferServer understands one request line per connection:
//
//	PUT n        takes n bytes, answers "n sha256"
//	GET n seed   sends n random bytes, ends
//	UP           takes bytes until the client ends its direction, answers "n sha256"
//	DOWN n seed id   sends n bytes, ends its direction, takes bytes until the client ends, remembers "n sha256" under id
//	RESULT id    answers what DOWN remembered
//
// Anything else gets a line as answer.
func transferServer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("transfer", flag.ContinueOnError)
	addr := flags.String("listen", ":7100", "address")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var results sync.Map
	return serve(ctx, *addr, func(conn net.Conn) {
		in := bufio.NewReaderSize(conn, 1<<20)
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		var verb, id string
		var n int64
		var seed uint64
		fmt.Sscanf(line, "%s", &verb)
		switch verb {
		case "PUT":
			fmt.Sscanf(line, "PUT %d", &n)
			got, sum, err := digest(io.LimitReader(in, n))
			fmt.Printf("put peer=%s bytes=%d err=%v\n", conn.RemoteAddr(), got, err)
			fmt.Fprintf(conn, "%d %s\n", got, sum)
		case "GET":
			fmt.Sscanf(line, "GET %d %d", &n, &seed)
			sent, err := io.CopyBuffer(onlyWriter{conn}, random(n, seed), make([]byte, 256<<10))
			fmt.Printf("get peer=%s bytes=%d err=%v\n", conn.RemoteAddr(), sent, err)
		case "UP":
			got, sum, err := digest(in)
			fmt.Printf("up peer=%s bytes=%d err=%v\n", conn.RemoteAddr(), got, err)
			fmt.Fprintf(conn, "%d %s\n", got, sum)
		case "DOWN":
			fmt.Sscanf(line, "DOWN %d %d %s", &n, &seed, &id)
			_, err := io.Copy(onlyWriter{conn}, random(n, seed))
			err = errors.Join(err, conn.(*net.TCPConn).CloseWrite())
			got, sum, readErr := digest(in)
			fmt.Printf("down peer=%s bytes=%d err=%v\n", conn.RemoteAddr(), got, errors.Join(err, readErr))
			results.Store(id, fmt.Sprintf("%d %s", got, sum))
		case "RESULT":
			fmt.Sscanf(line, "RESULT %s", &id)
			answer, _ := results.Load(id)
			fmt.Fprintf(conn, "%v\n", answer)
		default:
			fmt.Fprintf(conn, "unknown request from %s\n", conn.RemoteAddr())
		}
	})
}

// onlyWriter hides ReadFrom, which would copy with small buffers of its own.
type onlyWriter struct{ io.Writer }

// random is n bytes that both sides can make from the seed.
func random(n int64, seed uint64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return io.LimitReader(rand.NewChaCha8(key), n)
}

func digest(r io.Reader) (int64, string, error) {
	sum := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{sum}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	return n, hexSum(sum), err
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// bulk sends (put) or receives (get) many bytes and compares checksums with the other side.
func bulk(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("bulk", flag.ContinueOnError)
	n := flags.Int64("bytes", 1<<30, "how many")
	get := flags.Bool("get", false, "receive instead of send")
	seed := flags.Uint64("seed", 1, "of the random bytes")
	limit := flags.Duration("timeout", 2*time.Minute, "limit for all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := dial(ctx, flags.Arg(0), 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	begin := time.Now()
	conn.SetDeadline(begin.Add(*limit))
	var out result.Bulk
	if *get {
		fmt.Fprintf(conn, "GET %d %d\n", *n, *seed)
		if out.Bytes, out.SHA256, err = digest(conn); err != nil {
			return fmt.Errorf("after %d bytes: %s", out.Bytes, reason(err))
		}
		out.Seconds = time.Since(begin).Seconds()
		_, out.Remote, _ = digest(random(*n, *seed)) // what was asked for, made here
	} else {
		fmt.Fprintf(conn, "PUT %d\n", *n)
		sum := sha256.New()
		out.Bytes, err = io.CopyBuffer(onlyWriter{io.MultiWriter(conn, sum)}, random(*n, *seed), make([]byte, 256<<10))
		if err != nil {
			return fmt.Errorf("after %d bytes: %s", out.Bytes, reason(err))
		}
		out.SHA256 = hexSum(sum)
		var got int64
		if _, err := fmt.Fscan(conn, &got, &out.Remote); err != nil {
			return fmt.Errorf("answer after %d bytes: %s", out.Bytes, reason(err))
		}
		out.Seconds = time.Since(begin).Seconds()
	}
	out.Match = out.Bytes == *n && out.SHA256 == out.Remote
	return show(out)
}

// halfClose ends one direction first and uses the other afterwards: the client's (up) or the server's (down).
func halfClose(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("halfclose", flag.ContinueOnError)
	down := flags.Bool("down", false, "the server ends its direction first")
	n := flags.Int64("bytes", 300_000, "to send after the other side ended")
	limit := flags.Duration("timeout", 10*time.Second, "limit for all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := dial(ctx, flags.Arg(0), 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(*limit))
	var out result.HalfClose
	id := fmt.Sprintf("%x", rand.Uint64())
	if *down {
		fmt.Fprintf(conn, "DOWN %d 7 %s\n", *n, id)
		if out.Received, _, err = digest(conn); err != nil {
			return fmt.Errorf("before the server's end: %s", reason(err))
		}
	} else {
		fmt.Fprintln(conn, "UP")
	}
	sum := sha256.New()
	if out.Sent, err = io.Copy(onlyWriter{io.MultiWriter(conn, sum)}, random(*n, 8)); err != nil {
		return fmt.Errorf("sending after %d bytes: %s", out.Sent, reason(err))
	}
	out.SHA256 = hexSum(sum)
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	var got int64
	if *down {
		got, out.Remote, err = askResult(ctx, flags.Arg(0), id)
	} else {
		_, err = fmt.Fscan(conn, &got, &out.Remote)
		out.Received = got
	}
	if err != nil {
		return fmt.Errorf("answer after half-close: %s", reason(err))
	}
	out.Match = got == *n && out.Remote == out.SHA256 && out.Received == *n
	return show(out)
}

// askResult asks on connections of their own until the server has seen the end of the one before.
func askResult(ctx context.Context, addr, id string) (n int64, sum string, err error) {
	for range 100 {
		conn, err := dial(ctx, addr, 5*time.Second)
		if err != nil {
			return 0, "", err
		}
		fmt.Fprintf(conn, "RESULT %s\n", id)
		_, err = fmt.Fscan(conn, &n, &sum)
		conn.Close()
		if err == nil {
			return n, sum, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return 0, "", ctx.Err()
		}
	}
	return 0, "", errors.New("the server never saw the client's end")
}
