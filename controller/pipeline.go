package controller

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source"
	"github.com/ambit-mesh/ambit/controller/translate"
	"github.com/ambit-mesh/ambit/controller/xds"
)

const (
	// pace is the least time between two publications. A lone change is published at once; while one waits, the source
	// gathers what follows.
	pace = 10 * time.Millisecond
	// statusRetry is how long after a failure conditions are written again.
	statusRetry = time.Second
)

// pipeline takes batches from the source to the table.
type pipeline struct {
	table     *xds.Table
	residents *residents
	log       *slog.Logger
	metrics   *metrics

	last   time.Time  // of publishing; the source's goroutine only, as the next
	batch  *xds.Batch // not yet published
	synced bool       // the first state has been published

	onSynced func() // called once the first state has been published
	onFailed func() // called when a resource could not be encoded

	mu         sync.Mutex
	translator *translate.Translator
	unwritten  map[objects.Key]objects.Status // newest wins
	wake       chan struct{}
}

func newPipeline(cfg Config, table *xds.Table, r *residents, m *metrics, onSynced, onFailed func()) *pipeline {
	return &pipeline{
		table: table, residents: r, log: cfg.Log, metrics: m, translator: translate.New(cfg.Translate), batch: &xds.Batch{}, onSynced: onSynced, onFailed: onFailed,
		unwritten: map[objects.Key]objects.Status{}, wake: make(chan struct{}, 1),
	}
}

// deliver takes one batch. Identities are known before the resources that make a node ask for them.
func (p *pipeline) deliver(ctx context.Context, b source.Batch) {
	start := time.Now() // what a change waits for its turn is part of what it takes
	if wait := pace - time.Since(p.last); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
	begin := time.Now()
	p.metrics.debounce.Observe(begin.Sub(start).Seconds())
	p.residents.apply(b.Changes)
	p.mu.Lock()
	statuses := p.translator.Update(b.Changes, p.put)
	first := b.Synced && !p.synced && p.translator.Held() == nil
	maps.Copy(p.unwritten, statuses)
	p.logMesh(statuses)
	p.mu.Unlock()
	p.metrics.changes.Add(float64(len(b.Changes)))
	p.metrics.arrived(b.Changes)
	p.metrics.translate.Observe(time.Since(begin).Seconds())
	addresses, policies := p.batch.Len()
	if first || p.synced && addresses+policies > 0 {
		p.table.Commit(p.batch, start)
		p.batch = &xds.Batch{}
		p.last = time.Now()
	}
	if first {
		p.synced = true
		p.onSynced()
	}
	for typ, n := range p.table.Counts() {
		p.metrics.resources.WithLabelValues(typ).Set(float64(n))
	}
	if first || p.synced && len(statuses) > 0 {
		p.wakeWriter()
	}
	p.log.Debug("changes published", "changes", len(b.Changes), "addresses", addresses, "policies", policies, "duration", time.Since(start))
}

// put gathers what is to be published next. Before the first state is whole nothing is: a proxy would take what is missing
// for gone.
func (p *pipeline) put(o translate.Output) {
	switch {
	case o.Err != nil:
		p.metrics.unencodable.Inc()
		p.onFailed()
		p.log.Error("resource cannot be encoded; clients keep what they have of it", "err", o.Err)
	case o.Policy != nil:
		p.batch.PutPolicy(o.Name, o.Policy, o.Encoded)
	case o.IsPolicy:
		p.batch.RemovePolicy(o.Name)
	case o.Address != nil:
		p.batch.PutAddress(o.Name, o.Address, o.Encoded)
	default:
		p.batch.RemoveAddress(o.Name)
	}
}

func (p *pipeline) wakeWriter() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// writeStatuses stores conditions as they change, and again what could not be stored.
func (p *pipeline) writeStatuses(ctx context.Context, w source.StatusWriter) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
		p.mu.Lock()
		todo := p.unwritten
		p.unwritten = map[objects.Key]objects.Status{}
		p.mu.Unlock()
		var list []objects.Status
		for _, st := range todo {
			list = append(list, st)
		}
		err := w.WriteStatus(ctx, list)
		if err == nil {
			continue
		}
		p.log.Warn("conditions cannot be written; trying again", "err", err)
		p.mu.Lock()
		for key, st := range todo {
			if _, newer := p.unwritten[key]; !newer {
				p.unwritten[key] = st
			}
		}
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(statusRetry):
			p.wakeWriter()
		}
	}
}

// held says, for a person, why the first state is not published although it is here.
func (p *pipeline) held() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.translator.Held(); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// settings are those in force.
func (p *pipeline) settings() translate.Settings {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.translator.Settings()
}

// logMesh tells what became of MeshConfig: a ConfigMap has no status.
func (p *pipeline) logMesh(statuses map[objects.Key]objects.Status) {
	for key, st := range statuses {
		if key.Kind != objects.ConfigMap {
			continue
		}
		for _, c := range st.Conditions {
			level := slog.LevelInfo
			if !c.Status {
				level = slog.LevelWarn
			}
			p.log.Log(context.Background(), level, "MeshConfig has been read", "object", key.String(), "accepted", c.Status, "reason", c.Reason, "message", c.Message)
		}
	}
}

// statuses is everything the owners of objects are told, for dumps.
func (p *pipeline) statuses() map[objects.Key]objects.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.translator.Statuses()
}

// guarded is a value that is replaced as a whole.
type guarded[T any] struct {
	mu sync.Mutex
	v  T
}

func (g *guarded[T]) set(v T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.v = v
}

func (g *guarded[T]) get() T {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.v
}
