package main

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// TestLock: one holder at a time though the file goes with each, and nothing stays.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var (
		all     sync.WaitGroup
		holders atomic.Int32
	)
	for range 8 {
		all.Go(func() {
			for range 50 {
				unlock, err := lock(path)
				if err != nil {
					t.Error(err)
					return
				}
				if holders.Add(1) != 1 {
					t.Error("two hold it")
				}
				holders.Add(-1)
				unlock()
			}
		})
	}
	all.Wait()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file stays: %v", err)
	}
}

// TestKey: whatever goes into a program changes its name in the cache.
func TestKey(t *testing.T) {
	tree := Tree(t.TempDir())
	write := func(path, text string) {
		path = filepath.Join(tree.module(), path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]string{}
	key := func(what, ldflags string) {
		t.Helper()
		k, err := tree.key("prog", ldflags)
		if err != nil {
			t.Fatal(err)
		}
		if was, ok := seen[k]; ok {
			t.Errorf("%s: the same key as %s", what, was)
		}
		seen[k] = what
	}
	if _, err := tree.key("prog", ""); err == nil {
		t.Error("no program, and no error")
	}
	write("go.mod", "module a")
	write("go.sum", "")
	write("prog/main.go", "package main")
	key("at first", "")
	key("flags", "-X a=b")
	write("prog/main.go", "package main // changed")
	key("source", "")
	write("prog/more.go", "package main")
	key("another file", "")
	write("go.sum", "a sum")
	key("sums", "")
	write("prog/go.mod", "module b")
	write("prog/go.sum", "")
	key("a module of its own", "")
}
