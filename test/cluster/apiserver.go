package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// apiserver is a control plane without nodes, on loopback: enough for tests of anything that speaks to Kubernetes. Of the
// controller manager it has what makes namespaces and service accounts usable; endpoint slices, nodes and pods are what a
// test says they are.
func apiserver(dir, binary string) *Control {
	return &Control{
		Dir: dir, Binary: binary, Address: "127.0.0.1", ServiceRange: "10.96.0.0/16", APIService: "10.96.0.1",
		Controllers: "namespace-controller,serviceaccount-controller,serviceaccount-token-controller,garbage-collector-controller,root-ca-certificate-publisher-controller",
	}
}

// apiserverUp starts one in dir, unless one runs there already. What a crash left in dir goes first.
func (t Tree) apiserverUp(ctx context.Context, dir string) (*Control, error) {
	binary, err := t.kubernetes(ctx)
	if err != nil {
		return nil, err
	}
	files, err := t.crds(ctx)
	if err != nil {
		return nil, err
	}
	c := apiserver(dir, binary)
	if c.running(ctx) {
		return c, nil
	}
	if err := remove(ctx, dir); err != nil {
		return nil, fmt.Errorf("what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if c.Port, err = freePort(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	err = c.start(ctx)
	if err == nil {
		err = c.installCRDs(ctx, files)
	}
	if err == nil {
		_, err = c.kubectl(ctx, nil, "wait", "--for=create", "serviceaccount/default", "--timeout=60s") // the controllers work
	}
	if err != nil {
		return nil, fmt.Errorf("API server: %w", err)
	}
	return c, nil
}

// remove ends the processes of a folder and removes it. It is right after any crash, and when there is nothing to do.
func remove(ctx context.Context, dir string) error {
	if err := killAll(ctx, dir, 5*time.Second); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// apiserverTest runs a command against an API server of its own, and stops that whatever comes.
func (t Tree) apiserverTest(ctx context.Context, dir string, argv []string) (err error) {
	if err := remove(ctx, dir); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, remove(ctx, dir))
	}()
	began := time.Now()
	c, err := t.apiserverUp(ctx, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "API server with the mesh's resources up in %.1f s\n", time.Since(began).Seconds())
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// With the mark, so that tests which outlive a killed run are ended by the next.
	cmd.Env = append(os.Environ(), mark+"="+dir, "AMBIT_TEST_KUBECONFIG="+c.Kubeconfig(), "AMBIT_TEST_REQUIRE=apiserver")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd.Run()
}

// absolute makes the mark independent of where the program runs. It refuses folders that down must not remove, or that a
// node has for itself.
func absolute(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for _, no := range append([]string{"/run", "/proc", "/sys", "/dev"}, copied...) {
		if strings.HasPrefix(dir+"/", no+"/") || filepath.Dir(dir) == "/" {
			return "", fmt.Errorf("not in %s: want a folder of its own, for instance below /var/tmp", dir)
		}
	}
	if strings.ContainsAny(dir, ",:\\\n") { // they mean something in an overlay's options
		return "", fmt.Errorf("folder %q: want a name without comma, colon, backslash and new line", dir)
	}
	return dir, nil
}
