// Command workload is what runs in the pods of test/e2e: servers that say who they are and who asked, and clients that say
// what they got. It is static and alone in its image; it knows nothing of the mesh.
package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

func main() {
	if len(os.Args) < 2 {
		fail(errors.New("want serve, get, knock, hold, load, sleep or ready"))
	}
	f := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	lasting := f.Duration("for", 10*time.Second, "how long hold and load go on")
	_ = f.Parse(os.Args[2:]) // exits
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve()
	case "get":
		err = get(f.Arg(0))
	case "knock":
		err = knock(f.Arg(0))
	case "hold":
		err = hold(f.Arg(0), *lasting)
	case "load":
		err = load(f.Arg(0), *lasting)
	case "sleep":
		time.Sleep(1 << 62)
	case "ready": // an exec probe
	default:
		err = fmt.Errorf("no command %s", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// serve answers HTTP at 8080, lines of TCP at 7000 and gRPC health checks at 9000.
func serve() error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	failed := make(chan error, 3)
	go func() {
		failed <- http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			client, _, _ := net.SplitHostPort(r.RemoteAddr)
			fmt.Fprintf(w, "%s was asked by %s for %s\n", name, client, r.URL.Path)
		}))
	}()
	go func() { failed <- echo() }()
	go func() {
		l, err := net.Listen("tcp", ":9000")
		if err != nil {
			failed <- err
			return
		}
		s := grpc.NewServer()
		healthpb.RegisterHealthServer(s, health.NewServer())
		failed <- s.Serve(l)
	}()
	return <-failed
}

func echo() error {
	l, err := net.Listen("tcp", ":7000")
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c) // until the client has enough
		}()
	}
}

// get prints what a URL answers, over a connection of its own.
func get(url string) error {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // of the API server, whose CA is not asked for
	}}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	fmt.Printf("%d %s", resp.StatusCode, body)
	return nil
}

// knock prints the answer to one line.
func knock(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := ask(c, bufio.NewReader(c))
	fmt.Print(answer)
	return err
}

func ask(c net.Conn, from *bufio.Reader) (string, error) {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(c, "knock"); err != nil {
		return "", err
	}
	return from.ReadString('\n')
}

// hold asks again and again over one connection, and fails when that breaks.
func hold(addr string, lasting time.Duration) error {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	for tries := 0; err != nil && tries < 100; tries++ { // the server may be a container that starts beside this one
		time.Sleep(100 * time.Millisecond)
		c, err = net.DialTimeout("tcp", addr, 5*time.Second)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	from, asked := bufio.NewReader(c), 0
	for end := time.Now().Add(lasting); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err := ask(c, from); err != nil {
			return fmt.Errorf("after %d answers: %w", asked, err)
		}
		asked++
		if asked == 1 {
			fmt.Println("connected")
		}
	}
	fmt.Printf("%d answers over one connection\n", asked)
	return nil
}

// load makes connection after connection, and counts the ones that got no answer.
func load(addr string, lasting time.Duration) error {
	var got, lost int
	var longest time.Duration
	reasons := map[string]int{}
	for end := time.Now().Add(lasting); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		began := time.Now()
		err := once(addr)
		longest = max(longest, time.Since(began))
		if err != nil {
			lost++
			reasons[err.Error()[strings.LastIndex(err.Error(), ": ")+1:]]++
			continue
		}
		got++
	}
	fmt.Printf("%d connections answered, %d lost, longest %s %v\n", got, lost, longest.Round(time.Millisecond), reasons)
	return nil
}

func once(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = ask(c, bufio.NewReader(c))
	return err
}
