// Command workload is what runs in the pods of test/e2e: servers that say who they are and who asked, and clients that say
// what they got. It is static and alone in its image; it knows nothing of the mesh.
package main

import (
	"bufio"
	"context"
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
		fail(errors.New("want serve, get, knock, hold, load, resolve, wait, sleep or ready"))
	}
	f := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	lasting := f.Duration("for", 10*time.Second, "how long hold and load go on")
	untilTold := f.Bool("until-told", false, "hold and load go on until the end of the standard input")
	within := f.Duration("within", 5*time.Second, "how long get and knock wait")
	tcp := f.Bool("tcp", false, "resolve asks over TCP")
	_ = f.Parse(os.Args[2:]) // exits
	ended := make(chan struct{})
	if *untilTold {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			close(ended)
		}()
	} else {
		time.AfterFunc(*lasting, func() { close(ended) })
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve()
	case "get":
		err = get(f.Arg(0), *within)
	case "knock":
		err = knock(f.Arg(0), *within)
	case "hold":
		err = hold(f.Arg(0), ended)
	case "load":
		err = load(f.Arg(0), ended)
	case "resolve":
		err = resolve(f.Arg(0), *tcp)
	case "wait":
		err = wait(f.Arg(0))
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
			if strings.HasPrefix(r.URL.Path, "/hook/") {
				fmt.Printf("asked by %s for %s\n", client, r.URL.Path)
			}
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
func get(url string, within time.Duration) error {
	client := http.Client{Timeout: within, Transport: &http.Transport{
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
func knock(addr string, within time.Duration) error {
	c, err := net.DialTimeout("tcp", addr, within)
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := ask(c, bufio.NewReader(c), within)
	fmt.Print(answer)
	return err
}

func ask(c net.Conn, from *bufio.Reader, within time.Duration) (string, error) {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(c, "knock"); err != nil {
		return "", err
	}
	return from.ReadString('\n')
}

// patience is how long hold and load wait for one answer.
const patience = 5 * time.Second

// hold asks again and again over one connection until it is told to end, and once more; it fails when the connection breaks.
func hold(addr string, ended <-chan struct{}) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	for tries := 0; err != nil && tries < 100; tries++ { // the server may be a container that starts beside this one
		time.Sleep(100 * time.Millisecond)
		c, err = net.DialTimeout("tcp", addr, patience)
	}
	if err != nil {
		return err
	}
	defer c.Close()
	from := bufio.NewReader(c)
	for asked, last := 1, false; ; asked++ {
		if _, err := ask(c, from, patience); err != nil {
			return fmt.Errorf("after %d answers: %w", asked-1, err)
		}
		if asked == 1 {
			fmt.Println("connected")
		}
		if last {
			fmt.Printf("%d answers over one connection\n", asked)
			return nil
		}
		last = pause(50*time.Millisecond, ended)
	}
}

// pause says whether the end came.
func pause(d time.Duration, ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	case <-time.After(d):
		return false
	}
}

// load makes connection after connection until it is told to end, and counts the ones that got no answer; it tells when the first and
// the last of those ended, since its beginning.
func load(addr string, ended <-chan struct{}) error {
	var got, lost int
	var longest, from, to time.Duration
	start := time.Now()
	reasons := map[string]int{}
	for first := true; ; first = false {
		began := time.Now()
		err := once(addr)
		if first {
			fmt.Println("connected")
		}
		longest = max(longest, time.Since(began))
		if err != nil {
			if to = time.Since(start); lost == 0 {
				from = to
			}
			lost++
			reasons[err.Error()[strings.LastIndex(err.Error(), ": ")+1:]]++
		} else {
			got++
		}
		if pause(10*time.Millisecond, ended) {
			break
		}
	}
	fmt.Printf("%d connections answered, %d lost, longest %s", got, lost, longest.Round(time.Millisecond))
	if lost > 0 {
		fmt.Printf("; lost from %s to %s: %v", from.Round(time.Millisecond), to.Round(time.Millisecond), reasons)
	}
	fmt.Println()
	return nil
}

func once(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 2*patience)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = ask(c, bufio.NewReader(c), patience)
	return err
}

// resolve prints the addresses of a name, by the pod's own nameserver.
func resolve(name string, tcp bool) error {
	var dialer net.Dialer
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if tcp {
			network = "tcp"
		}
		return dialer.DialContext(ctx, network, address)
	}}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	addrs, err := r.LookupHost(ctx, name)
	if err == nil {
		fmt.Println(strings.Join(addrs, " "))
	}
	return err
}

// wait returns once something listens.
func wait(addr string) error {
	var c net.Conn
	err := errors.New("not tried")
	for tries := 0; err != nil && tries < 300; tries++ {
		if c, err = net.DialTimeout("tcp", addr, patience); err != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
	if err != nil {
		return err
	}
	return c.Close()
}
