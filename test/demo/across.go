package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/test/netlab"
	"github.com/ambit-mesh/ambit/test/programs/result"
)

// Check 1: two pods of the mesh on two nodes talk; the wire shows only TLS, the programs see each other as they are.
func acrossNodes() Check {
	var wire capture
	return Check{
		ID: 1, Name: "encrypted between nodes, true addresses at both ends",
		Prepare: func(ctx context.Context, w *World) (err error) {
			wire, err = w.captureOneRequest(ctx, false)
			return err
		},
		Steps: []Step{
			{"nginx answers curl", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) { return w.curl(ctx, w.client, w.web[0].IP4().String()) })
			}},
			{"TLS 1.3 to port 15008 on the wire", func(context.Context, *World) (string, error) { return wire.tls13() }},
			{"the payload is not on the wire", func(context.Context, *World) (string, error) { return wire.secret() }},
			{"nginx logs the client's address", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) {
					return w.logsClient(ctx, w.client, w.web[0], w.client.IP4().String(), w.web[0].IP4().String())
				})
			}},
			{"getpeername shows the address asked for", func(ctx context.Context, w *World) (string, error) {
				return w.overMesh(ctx, "n2", 1, func() (string, error) {
					return w.peername(ctx, w.client, fmt.Sprintf("%s:%d", w.web[0].IP4(), echoPort), w.client.IP4().String())
				})
			}},
		},
	}
}

// curl fetches the page with the marker and wants it whole.
func (w *World) curl(ctx context.Context, from netlab.Pod, host string) (string, error) {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	page, err := w.exec(ctx, from, "curl", "-sS", "-f", "-g", "--max-time", "8", "http://"+host+"/")
	if err != nil {
		return "", err
	}
	if !strings.Contains(page, marker) {
		return "", fmt.Errorf("the page from %s lacks the marker: %q", host, page)
	}
	return fmt.Sprintf("%q from %s", strings.TrimSpace(page), host), nil
}

// logsClient makes a request of its own and finds it in nginx's log with the client's address.
func (w *World) logsClient(ctx context.Context, from, to netlab.Pod, client, host string) (string, error) {
	path := fmt.Sprintf("/index.html?%d", time.Now().UnixNano())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if _, err := w.exec(ctx, from, "curl", "-sS", "-f", "-g", "--max-time", "8", "http://"+host+path); err != nil {
		return "", err
	}
	line := ""
	if err := netlab.Poll(ctx, 2*time.Second, func() error { // nginx logs after it has answered
		text, err := w.accessLog(to)
		if err != nil {
			return err
		}
		for line = range strings.Lines(text) {
			if strings.Contains(line, path) {
				return nil
			}
		}
		return errors.New("the request is not in nginx's log")
	}); err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	if !strings.HasPrefix(line, client+" ") {
		return line, fmt.Errorf("the client is %s", client)
	}
	return "log line: " + line, nil
}

// peername connects to an echo server: the client must see the address it asked for, the server the client's.
func (w *World) peername(ctx context.Context, from netlab.Pod, to, client string) (string, error) {
	seen, err := run[result.Peer](ctx, w, from, "peername", to)
	if err != nil {
		return "", err
	}
	saw := fmt.Sprintf("getpeername %s; the server: %q", seen.Remote, seen.Answer)
	if seen.Remote != to {
		return saw, fmt.Errorf("the client asked for %s", to)
	}
	if client != "" && !strings.Contains(seen.Answer, client) {
		return saw, fmt.Errorf("the client is %s", client)
	}
	return saw, nil
}

// captureOneRequest captures on the second node's port of the wire while a pod with an identity of its own (so that no
// tunnel exists yet) fetches the marker from nginx there, and a pair outside the mesh exchanges another marker in the clear,
// which shows that the capture would have seen the first.
func (w *World) captureOneRequest(ctx context.Context, six bool) (capture, error) {
	name := "fresh"
	if six {
		name = "fresh6"
	}
	fresh, err := w.addPod(ctx, inside, name, "n1")
	if err != nil {
		return capture{}, err
	}
	family := netlab.Pod.IP4
	if six {
		family = netlab.Pod.IP6
	}
	return w.record(ctx, "n2", func() error {
		_, err := w.curl(ctx, fresh, family(w.web[0]).String())
		if err != nil {
			return err
		}
		to := fmt.Sprintf("%s:%d", bracket(family(w.bystander).String()), echoPort)
		_, err = w.exec(ctx, w.stranger, "labprog", "peername", "--say", control, to)
		return err
	})
}

// control is text that must stand on the wire: it is sent outside the mesh.
const control = "ambit-demo-control-77ab02"

func bracket(ip string) string {
	if strings.Contains(ip, ":") {
		return "[" + ip + "]"
	}
	return ip
}
