package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKillAll: a folder's processes are found by nothing but their mark, with their descendants even of another
// environment, and nobody else's are touched.
func TestKillAll(t *testing.T) {
	mine, other := t.TempDir(), t.TempDir()
	// A stubborn process, with a child that has lost the mark.
	p, err := start(mine, "stubborn", []string{"sh", "-c", `trap "" TERM; env -i sleep 1000 & wait; wait; wait`})
	if err != nil {
		t.Fatal(err)
	}
	bystander, err := start(other, "bystander", []string{"sleep", "1000"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := killAll(context.Background(), other, 0); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(30 * time.Second); ; {
		pids, err := processesOf(mine)
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("found %v: want the shell and its child", pids)
		}
	}
	if err := remove(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	<-p.done
	if pids, err := processesOf(mine); err != nil || len(pids) > 0 {
		t.Errorf("after remove: %v, %v", pids, err)
	}
	if _, err := os.Stat(filepath.Join(mine, "log")); !os.IsNotExist(err) {
		t.Errorf("the folder stays: %v", err)
	}
	select {
	case <-bystander.done:
		t.Error("another folder's process was ended")
	default:
	}
	if err := remove(t.Context(), mine); err != nil {
		t.Errorf("again: %v", err)
	}
}

// headless makes the test's own program one whose first thread has ended while another holds a port.
const headless = "AMBIT_TEST_HEADLESS"

func init() {
	if os.Getenv(headless) == "" {
		return
	}
	runtime.LockOSThread() // the first one
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		fmt.Println(l.Addr())
		for {
			time.Sleep(time.Hour)
		}
	}()
	_, _, _ = unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0) // of this thread only
}

// TestThreadsLive: a process whose first thread has ended lives while it has others, and is ended with them.
func TestThreadsLive(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(dir, "parent", []string{"sh", "-c", "env -i " + headless + "=1 " + self + " & wait"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := killAll(context.Background(), dir, 0); err != nil {
			t.Error(err)
		}
	})
	var address string
	if err := p.until(t.Context(), func(context.Context) error {
		text, err := os.ReadFile(p.log)
		if address = strings.TrimSpace(string(text)); err == nil && address == "" {
			err = errors.New("it does not listen")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := killAll(t.Context(), dir, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("after the end of all processes: %v", err)
	}
	l.Close()
}

// TestNothingInherited: what we inherited ends with us and is not what a process we start holds.
func TestNothingInherited(t *testing.T) {
	lock, err := os.Create(filepath.Join(t.TempDir(), "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	inherited, err := unix.FcntlInt(lock.Fd(), unix.F_DUPFD, 100) // as from a shell: not closed on exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	p, err := start(t.TempDir(), "looks", []string{"sh", "-c", fmt.Sprintf("if test -e /proc/$$/fd/%d; then readlink /proc/$$/fd/%d; exit 1; fi", inherited, inherited)})
	if err != nil {
		t.Fatal(err)
	}
	<-p.done
	if p.err != nil {
		t.Errorf("%v: it holds %s", p.err, p.tail())
	}
}

// TestUntil: a program that ends before it is ready is told of with what it said.
func TestUntil(t *testing.T) {
	p, err := start(t.TempDir(), "failing", []string{"sh", "-c", "echo no such thing; exit 3"})
	if err != nil {
		t.Fatal(err)
	}
	err = p.until(t.Context(), func(context.Context) error { return context.DeadlineExceeded })
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"failing ended", "exit status 3", "no such thing"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: lacks %q", err, want)
		}
	}
}

// TestAbsolute: what down would remove is never a folder of the system's.
func TestAbsolute(t *testing.T) {
	for dir, good := range map[string]bool{
		"/tmp/ambit-apiserver": true, "/var/tmp/c": true, "relative": true,
		"/": false, "/tmp": false, "/etc/x": false, "/var/lib/x": false, "/var/lib": false, "/run/x": false, "/tmp/a,b": false, "/tmp/a:b": false, "/tmp/../opt/x": false,
	} {
		if got, err := absolute(dir); (err == nil) != good || good && !filepath.IsAbs(got) {
			t.Errorf("%s: %q, %v", dir, got, err)
		}
	}
}
