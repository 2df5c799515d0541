// Package netns answers two questions: which network namespace is this, and how do I run a few system calls inside it?
//
// It is the only place in the tree that calls setns or unshare. It does not make, name or mount namespaces for others to
// find, and it configures nothing inside them (that is podnet's). Everybody under agent/ may import it.
//
// A Handle may be used by many goroutines at once; Close must come after the last use.
package netns

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// ID is the identity of a network namespace while it lives: the device and inode of its nsfs file. The kernel reuses inodes,
// so an ID may be compared only while something keeps the namespace alive. For a key that is never reused see Cookie.
type ID struct {
	Dev, Ino uint64
}

// Handle keeps a network namespace alive and gives access to it.
type Handle struct {
	file *os.File
	id   ID
}

// Open opens the namespace behind a path such as /run/netns/NAME or /proc/PID/ns/net. A path that is not a network
// namespace (a plain file, a namespace of another kind) is an error.
func Open(path string) (*Handle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return FromFile(f)
}

// Current opens the namespace of the calling thread.
func Current() (*Handle, error) { return Open("/proc/thread-self/ns/net") }

// FromFile makes a Handle of an open nsfs file, for instance one received over a Unix socket. It owns f from then on and
// closes it when it is not a network namespace.
func FromFile(f *os.File) (*Handle, error) {
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err == nil && kind != unix.CLONE_NEWNET {
		err = fmt.Errorf("a namespace of kind %#x", kind)
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s is not a network namespace: %w", f.Name(), err)
	}
	return &Handle{file: f, id: ID{Dev: uint64(st.Dev), Ino: st.Ino}}, nil
}

// ID identifies the namespace while h is open.
func (h *Handle) ID() ID { return h.id }

// Fd is the namespace's file descriptor, valid until Close.
func (h *Handle) Fd() int { return int(h.file.Fd()) }

// Close lets go of the namespace.
func (h *Handle) Close() error { return h.file.Close() }

// Cookie is the kernel's 64-bit name of the namespace, never reused before a reboot; eBPF programs see the same number
// (bpf_get_netns_cookie). Linux 5.14 and later.
func (h *Handle) Cookie() (uint64, error) {
	var cookie uint64
	err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("socket: %w", err)
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		if err != nil {
			return fmt.Errorf("SO_NETNS_COOKIE (Linux 5.14 and later): %w", err)
		}
		return nil
	})
	return cookie, err
}

// Do runs fn on a thread that is inside the namespace and returns its error. What fn creates (sockets, netlink handles)
// stays in the namespace; goroutines that fn starts do not, so fn must make its system calls itself and start none.
//
// The thread serves nobody else meanwhile. If it cannot be brought back it is thrown away rather than returned dirty.
func (h *Handle) Do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(h.Fd(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return nil
	}, fn)
}

// New makes a fresh, nameless network namespace that lives as long as something refers to it.
func New() (*Handle, error) {
	var h *Handle
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		return nil
	}, func() (err error) {
		h, err = Current()
		return err
	})
	return h, err
}

// errExited is what a caller gets whose function ended its goroutine (testing's FailNow does).
var errExited = fmt.Errorf("the function ended its goroutine inside a network namespace")

// onThread runs enter and then fn on a thread of their own and puts the thread back into the namespace it came from.
func onThread(enter, fn func() error) error {
	result := make(chan error, 1)
	go func() {
		err := errExited
		defer func() { result <- err }()
		runtime.LockOSThread()
		home, openErr := Current()
		if openErr != nil {
			runtime.UnlockOSThread()
			err = openErr
			return
		}
		defer home.Close()
		defer func() {
			// Without the unlock the runtime ends the thread together with this goroutine.
			if unix.Setns(home.Fd(), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		if enterErr := enter(); enterErr != nil {
			err = enterErr
			return
		}
		err = fn()
	}()
	return <-result
}
