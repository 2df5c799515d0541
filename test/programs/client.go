package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/ambit-mesh/ambit/test/programs/result"
)

// dial connects plainly: no MPTCP (the programs stand for ordinary ones), no happy eyeballs (one address was asked for).
func dial(ctx context.Context, addr string, timeout time.Duration) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: timeout, FallbackDelay: -1}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

func show(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

// reason is an error without its addresses, so that equal failures count together.
func reason(err error) string {
	var number syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &number):
		return number.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed by the other side"
	}
	return err.Error()
}

// peername makes one connection, sends a line and shows the addresses and the answer.
func peername(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("peername", flag.ContinueOnError)
	timeout := flags.Duration("timeout", 5*time.Second, "limit")
	say := flags.String("say", "hello", "line to send; empty waits for the server to speak")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := dial(ctx, flags.Arg(0), *timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(*timeout))
	seen := result.Peer{Local: conn.LocalAddr().String(), Remote: conn.RemoteAddr().String()}
	// net.Conn remembers what it dialled; the kernel is asked again, as any application would.
	if raw, err := conn.SyscallConn(); err == nil {
		if remote, err := kernelPeer(raw); err == nil {
			seen.Remote = remote
		}
	}
	if *say != "" {
		if _, err := fmt.Fprintln(conn, *say); err != nil {
			return err
		}
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("connected to %s, then: %s", seen.Remote, reason(err))
	}
	seen.Answer = strings.TrimSpace(answer)
	return show(seen)
}

// greeted waits for the server to speak, then exchanges lines.
func greeted(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("greeted", flag.ContinueOnError)
	timeout := flags.Duration("timeout", 5*time.Second, "limit")
	if err := flags.Parse(args); err != nil {
		return err
	}
	conn, err := dial(ctx, flags.Arg(0), *timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(*timeout))
	lines := bufio.NewReader(conn)
	seen := result.Peer{Local: conn.LocalAddr().String(), Remote: conn.RemoteAddr().String()}
	if seen.Answer, err = lines.ReadString('\n'); err != nil {
		return fmt.Errorf("greeting: %s", reason(err))
	}
	for _, say := range []string{"EHLO pod", "QUIT"} {
		fmt.Fprintf(conn, "%s\r\n", say)
		answer, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("answer to %q: %s", say, reason(err))
		}
		seen.Answer += answer
	}
	if _, err := lines.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the end: %v", err)
	}
	return show(seen)
}

// stream keeps one connection for a time and exchanges a small line at each interval.
func stream(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("stream", flag.ContinueOnError)
	interval := flags.Duration("interval", 20*time.Millisecond, "between exchanges")
	length := flags.Duration("for", 10*time.Second, "how long")
	timeout := flags.Duration("timeout", 5*time.Second, "limit for connect and for each exchange")
	if err := flags.Parse(args); err != nil {
		return err
	}
	out := result.Stream{Start: time.Now()}
	conn, err := dial(ctx, flags.Arg(0), *timeout)
	if err != nil {
		out.Closed, out.Error, out.End = true, reason(err), time.Now()
		return show(out)
	}
	defer conn.Close()
	out.Local, out.Remote = conn.LocalAddr().String(), conn.RemoteAddr().String()
	lines := bufio.NewReader(conn)
	tick := time.NewTicker(*interval)
	defer tick.Stop()
	for time.Since(out.Start) < *length && ctx.Err() == nil {
		begin := time.Now()
		conn.SetDeadline(begin.Add(*timeout))
		_, err := fmt.Fprintf(conn, "%d\n", out.Exchanges)
		var line string
		if err == nil {
			line, err = lines.ReadString('\n')
		}
		if err != nil {
			out.Closed, out.Error = true, reason(err)
			break
		}
		if out.Exchanges == 0 {
			out.Answer = strings.TrimSpace(line)
			fmt.Fprintln(os.Stderr, "connected", out.Remote) // tells a watcher that it runs
		}
		out.Exchanges++
		out.MaxGap = max(out.MaxGap, time.Since(begin))
		// An idle connection must notice its end at once, not at the next exchange.
		conn.SetReadDeadline(time.Now().Add(*interval))
		if _, err := lines.Peek(1); err != nil && !isTimeout(err) {
			out.Closed, out.Error = true, reason(err)
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	out.End = time.Now()
	return show(out)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
