package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ambit-mesh/ambit/agent/pods"
	"github.com/fsnotify/fsnotify"
)

// How a folder is watched: the burst of an editor is one change, and what no event told is found by looking again.
const (
	settle   = 2 * time.Millisecond
	racy     = 50 * time.Millisecond // a file as young as this may change again within the same modification time
	rescan   = 5 * time.Second
	maxFiles = 200_000
	maxBytes = 16 << 20
)

// Folder is the lab's source: every manifest below a folder, of which it reads Pods of its node and Namespaces. A file that
// cannot be read is reported, and what it said last stays.
//
//	<dir>/**/*.yaml, *.yml, *.json        manifests, any number of documents each; hidden ones are left out
//	<dir>/status/pods/<ns>_<name>.json    written here: {"annotations":{"ambient.istio.io/redirection":"enabled"}}
type Folder struct {
	published
	dir, node string
	log       *slog.Logger
	files     map[string]*file // of Run's goroutine
}

// NewFolder makes a source of the pods that are bound to node.
func NewFolder(dir, node string, log *slog.Logger) *Folder {
	return &Folder{published: newPublished(), dir: dir, node: node, log: log, files: map[string]*file{}}
}

// file is what a manifest says, and how to tell that it changed.
type file struct {
	size       int64
	modified   time.Time
	young      bool
	said       string // the last complaint about it
	pods       []pods.Pod
	namespaces []pods.Namespace
}

// Run watches until ctx ends. A folder that does not exist is an error.
func (f *Folder) Run(ctx context.Context) error {
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", f.dir, err)
	}
	defer watch.Close()
	again, err := f.scan(watch)
	if err != nil {
		return err
	}
	timer := time.NewTimer(pause(again))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.Events:
			timer.Reset(settle)
		case err := <-watch.Errors:
			f.log.Warn("folder watch lost events; reading everything", "err", err)
			timer.Reset(settle)
		case <-timer.C:
			again, err := f.scan(watch)
			if err != nil {
				f.log.Error("manifest folder cannot be read; the last good state stays", "err", err)
			}
			timer.Reset(pause(again))
		}
	}
}

func pause(again bool) time.Duration {
	if again {
		return racy
	}
	return rescan
}

// scan reads what changed and publishes it. again asks for another look soon.
func (f *Folder) scan(watch *fsnotify.Watcher) (again bool, err error) {
	paths, dirs, err := f.list()
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
	changed := f.Set() == nil
	present := map[string]bool{}
	for _, path := range paths {
		present[path] = true
		known := f.files[path]
		if known == nil {
			known = &file{}
			f.files[path] = known
			changed = true
		}
		fresh, err := known.read(path, f.node)
		f.complain(known, path, err)
		changed = changed || fresh
		again = again || known.young
	}
	for path := range f.files {
		if !present[path] {
			delete(f.files, path)
			changed = true
		}
	}
	if changed {
		f.publish(f.merge())
	}
	return again, nil
}

func (f *Folder) list() (paths, dirs []string, err error) {
	err = filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != f.dir {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		hidden := path != f.dir && d.Name()[0] == '.'
		switch {
		case d.IsDir() && (hidden || path == filepath.Join(f.dir, "status")):
			return filepath.SkipDir
		case d.IsDir():
			dirs = append(dirs, path)
		case hidden || !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)):
		case len(paths) >= maxFiles:
			return fmt.Errorf("more than %d files", maxFiles)
		default:
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("manifest folder %s: %w", f.dir, err)
	}
	return paths, dirs, nil
}

// read takes a file's content if it may have changed; fresh says that it did. On an error what it said last stays.
func (m *file) read(path, node string) (fresh bool, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	if !m.young && st.Size() == m.size && st.ModTime().Equal(m.modified) {
		return false, nil
	}
	m.size, m.modified = st.Size(), st.ModTime()
	age := time.Since(m.modified)
	m.young = age >= 0 && age < racy
	if !st.Mode().IsRegular() || st.Size() > maxBytes {
		return false, fmt.Errorf("not a regular file of at most %d bytes", maxBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	list, namespaces, err := decode(text, node)
	if err != nil {
		return false, err
	}
	m.pods, m.namespaces = list, namespaces
	return true, nil
}

// complain logs what is wrong with a file once.
func (f *Folder) complain(m *file, path string, err error) {
	if err == nil {
		m.said = ""
		return
	}
	if text := err.Error(); text != m.said && !errors.Is(err, fs.ErrNotExist) {
		m.said = text
		f.log.Warn("manifest cannot be read; what it said last stays", "file", path, "err", err)
	}
}

func (f *Folder) merge() *pods.Set {
	var list []pods.Pod
	var namespaces []pods.Namespace
	for _, path := range slices.Sorted(maps.Keys(f.files)) {
		list = append(list, f.files[path].pods...)
		namespaces = append(namespaces, f.files[path].namespaces...)
	}
	return pods.NewSet(list, namespaces)
}

// Annotate notes the value of Redirection for a pod, whole or not at all; "" removes the note.
func (f *Folder) Annotate(_ context.Context, key pods.Key, _ pods.UID, value string) error {
	path := filepath.Join(f.dir, "status", "pods", key.Namespace+"_"+key.Name+".json")
	if value == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("status of pod %s: %w", key, err)
		}
		return nil
	}
	text, err := json.Marshal(map[string]any{"annotations": map[string]string{Redirection: value}})
	if err != nil {
		return fmt.Errorf("status of pod %s: %w", key, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("status of pod %s: %w", key, err)
	}
	temporary := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(temporary, text, 0o644); err != nil {
		return fmt.Errorf("status of pod %s: %w", key, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("status of pod %s: %w", key, err)
	}
	return nil
}
