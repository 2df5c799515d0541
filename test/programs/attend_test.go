package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/test/programs/order"
)

// TestMain lets the test's program stand for labprog, which attend starts again for each order.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "enter" {
		main()
		return
	}
	os.Exit(m.Run())
}

// ordered gives an order as a client does, and answers the connection.
func ordered(t *testing.T, o order.Order) net.Conn {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	go func() { _ = attend(t.Context(), []string{"--socket", socket}) }()
	var conn net.Conn
	until(t, func() (ok bool) {
		var err error
		conn, err = net.Dial("unix", socket)
		return err == nil
	})
	t.Cleanup(func() { conn.Close() })
	if err := json.NewEncoder(conn).Encode(o); err != nil {
		t.Fatal(err)
	}
	return conn
}

func end(t *testing.T, conn net.Conn) (e order.Ended) {
	t.Helper()
	if err := json.NewDecoder(conn).Decode(&e); err != nil {
		t.Fatal(err)
	}
	return e
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for !ok() {
		select {
		case <-t.Context().Done():
			t.Fatal("it does not come")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestOrderRunsToItsEnd(t *testing.T) {
	e := end(t, ordered(t, order.Order{Argv: []string{"sh", "-c", "pwd; echo $WHO >&2; exit 3"}, Dir: "/", Env: []string{"WHO=me"}}))
	if want := (order.Ended{Code: 3, Stdout: "/\n", Stderr: "me\n"}); e != want {
		t.Errorf("%+v, want %+v", e, want)
	}
	if e := end(t, ordered(t, order.Order{Argv: []string{"no-such-program"}})); e.Code != 1 || !strings.Contains(e.Stderr, "no-such-program") {
		t.Errorf("of a program that is not there: %+v", e)
	}
}

// sleeper is a program that tells its pid in a file and never ends; the second answer waits for that.
func sleeper(t *testing.T) (argv []string, pid func() int) {
	file := filepath.Join(t.TempDir(), "pid")
	return []string{"sh", "-c", "echo up; echo $$ >" + file + ".new; mv " + file + ".new " + file + "; exec sleep 1000"}, func() (n int) {
		until(t, func() bool {
			text, err := os.ReadFile(file)
			n, _ = strconv.Atoi(strings.TrimSpace(string(text)))
			return err == nil && n > 0
		})
		return n
	}
}

func TestOrderEndsWithItsConnection(t *testing.T) {
	argv, pid := sleeper(t)
	conn := ordered(t, order.Order{Argv: argv})
	n := pid()
	conn.Close()
	until(t, func() bool { return syscall.Kill(n, 0) != nil })
}

func TestOrderWithALogStays(t *testing.T) {
	argv, pid := sleeper(t)
	log := filepath.Join(t.TempDir(), "log")
	conn := ordered(t, order.Order{Argv: argv, Log: log})
	n := pid()
	if err := json.NewEncoder(conn).Encode(order.Signal{Signal: int(syscall.SIGTERM)}); err != nil {
		t.Fatal(err)
	}
	if e := end(t, conn); e.Code != -1 || e.Error != "" {
		t.Errorf("after a signal: %+v", e)
	}
	if text, err := os.ReadFile(log); err != nil || string(text) != "up\n" {
		t.Errorf("its log: %q, %v", text, err)
	}
	if err := syscall.Kill(n, 0); err == nil {
		t.Error("it lives on")
	}
}
