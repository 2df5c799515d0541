// Package folder is the source of the lab: a watched folder of ordinary Kubernetes manifests in the place of an API server.
//
//	<dir>/**/*.yaml, *.yml, *.json      manifests, any number of documents each; hidden files and folders are left out
//	<dir>/status/pods/<ns>_<name>.json  written by agents: {"annotations":{"ambient.istio.io/redirection":"enabled"}}
//	<dir>/status/conditions/...         written by the controller: the conditions of each object
//	<dir>/status/problems.json          written by the controller: what is wrong with which manifest
//
// A file with a problem is reported with file, line and field, and what that file said last stays in force. Writers need no
// care beyond ordinary editors': a file is read again until it is whole. One goroutine, Run's, owns all state.
package folder

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source"
	"github.com/ambit-mesh/ambit/controller/source/manifest"
)

const (
	// settle is how long after the first event of a burst the folder is read: an editor's write, rename and chmod are one.
	settle = 2 * time.Millisecond
	// rescan is how often the folder is read without an event, in case one was lost.
	rescan = 5 * time.Second
)

// Config says which folder, and where to tell about problems.
type Config struct {
	Dir string
	Log *slog.Logger
	// Problems is told everything that is wrong with the folder, whenever that changes. May be nil.
	Problems func([]manifest.Problem)
}

// Source watches one folder.
type Source struct {
	cfg   Config
	world world
	given map[objects.Key]objects.Object // delivered
	known []manifest.Problem             // reported
}

// New makes a source for a folder, which must exist when Run is called.
func New(cfg Config) *Source {
	return &Source{cfg: cfg, world: newWorld(), given: map[objects.Key]objects.Object{}}
}

// Run implements source.Source.
func (s *Source) Run(ctx context.Context, deliver func(source.Batch)) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", s.cfg.Dir, err)
	}
	defer watch.Close()
	again, err := s.scan(watch, deliver, true)
	if err != nil {
		return err
	}
	timer := time.NewTimer(pause(again))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-watch.Events:
			if !ok {
				return fmt.Errorf("watch %s: ended", s.cfg.Dir)
			}
			if ev.Op != fsnotify.Chmod {
				timer.Reset(settle)
				if err := drain(ctx, watch, timer.C); err != nil {
					return nil
				}
				timer.Reset(0)
			}
		case err := <-watch.Errors: // events were lost: read everything
			s.cfg.Log.Warn("folder watch lost events", "err", err)
			timer.Reset(0)
		case <-timer.C:
			again, err := s.scan(watch, deliver, false)
			if err != nil {
				s.cfg.Log.Error("manifest folder cannot be read; the last good state stays", "err", err)
			}
			timer.Reset(pause(again))
		}
	}
}

// drain swallows the events of a burst until the timer fires.
func drain(ctx context.Context, watch *fsnotify.Watcher, fired <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-watch.Events:
		case <-watch.Errors:
		case <-fired:
			return nil
		}
	}
}

func pause(again bool) time.Duration {
	if again {
		return racy
	}
	return rescan
}

// scan reads what changed on disk and delivers what changed in meaning. again asks for another scan soon.
func (s *Source) scan(watch *fsnotify.Watcher, deliver func(source.Batch), first bool) (again bool, err error) {
	files, dirs, err := list(s.cfg.Dir)
	if err != nil {
		return false, err
	}
	watched := watch.WatchList()
	for _, d := range dirs {
		if !slices.Contains(watched, d) {
			if err := watch.Add(d); err != nil {
				return false, fmt.Errorf("watch %s: %w", d, err)
			}
			again = true // what was written before the watch is not announced
		}
	}
	changed, readAgain := s.world.read(s.cfg.Dir, files)
	again = again || readAgain
	if !changed && !first {
		return again, nil
	}
	now, problems := s.world.resolve()
	s.report(problems, first)
	if changes := diff(s.given, now); len(changes) > 0 || first {
		s.given = now
		deliver(source.Batch{Changes: changes, Synced: true})
	}
	return again, nil
}

// report tells about problems at first and when they change: once in the log each, all of them to the callback.
func (s *Source) report(problems []manifest.Problem, first bool) {
	if slices.Equal(problems, s.known) && !first {
		return
	}
	for _, p := range problems {
		if !slices.Contains(s.known, p) {
			s.cfg.Log.Warn("manifest refused; the file's last good state stays", "file", p.File, "line", p.Line,
				"object", p.Object, "field", p.Field, "reason", p.Reason)
		}
	}
	if len(problems) == 0 && !first {
		s.cfg.Log.Info("every manifest is accepted again")
	}
	s.known = problems
	if s.cfg.Problems != nil {
		s.cfg.Problems(problems)
	}
}

// diff lists what is different, gone objects included, in the order of keys.
func diff(old, now map[objects.Key]objects.Object) []objects.Change {
	var out []objects.Change
	for k, o := range now {
		if old[k] != o {
			out = append(out, objects.Change{Key: k, Object: o})
		}
	}
	for k := range old {
		if _, ok := now[k]; !ok {
			out = append(out, objects.Change{Key: k})
		}
	}
	slices.SortFunc(out, func(a, b objects.Change) int { return a.Key.Compare(b.Key) })
	return out
}

// statusDir is where agents and the controller write; the manifests are elsewhere.
func statusDir(dir string) string { return filepath.Join(dir, "status") }
