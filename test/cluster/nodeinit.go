package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const containerdSocket = "/run/containerd/containerd.sock"

// run is a node's first process: it makes the node's file system, starts the daemons, and starts them again when they end.
// It returns only with an error.
func (s NodeSpec) run(ctx context.Context) error {
	if err := s.mountNode(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(s.Node.Name)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if err := forwarding(len(s.Node.IPs) > 1); err != nil {
		return err
	}
	if err := waitFor(ctx, "its link", func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err == nil && eth0.Attrs().Flags&net.FlagUp == 0 {
			err = errors.New("eth0 is down")
		}
		return err
	}); err != nil {
		return err
	}
	running := map[int][]string{}
	for i, argv := range s.daemons() {
		if err := s.daemon(running, argv); err != nil {
			return err
		}
		if i == 0 { // the kubelet wants a runtime, and the first pod a pause image
			if err := waitFor(ctx, "containerd", func() error {
				return exec.CommandContext(ctx, "ctr", "--address="+containerdSocket, "version").Run()
			}); err != nil {
				return err
			}
			if err := loadImages(ctx, s.Images); err != nil {
				return err
			}
		}
	}
	return s.reap(running)
}

// forwarding sets up the node's network namespace as a router, with its loopback.
func forwarding(dual bool) error {
	values := map[string]string{"ipv4/ip_forward": "1"}
	if dual {
		values["ipv6/conf/all/disable_ipv6"], values["ipv6/conf/all/forwarding"] = "0", "1"
	}
	for name, value := range values {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("sysctl: %w", err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// daemon starts one program with its own log, and notes it in running.
func (s NodeSpec) daemon(running map[int][]string, argv []string) error {
	name := filepath.Base(argv[0])
	if name != "containerd" {
		name = argv[1] // of the multi-call program
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(filepath.Dir(filepath.Dir(s.Dir)), "log", s.Node.Name+"-"+name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p, err := os.StartProcess(path, argv, &os.ProcAttr{Env: os.Environ(), Dir: "/", Files: []*os.File{nil, log, log}})
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	running[p.Pid] = argv
	return p.Release()
}

// reap does what a first process must: it waits for the orphans of the node too, and keeps the daemons alive.
func (s NodeSpec) reap(running map[int][]string) error {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for processes: %w", err)
		}
		argv, ours := running[pid]
		if !ours {
			continue
		}
		delete(running, pid)
		fmt.Printf("%s: %v ended with status %d, signal %d; starting it again\n", time.Now().Format(time.TimeOnly), argv, status.ExitStatus(), status.Signal())
		time.Sleep(time.Second) // not in a tight loop
		if err := s.daemon(running, argv); err != nil {
			return err
		}
	}
}

// waitFor asks until the answer is nil, for a minute at most.
func waitFor(ctx context.Context, what string, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
