package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// mark is the environment variable that tells which folder's processes a process is of. It is inherited, so it finds all of
// them after the program that started them was killed, and it names none of anybody else's: no file of pids can do both.
const mark = "AMBIT_CLUSTER_DIR"

// Process is a program that was started and outlives this one.
type Process struct {
	Name string
	log  string
	done chan struct{} // closed once it has ended
	err  error         // how it ended; read after done
}

// start runs argv in the background, in a session of its own, with its output in dir/log/name.log. It gets no other descriptor:
// what this process was itself started with, such as a lock or the pipe of who waits for its output, would else be held for as
// long as the program lives.
func start(dir, name string, argv []string) (*Process, error) {
	p := &Process{Name: name, log: filepath.Join(dir, "log", name+".log"), done: make(chan struct{})}
	if err := os.MkdirAll(filepath.Dir(p.log), 0o755); err != nil {
		return nil, err
	}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Env = append(os.Environ(), mark+"="+dir, "PATH="+os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// Go marks what it opens, not what it inherited.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("start %s: close_range: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// until asks ready again and again until it answers nil. It gives up when the process ends, or the context.
func (p *Process) until(ctx context.Context, ready func(context.Context) error) error {
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended (%w); its log ends:\n%s", p.Name, errors.Join(p.err, err), p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; its log ends:\n%s", p.Name, err, p.tail())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tail is the end of its log.
func (p *Process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// processesOf finds the living processes that carry dir's mark, and their descendants: a container's processes have an
// environment of their own, but are children of a shim that has ours.
func processesOf(dir string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	var todo []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		parent, living := parentOf(pid)
		if !living {
			continue
		}
		children[parent] = append(children[parent], pid)
		env, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "environ")) // unreadable: another user's, or gone
		for v := range bytes.SplitSeq(env, []byte{0}) {
			if string(v) == mark+"="+dir {
				todo = append(todo, pid)
			}
		}
	}
	seen := map[int]bool{}
	var found []int
	for len(todo) > 0 {
		pid := todo[0]
		todo = todo[1:]
		if !seen[pid] {
			seen[pid] = true
			found = append(found, pid)
			todo = append(todo, children[pid]...)
		}
	}
	return found, nil
}

// parentOf reads the parent from /proc/PID/stat. A zombie does not live, unless threads besides the first one are still
// closing what the process has open, its ports among them. The name, in parentheses, may hold anything.
func parentOf(pid int) (parent int, living bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(rest) // from the third on
	if len(fields) < 18 || fields[0] == "X" || fields[0] == "Z" && (fields[17] == "1" || fields[17] == "0") {
		return 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, err == nil
}

// killAll ends all of dir's processes: politely first, so that files are closed, then not. It looks again after each round
// because a process may have started another meanwhile, and returns when the last thread of the last one is gone: one that is
// ending still holds its ports and control groups, but shows the mark no more.
func killAll(ctx context.Context, dir string, polite time.Duration) error {
	began, ending := time.Now(), map[int]int{} // pid to a descriptor of that very process
	defer func() {
		for _, fd := range ending {
			_ = unix.Close(fd)
		}
	}()
	for {
		pids, err := processesOf(dir)
		if err != nil {
			return err
		}
		again := time.Since(began) >= polite // in a polite round each is told once
		signal := unix.SIGTERM
		if again {
			signal = unix.SIGKILL
		}
		for _, pid := range pids {
			if _, told := ending[pid]; told && !again {
				continue
			} else if !told {
				fd, err := unix.PidfdOpen(pid, 0)
				if errors.Is(err, unix.ESRCH) {
					continue
				} else if err != nil {
					return fmt.Errorf("process %d: %w", pid, err)
				}
				ending[pid] = fd
			}
			if err := unix.PidfdSendSignal(ending[pid], signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		for pid, fd := range ending {
			// Readable once the process has ended, all its threads (pidfd_open(2)).
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0); err == nil && n == 1 {
				_ = unix.Close(fd)
				delete(ending, pid)
			}
		}
		if len(pids) == 0 && len(ending) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("processes %v of %s do not end: %w", slices.Sorted(maps.Keys(ending)), dir, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
