package api

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Fds are received file descriptors, close-on-exec, owned by whoever holds the slice.
type Fds []int

// Close closes all of them.
func (f Fds) Close() error {
	var errs []error
	for _, fd := range f {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// Dup duplicates all of them, close-on-exec; on an error none is left behind.
func (f Fds) Dup() (Fds, error) {
	dups := make(Fds, 0, len(f))
	for _, fd := range f {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("duplicate a descriptor: %w", err), dups.Close())
		}
		dups = append(dups, dup)
	}
	return dups, nil
}

// parseRights collects the descriptors of a packet's control data. They are owned by the caller even beside an error: the
// kernel has already installed them.
func parseRights(oob []byte) (Fds, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("control data: %w", err)
	}
	var fds Fds
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_RIGHTS {
			continue
		}
		got, parseErr := unix.ParseUnixRights(&m)
		if parseErr != nil {
			err = errors.Join(err, fmt.Errorf("descriptors: %w", parseErr))
		}
		fds = slices.Concat(fds, got)
	}
	return fds, err
}
