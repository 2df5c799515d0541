package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/test/demo"
	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/programs/order"
)

// give connects to the first process of a pod and orders a program.
func (l *demoLab) give(ctx context.Context, spec netlab.Spec, log string) (net.Conn, error) {
	l.mu.Lock()
	socket, ok := l.sockets[spec.Pod]
	l.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("no pod %s", spec.Pod)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	if err := json.NewEncoder(conn).Encode(order.Order{Argv: spec.Argv, Env: spec.Env, User: spec.User, Dir: spec.Dir, Log: log}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Exec is part of demo.Lab.
func (l *demoLab) Exec(ctx context.Context, spec netlab.Spec) (out netlab.Output, err error) {
	conn, err := l.give(ctx, spec, "")
	if err != nil {
		return out, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // ends the program
	var end order.Ended
	err = json.NewDecoder(conn).Decode(&end)
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && end.Error != "":
		err = errors.New(end.Error)
	}
	if err != nil {
		err = fmt.Errorf("%s in %s: %w", strings.Join(spec.Argv, " "), spec.Pod, err)
	}
	return netlab.Output{Stdout: end.Stdout, Stderr: end.Stderr, Code: end.Code}, err
}

// Start is part of demo.Lab. The program outlives this one.
func (l *demoLab) Start(ctx context.Context, spec netlab.Spec, port int) (demo.Program, error) {
	conn, err := l.give(ctx, spec, l.log(spec.Name))
	if err != nil {
		return nil, err
	}
	p := &podProgram{conn: conn, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if err := json.NewDecoder(conn).Decode(&p.end); err != nil {
			p.end.Error = err.Error() // the pod is gone, and the program with it
		}
	}()
	first, err := l.firstProcess(conn.RemoteAddr().String())
	if err != nil {
		return p, err
	}
	return p, poll(ctx, 15*time.Second, func() error {
		if netlab.Listens(first, port) {
			return nil
		}
		log, _ := l.LogText(spec.Name)
		return fmt.Errorf("%s in %s: nothing listens at port %d; its log ends: %s", spec.Name, spec.Pod, port, lastLines(log))
	})
}

// podProgram is a program that runs in a pod.
type podProgram struct {
	conn net.Conn
	done chan struct{} // closed once it has ended
	end  order.Ended   // read after done
}

// Stop is part of demo.Program.
func (p *podProgram) Stop(ctx context.Context, sig unix.Signal, limit time.Duration) error {
	if err := json.NewEncoder(p.conn).Encode(order.Signal{Signal: int(sig)}); err != nil {
		return err
	}
	return errors.Join(ended(ctx, p.done, limit), p.conn.Close())
}

func (l *demoLab) log(name string) string { return filepath.Join(l.dir, "logs", name+".log") }

// LogText is part of demo.Lab.
func (l *demoLab) LogText(name string) (string, error) {
	text, err := os.ReadFile(l.log(name))
	return string(text), err
}

// firstProcess is who listens on a socket, by its pid on the machine.
func (l *demoLab) firstProcess(socket string) (pid int, err error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}
