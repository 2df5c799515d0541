// Command labprog holds the small programs that the lab, its demo checks and the benchmarks run inside pods and nodes: the
// launcher that enters a pod, servers and clients that show what an application sees of the mesh, the cluster's DNS server
// and the process that plays the kubelet.
//
// Clients print one JSON value (package result) on standard output and end with status 0 if they could do their work; what
// it means is for the caller to judge. Servers print a line "listening ..." and one line per connection.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// program is one of the small programs: its flags are in args, it ends when its work is done or ctx is cancelled.
type program struct {
	about string
	run   func(ctx context.Context, args []string) error
}

var programs = map[string]program{
	"attend":    {"first process of a container: starts programs when told to", attend},
	"enter":     {"enter a pod's namespaces and start a program there", enter},
	"echo":      {"server: tells the peer's addresses, then echoes lines", echoServer},
	"greet":     {"server: speaks first, as SMTP does", greetServer},
	"transfer":  {"server: bulk and half-close transfers with checksums", transferServer},
	"peername":  {"client: what do getpeername and getsockname show", peername},
	"greeted":   {"client: waits for the server's greeting, then talks", greeted},
	"bulk":      {"client: send or receive many bytes with a checksum", bulk},
	"halfclose": {"client: end one direction, use the other", halfClose},
	"conns":     {"client: many connections, all at once or one after another", conns},
	"stream":    {"client: exchange messages over one connection for a time", stream},
	"dns":       {"client: one DNS question", dnsQuestion},
	"dnsd":      {"server: the cluster's DNS, from a folder of manifests", dnsServer},
	"get":       {"client: fetch a URL", get},
	"kubelet":   {"server: probes pods when asked to, as the kubelet does", kubelet},
	"probe":     {"client: ask the kubelet for a probe, or (without --kubelet) probe oneself", probe},
}

func main() {
	runtime.LockOSThread() // for enter: main starts on the process's first thread
	if len(os.Args) < 2 || programs[os.Args[1]].run == nil {
		fmt.Fprintln(os.Stderr, "usage: labprog PROGRAM [flags]")
		names := make([]string, 0, len(programs))
		for name, p := range programs {
			names = append(names, fmt.Sprintf("  %-10s %s", name, p.about))
		}
		slices.Sort(names)
		fmt.Fprintln(os.Stderr, strings.Join(names, "\n"))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := programs[os.Args[1]].run(ctx, os.Args[2:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "labprog %s: %v\n", os.Args[1], err)
		stop()
		os.Exit(1)
	}
}
