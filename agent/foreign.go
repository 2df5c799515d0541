package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ambit-mesh/ambit/agent/datapath"
)

// foreignPeriod is how often other programs on our hooks are looked for.
const foreignPeriod = time.Minute

// foreignWatch knows the programs of others on our hooks, and which of them speak against enrolling pods.
type foreignWatch struct {
	list    func() ([]datapath.Foreign, error)
	allow   bool // the user says that they leave pods alone
	log     *slog.Logger
	all     atomic.Pointer[[]string]
	against atomic.Pointer[[]string]
}

func (w *foreignWatch) run(ctx context.Context) error {
	ticker := time.NewTicker(foreignPeriod)
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

func (w *foreignWatch) look() {
	found, err := w.list()
	if err != nil {
		w.log.Warn("other programs on our hooks cannot be listed", "err", err)
		return
	}
	all, against := []string{}, []string{}
	for _, p := range found {
		all = append(all, p.String())
		if who, advice, balances := p.Balancer(); balances && !w.allow {
			against = append(against, fmt.Sprintf("%s: %s; %s", who, p, advice))
		}
	}
	slices.Sort(all)
	slices.Sort(against)
	if old := w.all.Load(); (old == nil || !slices.Equal(*old, all)) && len(all) > 0 {
		w.log.Warn("other programs share our hooks", "programs", all)
	}
	w.all.Store(&all)
	w.against.Store(&against)
}

func load(p *atomic.Pointer[[]string]) []string {
	if list := p.Load(); list != nil {
		return *list
	}
	return nil
}
