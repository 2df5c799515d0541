package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/ambit-mesh/ambit/test/programs/order"
)

// attend is the first process of a container: it runs the programs that it is told to on a Unix socket, for as long as the
// container lives. Who may write to the socket may do anything in the container.
func attend(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("attend", flag.ContinueOnError)
	socket := flags.String("socket", "", "Unix socket to take orders on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	_ = os.Remove(*socket)
	ln, err := net.Listen("unix", *socket)
	if err != nil {
		return err
	}
	fmt.Println("listening", *socket)
	context.AfterFunc(ctx, func() { ln.Close() })
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			return nil // the container ends, and all in it
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = json.NewEncoder(conn).Encode(carryOut(conn)) // who gave the order may be gone
		}()
	}
}

// carryOut runs the program of one connection to its end.
func carryOut(from io.Reader) order.Ended {
	in := json.NewDecoder(from)
	var o order.Order
	if err := in.Decode(&o); err != nil {
		return order.Ended{Error: "no order: " + err.Error()}
	}
	cmd := exec.Command("/proc/self/exe", append([]string{"enter", "--user", o.User, "--dir", o.Dir, "--"}, o.Argv...)...)
	cmd.Env = append(os.Environ(), o.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a group of its own, to be signalled
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if o.Log != "" {
		log, err := os.OpenFile(o.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return order.Ended{Error: err.Error()}
		}
		defer log.Close()
		cmd.Stdout, cmd.Stderr = log, log
	}
	if err := cmd.Start(); err != nil {
		return order.Ended{Error: err.Error()}
	}
	var mu sync.Mutex
	ended := false
	signal := func(sig int) {
		mu.Lock()
		defer mu.Unlock()
		if !ended { // its number may be another's now
			_ = syscall.Kill(-cmd.Process.Pid, syscall.Signal(sig))
		}
	}
	go func() { // until the connection is closed, at the latest by attend
		var s order.Signal
		for in.Decode(&s) == nil {
			signal(s.Signal)
		}
		if o.Log == "" {
			signal(int(syscall.SIGKILL))
		}
	}()
	err := cmd.Wait()
	mu.Lock()
	ended = true
	mu.Unlock()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return order.Ended{Error: err.Error(), Code: -1}
	}
	return order.Ended{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}
