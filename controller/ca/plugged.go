package ca

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long a folder must be unchanged before it is read: files are replaced one after the other.
	quiet = 100 * time.Millisecond
	// pluggedPoll is how often the folder is read though nothing was seen to change there.
	pluggedPoll = time.Minute
)

// layouts are the names that a plugged-in authority's files may have: Istio's, and those of a cert-manager Secret. Of the
// first, the chain may be missing; of the second, the certificate's file holds it.
var layouts = []struct{ cert, key, chain, root string }{
	{KeyCert, KeyKey, KeyChain, KeyRoot},
	{"tls.crt", "tls.key", "", "ca.crt"},
}

// PluggedInConfig is what a PluggedIn needs.
type PluggedInConfig struct {
	Dir     string
	Log     *slog.Logger
	Metrics *AuthorityMetrics
	Now     func() time.Time
}

// PluggedIn signs with an authority that someone else made and keeps in a folder, the Secret cacerts where it is mounted. It
// implements Signer.
type PluggedIn struct {
	cfg    PluggedInConfig
	change changes

	// Run's goroutine only:
	seen   string // digest of what was read last, good or bad
	warned time.Time
}

// OpenPluggedIn reads the folder. What is missing, or does not belong together, is an error.
func OpenPluggedIn(cfg PluggedInConfig) (*PluggedIn, error) {
	p := &PluggedIn{cfg: cfg}
	a, seen, err := p.read()
	if err != nil {
		return nil, fmt.Errorf("plugged-in authority in %s: %w", cfg.Dir, err)
	}
	p.seen = seen
	p.change.set(a)
	return p, nil
}

// Sign implements Signer.
func (p *PluggedIn) Sign(ctx context.Context, r Request) (Chain, error) {
	return p.change.get().Sign(ctx, r)
}

// Roots implements Signer.
func (p *PluggedIn) Roots() []byte { return p.change.get().Roots() }

// Changed implements Signer.
func (p *PluggedIn) Changed() <-chan struct{} { return p.change.next() }

// Expiry is when the root ends, and when the chain that signs does.
func (p *PluggedIn) Expiry() (root, chain time.Time) { return p.change.get().Expiry() }

// Run takes over what is put into the folder until ctx ends. A broken or dangerous replacement changes nothing.
func (p *PluggedIn) Run(ctx context.Context) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch of plugged-in authority: %w", err)
	}
	defer watch.Close()
	if err := watch.Add(p.cfg.Dir); err != nil {
		return fmt.Errorf("watch of plugged-in authority: %w", err)
	}
	tick := time.NewTicker(pluggedPoll)
	defer tick.Stop()
	settled := time.NewTimer(0)
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Events:
			settled.Reset(quiet)
		case err := <-watch.Errors:
			p.cfg.Log.Warn("plugged-in authority is not watched well; it is looked at every minute", "err", err)
		case <-settled.C:
			p.reload()
		case <-tick.C:
			p.reload()
			p.warn()
		}
	}
}

// reload reads the folder and takes over what is there, if it is new and good.
func (p *PluggedIn) reload() {
	next, seen, err := p.read()
	now := p.change.get()
	if _, end := now.Expiry(); seen == p.seen && p.cfg.Now().Before(end) {
		return // what was refused is tried again only when there is nothing to lose
	}
	p.seen = seen
	if err == nil {
		err = replaceable(now, next, p.cfg.Now())
	}
	if err != nil {
		p.cfg.Metrics.failed()
		p.cfg.Log.Error("replaced plugged-in authority is not used; the one before goes on signing", "err", err)
		return
	}
	if next.same(now) {
		return
	}
	p.change.set(next)
	root, chain := next.Expiry()
	p.cfg.Log.Info("plugged-in authority was replaced", "root_ends", root, "chain_ends", chain)
}

// replaceable reports whether peers that know only one of two authorities, as they do for a while, accept each other. That is
// how roots are replaced: first trust both, then sign with the new one, then stop trusting the old one. Once the old one has
// ended there is nothing to lose.
func replaceable(before, next *Authority, now time.Time) error {
	if _, end := before.Expiry(); !now.Before(end) {
		return nil
	}
	const how = "distribute both roots first; to lose connections instead, restart the controller"
	if _, err := longest(next.cert, before.trusted, next.chain, now); err != nil {
		return fmt.Errorf("its certificates would not be accepted by workloads that have the roots of before; %s: %w", how, err)
	}
	if _, err := longest(before.cert, next.trusted, before.chain, now); err != nil {
		return fmt.Errorf("its roots would not accept the certificates of before; %s: %w", how, err)
	}
	return nil
}

// warn says daily that the authority ends.
func (p *PluggedIn) warn() {
	now := p.cfg.Now()
	if left, due := p.change.get().due(now, 0.2); due && now.Sub(p.warned) >= 24*time.Hour {
		p.warned = now
		p.cfg.Log.Warn("plugged-in authority ends soon: replace the files in its folder", "left", left.Round(time.Minute))
	}
}

// read opens what is in the folder. The digest is of the files, readable or not.
func (p *PluggedIn) read() (*Authority, string, error) {
	names := layouts[0]
	if _, err := os.Stat(filepath.Join(p.cfg.Dir, names.cert)); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(p.cfg.Dir, layouts[1].cert)); err == nil {
			names = layouts[1]
		}
	}
	files := map[string][]byte{}
	var problem error
	for _, name := range []string{names.cert, names.key, names.chain, names.root} {
		if name == "" {
			continue
		}
		data, err := readBounded(filepath.Join(p.cfg.Dir, name))
		if err != nil && (name != names.chain || !errors.Is(err, fs.ErrNotExist)) {
			problem = errors.Join(problem, err)
			files[name+" error"] = []byte(err.Error())
			continue
		}
		files[name] = data
	}
	seen := digest(files)
	if problem != nil {
		return nil, seen, problem
	}
	chain := files[names.chain]
	if names.chain == "" {
		chain = files[names.cert]
	}
	a, err := NewAuthority(files[names.cert], files[names.key], chain, files[names.root], p.cfg.Now)
	return a, seen, err
}

// readBounded reads a file of a bearable size.
func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxStored {
		return nil, fmt.Errorf("%s of %d bytes: want at most %d", path, info.Size(), maxStored)
	}
	return os.ReadFile(path)
}
