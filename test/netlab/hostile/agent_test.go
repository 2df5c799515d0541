package hostile

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/netlab/mesh"
)

// scrape reads metrics in the controller's pod, or over a Unix socket of the node.
func scrape(t *testing.T, w *world, url, socket string) map[string]string {
	t.Helper()
	spec := netlab.Spec{Pod: mesh.ControllerPod, Argv: []string{"curl", "-sSf", "--max-time", "5", url}}
	if socket != "" {
		spec = netlab.Spec{Node: "n1", MachineMounts: true, Argv: append(spec.Argv, "--unix-socket", socket)}
	}
	out, err := w.lab.Exec(t.Context(), spec)
	must(t, err)
	must(t, out.Err())
	found := map[string]string{}
	for line := range strings.Lines(out.Stdout) {
		if i := strings.LastIndexByte(line, ' '); i > 0 && line[0] != '#' {
			found[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return found
}

func (w *world) agentMetrics(t *testing.T) map[string]string {
	t.Helper()
	return scrape(t, w, "http://agent/metrics", filepath.Join(w.lab.NodeDir("n1"), "agent-status.sock"))
}

// sockets attacks the agent's sockets from the node: who is not the ztunnel is refused by name, and garbage harms nobody.
func (w *world) sockets(t *testing.T) {
	handoff := filepath.Join(w.lab.NodeDir("n1"), "handoff", "handoff.sock")
	hello := func(c *api.Conn) error {
		_, err := c.Send(&api.ToAgent{Message: &api.ToAgent_Hello{Hello: &api.Hello{MinVersion: 1, Version: 1, Instance: "impostor", Build: "x"}}})
		return err
	}
	for _, attack := range []struct {
		name, reason, says string
		uid                int
	}{
		{"wrong uid", "unauthorized", "uid 0 is not the ztunnel's", 0},
		{"right uid, wrong cgroup", "unauthorized", "is not the ztunnel's", 1337},
	} {
		t.Run(attack.name, func(t *testing.T) {
			mark := w.mark(t, mesh.AgentName("n1"))
			w.agentCounts(t, `ambit_agent_handoff_refusals_total{reason="`+attack.reason+`"}`, func() {
				c := api.NewConn(dialAs(t, attack.uid, handoff))
				defer c.Close()
				must(t, hello(c))
				must(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
				var answer api.ToZtunnel
				fds, err := c.Recv(&answer)
				defer fds.Close()
				if err != nil || !strings.Contains(answer.GetRefuse().GetReason(), attack.says) || len(fds) > 0 {
					t.Errorf("answered with %v, %d descriptors, %v", &answer, len(fds), err)
				}
				if _, err := c.Recv(&answer); err == nil {
					t.Error("the connection was left open")
				}
			})
			w.logged(t, mesh.AgentName("n1"), mark, "ztunnel refused", attack.reason)
		})
	}
	t.Run("garbage for the hand-off", func(t *testing.T) {
		w.agentCounts(t, `ambit_agent_handoff_refusals_total{reason="protocol"}`, func() {
			for _, packet := range [][]byte{{0}, []byte("GET / HTTP/1.1\r\n\r\n"), make([]byte, 100_000), []byte(strings.Repeat("\xff", 60_000))} {
				c := dialAs(t, 1337, handoff)
				pipe := make([]int, 2)
				must(t, unix.Pipe2(pipe, unix.O_CLOEXEC))
				_, _, err := c.WriteMsgUnix(packet, unix.UnixRights(pipe...), nil) // descriptors that nobody asked for
				unix.Close(pipe[0])
				unix.Close(pipe[1])
				must(t, err)
				hungUp(t, c)
			}
		})
	})
	t.Run("silence at the hand-off", func(t *testing.T) {
		w.agentCounts(t, `ambit_agent_handoff_refusals_total{reason="protocol"}`, func() { hungUp(t, dialAs(t, 1337, handoff)) })
	})
	t.Run("garbage for the plugin's socket", func(t *testing.T) {
		socket, mark := filepath.Join(w.lab.NodeDir("n1"), "cni.sock"), w.mark(t, mesh.AgentName("n1"))
		c := dialAs(t, 0, socket)
		_, err := c.Write([]byte("{{{"))
		must(t, err)
		hungUp(t, c)
		w.logged(t, mesh.AgentName("n1"), mark, "cni request refused")
	})
	for _, name := range []string{"cni.sock", "agent-status.sock"} {
		t.Run("no root at "+name, func(t *testing.T) {
			if c, err := connectAs(1337, filepath.Join(w.lab.NodeDir("n1"), name)); err == nil {
				c.Close()
				t.Error("a process that is not root could connect")
			}
		})
	}
}

// agentCounts wants a counter of the agent on n1 to rise.
func (w *world) agentCounts(t *testing.T, line string, do func()) {
	t.Helper()
	before := w.agentMetrics(t)[line]
	do()
	w.poll(t, 5*time.Second, func() error {
		if now := w.agentMetrics(t)[line]; now == before {
			return fmt.Errorf("%s stays at %q", line, now)
		}
		return nil
	})
}

// hungUp wants the other side to end a connection; what it says before does not matter.
func hungUp(t *testing.T, c *net.UnixConn) {
	t.Helper()
	defer c.Close()
	must(t, c.SetReadDeadline(time.Now().Add(15*time.Second)))
	_, err := io.Copy(io.Discard, c)
	var slow net.Error
	if asTimeout(err, &slow) {
		t.Error("the connection was left open")
	}
}

func dialAs(t *testing.T, uid int, path string) *net.UnixConn {
	t.Helper()
	c, err := connectAs(uid, path)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// connectAs connects to a packet socket as another user. Only a thread of this process becomes that user, and it ends with the
// attempt; the kernel tells the other side the user of the thread and the cgroup of this test.
func connectAs(uid int, path string) (*net.UnixConn, error) {
	type outcome struct {
		c   net.Conn
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if uid != 0 {
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
				done <- outcome{nil, errno}
				return
			}
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
				done <- outcome{nil, errno}
				return
			}
		}
		c, err := new(net.Dialer).DialContext(context.Background(), "unixpacket", path)
		done <- outcome{c, err}
	}()
	out := <-done
	if out.err != nil {
		return nil, out.err
	}
	return out.c.(*net.UnixConn), nil
}
