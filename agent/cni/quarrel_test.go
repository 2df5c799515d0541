package cni

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestQuarrel(t *testing.T) {
	now := time.Now()
	var q quarrel
	q.look(now, true) // installing is no repair
	for n := range quarrelMany {
		if q.on() || q.pause() != repairPause {
			t.Fatalf("a quarrel after %d repairs", n)
		}
		q.look(now.Add(time.Duration(n)*time.Second), true)
	}
	if !q.on() || q.pause() != quarrelPause {
		t.Error("no quarrel")
	}
	q.look(now.Add(quarrelTime-time.Second), false)
	if !q.on() {
		t.Error("over too soon")
	}
	q.look(now.Add(quarrelTime+time.Minute), false)
	if q.on() {
		t.Error("it never ends")
	}
	for range 1000 {
		q.look(now, true)
	}
	if len(q.repairs) > 2*quarrelMany {
		t.Errorf("%d repairs are remembered", len(q.repairs))
	}
}

// Somebody takes the plugin out whenever it is put in: people are told who and where, once.
func TestAQuarrelIsReported(t *testing.T) {
	i := installer(t, map[string]string{"10-a.conflist": theirs})
	told, looks := make(chan string, 100), make(chan error, 100)
	i.Rewritten, i.Report = func(m string) { told <- m }, func(err error) { looks <- err }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	limit := time.After(patience)
	for message := ""; message == ""; {
		select {
		case err := <-looks:
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(i.Dir, "10-a.conflist"), []byte(theirs), 0o600); err != nil {
				t.Fatal(err)
			}
		case message = <-told:
			if !strings.Contains(message, "10-a.conflist") || !strings.Contains(message, "cni.exclusive=false") {
				t.Errorf("told %q", message)
			}
		case <-limit:
			t.Fatal("nobody was told")
		}
	}
	cancel()
	if err := <-done; err != nil || len(told) != 0 {
		t.Errorf("%v; told %d times more", err, len(told))
	}
}

// The folder comes late, and is made anew.
func TestRunWaitsForTheFolder(t *testing.T) {
	i := installer(t, nil)
	i.Dir = filepath.Join(i.Dir, "net.d")
	looks := make(chan error, 100)
	i.Report, i.Log = func(err error) { looks <- err }, slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	if err := <-looks; !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
	for range 2 {
		write(t, i.Dir, "10-a.conflist", theirs)
		for err := range looks {
			if err == nil {
				break
			}
		}
		if text := read1(t, i.Dir, "10-a.conflist"); !strings.Contains(text, Type) {
			t.Errorf("said to be chained: %s", text)
		}
		if err := os.RemoveAll(i.Dir); err != nil {
			t.Fatal(err)
		}
		for err := range looks {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// write makes the folder too.
func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(filepath.Dir(dir), name)
	if err := os.WriteFile(part, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(part, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}
