package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Output is what a program that ran to its end left behind.
type Output struct {
	Stdout, Stderr string
	Code           int // exit status; -1 if it was killed
}

// Exec runs a program to its end and returns its output. The error is for a program that could not be run or outlived ctx;
// an exit status other than 0 is no error here (see Output.Err). Whatever the program started ends with it when ctx ends.
func (l *Lab) Exec(ctx context.Context, spec Spec) (Output, error) {
	var stdout, stderr bytes.Buffer
	code, err := l.ExecIO(ctx, spec, nil, &stdout, &stderr)
	return Output{stdout.String(), stderr.String(), code}, err
}

// ExecIO is Exec with the caller's streams.
func (l *Lab) ExecIO(ctx context.Context, spec Spec, stdin io.Reader, stdout, stderr io.Writer) (code int, err error) {
	cmd, _, cgroup, err := l.command(ctx, spec)
	if err != nil {
		return -1, err
	}
	defer cgroup.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, stderr
	if !spec.SameSession {
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // a session is a group of its own
	}
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return -1, fmt.Errorf("%s: %w", strings.Join(spec.Argv, " "), ctx.Err())
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	case err != nil:
		return -1, fmt.Errorf("%s: %w", strings.Join(spec.Argv, " "), err)
	}
	return 0, nil
}

// Err is nil for exit status 0, else says how the program ended, with its last words.
func (o Output) Err() error {
	if o.Code == 0 {
		return nil
	}
	words := strings.TrimSpace(o.Stderr)
	if words == "" {
		words = strings.TrimSpace(o.Stdout)
	}
	if len(words) > 400 {
		words = "..." + words[len(words)-400:]
	}
	return fmt.Errorf("exit status %d: %s", o.Code, words)
}
