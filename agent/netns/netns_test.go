package netns

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/ambit-mesh/ambit/test/need"
)

func current(t *testing.T) ID {
	t.Helper()
	h, err := Current()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	return h.ID()
}

func fresh(t *testing.T) *Handle {
	t.Helper()
	need.Root(t, "makes network namespaces")
	h, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestDoRunsInsideAndComesBack(t *testing.T) {
	h := fresh(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home := current(t)
	var inside ID
	if err := h.Do(func() error {
		in, err := Current()
		if err != nil {
			return err
		}
		defer in.Close()
		inside = in.ID()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if inside != h.ID() {
		t.Errorf("inside %v, want %v", inside, h.ID())
	}
	if got := current(t); got != home {
		t.Errorf("the caller's thread is in %v, want %v", got, home)
	}
}

func TestDoReturnsTheError(t *testing.T) {
	h := fresh(t)
	want := errors.New("mine")
	if err := h.Do(func() error { return want }); err != want {
		t.Errorf("got %v, want %v", err, want)
	}
	if err := h.Do(func() error { runtime.Goexit(); return nil }); !errors.Is(err, errExited) {
		t.Errorf("after Goexit got %v, want %v", err, errExited)
	}
}

func TestCookieIsTheNamespaces(t *testing.T) {
	a, b := fresh(t), fresh(t)
	ca, err := a.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	again, err := a.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	cb, err := b.Cookie()
	if err != nil {
		t.Fatal(err)
	}
	if ca == 0 || ca != again || ca == cb {
		t.Errorf("cookies %d, again %d, other %d", ca, again, cb)
	}
	if a.ID() == b.ID() {
		t.Errorf("two namespaces share %v", a.ID())
	}
}

// Threads that come back dirty would show as later goroutines that run in a foreign namespace.
func TestManyAtOnceLeaveNoThreadBehind(t *testing.T) {
	h := fresh(t)
	home := current(t)
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			if err := h.Do(func() error { return nil }); err != nil {
				t.Error(err)
			}
			if got := current(t); got != home {
				t.Errorf("a goroutine runs in %v, want %v", got, home)
			}
		})
	}
	group.Wait()
}

func TestOpenRefusesWhatIsNoNetworkNamespace(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{plain, "/proc/self/ns/uts", filepath.Join(t.TempDir(), "absent")} {
		if h, err := Open(path); err == nil {
			h.Close()
			t.Errorf("%s was opened as a network namespace", path)
		}
	}
}

func TestFromFileClosesWhatItRefuses(t *testing.T) {
	f, err := os.Open("/proc/self/ns/uts")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := FromFile(f); err == nil {
		t.Fatal("accepted")
	}
	if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("file still open: %v", err)
	}
}

func TestClosedHandleIsAnError(t *testing.T) {
	h := fresh(t)
	h.Close()
	if err := h.Do(func() error { return nil }); err == nil {
		t.Error("Do on a closed handle worked")
	}
}
