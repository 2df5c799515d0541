package agent

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ambit-mesh/ambit/agent/cni"
)

// meshPeriod is how often other meshes are looked for: one that is uninstalled gives its pods to this one.
const meshPeriod = 5 * time.Second

// meshWatch knows the other meshes of the node that take pods by the same labels. Two cannot capture one pod, and the one that
// came first has them; pods that this one has stay.
type meshWatch struct {
	dir  string // CNI configuration; empty: none
	log  *slog.Logger
	last atomic.Pointer[[]string]
	news chan struct{} // has one place
}

func newMeshWatch(dir string, log *slog.Logger) *meshWatch {
	return &meshWatch{dir: dir, log: log, news: make(chan struct{}, 1)}
}

func (w *meshWatch) list() []string { return load(&w.last) }

func (w *meshWatch) run(ctx context.Context) error {
	ticker := time.NewTicker(meshPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			w.look()
		}
	}
}

func (w *meshWatch) look() {
	if w.dir == "" {
		return
	}
	now := cni.OtherMeshes(w.dir)
	if slices.Equal(now, w.list()) {
		return
	}
	switch {
	case len(now) > 0:
		w.log.Error("another mesh is installed on this node; new pods are left to it", "mesh", now)
	default:
		w.log.Info("the other mesh is gone; its pods join this one")
	}
	w.last.Store(&now)
	select {
	case w.news <- struct{}{}:
	default:
	}
}
