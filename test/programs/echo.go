package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
)

// serve accepts until ctx ends and handles each connection in a goroutine of its own.
func serve(ctx context.Context, addr string, handle func(net.Conn)) error {
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("listening", ln.Addr())
	var all sync.WaitGroup
	defer all.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		all.Go(func() {
			closeAtEnd := context.AfterFunc(ctx, func() { conn.Close() })
			defer closeAtEnd()
			defer conn.Close()
			handle(conn)
		})
	}
}

// echoServer answers the first line with "NAME saw PEER at LOCAL: LINE" and every later line with itself.
func echoServer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	addr := flags.String("listen", ":7000", "address")
	name := flags.String("name", hostname(), "what to call oneself")
	quiet := flags.Bool("quiet", false, "no line per connection")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return serve(ctx, *addr, func(conn net.Conn) {
		if !*quiet {
			fmt.Printf("connection peer=%s local=%s\n", conn.RemoteAddr(), conn.LocalAddr())
		}
		lines := bufio.NewReaderSize(conn, 512)
		for first := true; ; first = false {
			line, err := lines.ReadString('\n')
			if err != nil {
				return
			}
			if first {
				line = fmt.Sprintf("%s saw %s at %s: %s", *name, conn.RemoteAddr(), conn.LocalAddr(), line)
			}
			if _, err := conn.Write([]byte(line)); err != nil {
				return
			}
		}
	})
}

// greetServer speaks first: a greeting, then "250 LINE" to each line until QUIT.
func greetServer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("greet", flag.ContinueOnError)
	addr := flags.String("listen", ":2525", "address")
	name := flags.String("name", hostname(), "what to call oneself")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return serve(ctx, *addr, func(conn net.Conn) {
		fmt.Printf("connection peer=%s local=%s\n", conn.RemoteAddr(), conn.LocalAddr())
		fmt.Fprintf(conn, "220 %s greets %s\r\n", *name, conn.RemoteAddr())
		lines := bufio.NewScanner(conn)
		for lines.Scan() {
			if strings.EqualFold(lines.Text(), "quit") {
				fmt.Fprintf(conn, "221 bye\r\n")
				return
			}
			fmt.Fprintf(conn, "250 %s\r\n", lines.Text())
		}
	})
}

func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}
