package netlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Down removes the lab, however much of it there is, and proves it: what is left is the error. It may be called again, and
// also for a lab whose builder was killed half way.
func (l *Lab) Down(ctx context.Context) error {
	s, err := l.load()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	// Processes first: they hold everything else.
	if l.cgroup() != "" {
		if err := killCgroup(ctx, l.cgroup()); err != nil {
			return fmt.Errorf("lab %s is not down (the state is kept, try again): %w", l.name, err)
		}
	}
	l.reapers.Wait()
	links, err := l.pinned()
	errs = append(errs, err, unmountBelow(l.dir))
	for _, name := range s.Netns {
		errs = append(errs, removeNetns(filepath.Join(netnsDir, name)))
	}
	if l.cgroup() != "" {
		errs = append(errs, removeCgroup(l.cgroup()))
	}
	errs = append(errs, detached(ctx, links))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab %s is not quite down (the state is kept, try again): %w", l.name, err)
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return err
	}
	for _, dir := range []string{Root, filepath.Dir(Root), netnsDir} {
		_ = os.Remove(dir) // only if nobody else uses it
	}
	left, err := Leftovers(l.name)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("lab %s left behind: %s", l.name, strings.Join(left, ", "))
	}
	return nil
}

// unmountBelow unmounts everything at or below dir: the lab's bpffs, and with it every pin.
func unmountBelow(dir string) error {
	points, err := mountPoints(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, point := range points {
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", point, err))
		}
	}
	return errors.Join(errs...)
}

func mountPoints(dir string) ([]string, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			points = append(points, f[4])
		}
	}
	return points, nil
}
