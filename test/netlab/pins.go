package netlab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cilium/ebpf/link"
)

// pinned finds the kernel's ids of the links that are pinned in the lab's bpffs, whoever pinned them.
func (l *Lab) pinned() ([]link.ID, error) {
	ids, err := PinnedLinks(l.BPF())
	if err != nil {
		return nil, fmt.Errorf("pins of lab %s: %w", l.name, err)
	}
	return ids, nil
}

// PinnedLinks finds the kernel's ids of the links that are pinned below a folder.
func PinnedLinks(dir string) (ids []link.ID, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		pin, err := link.LoadPinnedLink(path, nil)
		if err != nil {
			return nil // a map or a program: nothing is attached by it
		}
		defer pin.Close()
		info, err := pin.Info()
		if err != nil {
			return nil // of a namespace that is gone
		}
		ids = append(ids, info.ID)
		return nil
	})
	return ids, err
}

// Links lists the ids of the links that keep programs attached for this lab: those pinned in its bpffs.
func (l *Lab) Links() ([]int, error) {
	ids, err := l.pinned()
	out := make([]int, len(ids))
	for i, id := range ids {
		out[i] = int(id)
	}
	slices.Sort(out)
	return out, err
}

// detachWait bounds the wait for links to leave. The kernel lets go of one in the background, after its last pin and descriptor
// and a grace period of RCU: milliseconds as a rule, far more on a busy machine. Only a link that something holds stays.
const detachWait = time.Minute

// detached waits until links have left the kernel.
func detached(ctx context.Context, ids []link.ID) error { return gone(ctx, detachWait, ids, attached) }

// gone waits until none of the links is attached any more; the error names all that still are.
func gone(ctx context.Context, wait time.Duration, ids []link.ID, attached func(link.ID) error) error {
	left := slices.Clone(ids)
	return poll(ctx, wait, func() error {
		var errs []error
		left = slices.DeleteFunc(left, func(id link.ID) bool { // an id is not used again
			err := attached(id)
			if err != nil {
				errs = append(errs, err)
			}
			return err == nil
		})
		return errors.Join(errs...)
	})
}

// attached is an error if a link is in the kernel, or if that cannot be told.
func attached(id link.ID) error {
	l, err := link.NewFromID(id)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("link %d: %w", id, err)
	default: // asking holds it for a moment, too
		return errors.Join(fmt.Errorf("link %d is still attached", id), l.Close())
	}
}
