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

// Check 11: a pod joins and leaves while its programs run.
func leaveAndJoin() Check {
	var guest netlab.Pod
	var before, during string
	return Check{
		ID: 11, Name: "a pod joins and leaves while its programs run",
		Prepare: func(ctx context.Context, w *World) (err error) {
			if guest, err = w.addPod(ctx, outside, "guest", "n1"); err != nil {
				return err
			}
			if before, err = w.settings(ctx, guest); err != nil {
				return err
			}
			return w.serve(ctx, guest, echoPort, "echo")
		},
		Steps: []Step{
			{"a running server and client are captured", func(ctx context.Context, w *World) (string, error) {
				saw, err := w.joins(ctx, guest)
				if err == nil {
					during, err = w.settings(ctx, guest)
				}
				return saw, err
			}},
			{"leaving: live connections finish, new go direct", func(ctx context.Context, w *World) (string, error) {
				return w.leaves(ctx, guest)
			}},
			{"its namespace's settings are as before", func(ctx context.Context, w *World) (string, error) {
				after, err := w.settings(ctx, guest)
				switch {
				case err != nil:
				case after != before:
					err = fmt.Errorf("before it joined: %s", before)
				case during == before || during == "":
					err = fmt.Errorf("in the mesh they were no different: %q", during)
				}
				return fmt.Sprintf("%s (in the mesh: %s)", after, during), err
			}},
			{"it joins again", func(ctx context.Context, w *World) (string, error) { return w.joins(ctx, guest) }},
		},
	}
}

// settings are what enrolment may change in a pod's namespace.
func (w *World) settings(ctx context.Context, pod netlab.Pod) (string, error) {
	text, err := w.exec(ctx, pod, "sh", "-c", `cd /proc/sys/net/ipv4 && for f in tcp_tw_reuse ip_local_reserved_ports ip_local_port_range tcp_migrate_req; do echo "$f=$(cat $f)"; done`)
	return strings.Join(strings.Fields(text), " "), err
}

// joins labels the pod while a client of it is running; both its listening server and that client must end up in the mesh.
func (w *World) joins(ctx context.Context, guest netlab.Pod) (string, error) {
	if w.Mesh == nil {
		return "", errNoMesh
	}
	fromGuest := map[string]string{"reporter": "destination", "connection_security_policy": "mutual_tls", "source_workload": "guest"}
	toGuest := map[string]string{"reporter": "destination", "connection_security_policy": "mutual_tls", "destination_workload": "guest"}
	outBefore, err := w.opened(ctx, "n2", fromGuest)
	if err != nil {
		return "", err
	}
	inBefore, err := w.opened(ctx, "n1", toGuest)
	if err != nil {
		return "", err
	}
	client := w.inBackground(ctx, guest, "conns", "--total", "40", "--width", "1", "--gap", "150ms", w.storeAddr(echoPort))
	wait(ctx, time.Second)
	if w.Enrol {
		if err := w.Lab.SetPodLabels(ctx, guest.Ref(), map[string]string{enrolLabel: "ambient"}); err != nil {
			return "", err
		}
	}
	var out, in float64
	counted := netlab.Poll(ctx, 8*time.Second, func() error {
		if _, err := w.talks(ctx, w.client, fmt.Sprintf("%s:%d", guest.IP4(), echoPort)); err != nil {
			return err
		}
		o, outErr := w.opened(ctx, "n2", fromGuest)
		i, inErr := w.opened(ctx, "n1", toGuest)
		if out, in = o-outBefore, i-inBefore; out == 0 || in == 0 {
			return errors.Join(outErr, inErr, fmt.Errorf("over mutual TLS: %.0f from the pod, %.0f to it", out, in))
		}
		return nil
	})
	batch, err := client.wait()
	if err := errors.Join(counted, err); err != nil {
		return "", err
	}
	if batch.Failed > 0 {
		return "", fmt.Errorf("%d connections of the running client failed: %v", batch.Failed, batch.Errors)
	}
	return fmt.Sprintf("the client that ran before: %d connections, none failed; over mutual TLS: %.0f from the pod, %.0f to its server", batch.OK, out, in), nil
}

// leaves takes the label away while connections live in both directions.
func (w *World) leaves(ctx context.Context, guest netlab.Pod) (string, error) {
	if w.Mesh == nil {
		return "", errNoMesh
	}
	direct := map[string]string{"reporter": "destination", "connection_security_policy": "unknown"}
	long := []func() (result.Stream, error){
		w.stream(ctx, guest, w.storeAddr(echoPort), 6*time.Second),
		w.stream(ctx, w.client, fmt.Sprintf("%s:%d", guest.IP4(), echoPort), 6*time.Second),
	}
	wait(ctx, time.Second)
	if err := w.Lab.SetPodLabels(ctx, guest.Ref(), map[string]string{enrolLabel: ""}); err != nil {
		return "", err
	}
	before, err := w.opened(ctx, "n2", direct)
	if err != nil {
		return "", err
	}
	plain := netlab.Poll(ctx, settle, func() error {
		if _, err := w.talks(ctx, guest, w.storeAddr(echoPort)); err != nil {
			return err
		}
		after, err := w.opened(ctx, "n2", direct)
		if err == nil && after == before {
			err = errors.New("the pod's new connections still come through the mesh")
		}
		return err
	})
	exchanges := 0
	errs := []error{plain}
	for _, end := range long {
		s, err := end()
		if s.Closed {
			err = errors.Join(err, fmt.Errorf("a live connection to %s was cut: %s", s.Remote, s.Error))
		}
		exchanges += s.Exchanges
		errs = append(errs, err)
	}
	// A connection to the pod that left must not be refused either.
	if _, err := w.allowed(ctx, w.client, fmt.Sprintf("%s:%d", guest.IP4(), echoPort)); err != nil {
		errs = append(errs, err)
	}
	return fmt.Sprintf("two live connections finished (%d exchanges); new ones reach the store without the mesh", exchanges), errors.Join(errs...)
}
