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
	var ids []link.ID
	err := filepath.WalkDir(l.BPF(), func(path string, d fs.DirEntry, err error) error {
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
	if err != nil {
		return nil, fmt.Errorf("pins of lab %s: %w", l.name, err)
	}
	return ids, nil
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

// detached waits until links have left the kernel. The kernel frees them a moment after their last pin or descriptor went.
func detached(ctx context.Context, ids []link.ID) error {
	return poll(ctx, 5*time.Second, func() error {
		for _, id := range ids {
			l, err := link.NewFromID(id)
			switch {
			case errors.Is(err, os.ErrNotExist):
			case err != nil:
				return fmt.Errorf("link %d: %w", id, err)
			default:
				return errors.Join(fmt.Errorf("link %d is still attached", id), l.Close())
			}
		}
		return nil
	})
}
