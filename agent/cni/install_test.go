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

	"github.com/fsnotify/fsnotify"
)

const theirs = `{"cniVersion":"1.0.0","name":"net","extra":12345678901234567890,"plugins":[{"type":"bridge","mtu":1450},{"type":"portmap"}]}`

func installer(t *testing.T, files map[string]string) *Installer {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry, err := Entry("/run/x.sock", []string{"kube-system"}, 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return &Installer{Dir: dir, Entry: entry, Log: slog.New(slog.DiscardHandler)}
}

func read1(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestInstallChainsBehindTheFirstThatCounts(t *testing.T) {
	i := installer(t, map[string]string{"00-broken.conflist": "{", "05-x.txt": theirs, "10-a.conflist": theirs, "20-b.conflist": theirs})
	for n := range 3 {
		path, changed, err := i.Install()
		if err != nil || filepath.Base(path) != "10-a.conflist" || changed != (n == 0) {
			t.Errorf("install %d: %s, %v, %v", n, path, changed, err)
		}
	}
	text := read1(t, i.Dir, "10-a.conflist")
	if strings.Count(text, Type) != 1 || strings.Index(text, Type) < strings.Index(text, "portmap") || !strings.Contains(text, "12345678901234567890") {
		t.Errorf("chained: %s", text)
	}
	if read1(t, i.Dir, "20-b.conflist") != theirs {
		t.Error("another file was touched")
	}
	if err := i.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if text := read1(t, i.Dir, "10-a.conflist"); strings.Contains(text, Type) || !strings.Contains(text, "portmap") {
		t.Errorf("unchained: %s", text)
	}
}

func TestASingleConfigurationBecomesAListAndComesBack(t *testing.T) {
	single := `{"cniVersion":"0.4.0","name":"one","type":"bridge"}`
	i := installer(t, map[string]string{"10-a.conf": single})
	if path, changed, err := i.Install(); err != nil || !changed || filepath.Base(path) != "10-a.conflist" {
		t.Fatalf("%s, %v, %v", path, changed, err)
	}
	if _, err := os.Stat(filepath.Join(i.Dir, "10-a.conf")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the runtime would still take 10-a.conf first")
	}
	if _, changed, err := i.Install(); changed || err != nil {
		t.Errorf("a second time: %v, %v", changed, err)
	}
	if err := i.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if got := read1(t, i.Dir, "10-a.conf"); got != single {
		t.Errorf("came back as %s", got)
	}
	if names, err := os.ReadDir(i.Dir); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestAChangedEntryIsReplacedAndAStrayOneRemoved(t *testing.T) {
	i := installer(t, map[string]string{"10-a.conflist": `{"name":"n","plugins":[{"type":"ambit-cni","socket":"/old"},{"type":"bridge"}]}`})
	if _, changed, err := i.Install(); err != nil || !changed {
		t.Fatal(changed, err)
	}
	if text := read1(t, i.Dir, "10-a.conflist"); strings.Contains(text, "/old") || strings.Index(text, "bridge") > strings.Index(text, Type) {
		t.Errorf("got %s", text)
	}
}

func TestNoNetworkYet(t *testing.T) {
	i := installer(t, map[string]string{"10-a.conflist": `{"name":"n","plugins":[{"type":"ambit-cni"}]}`})
	if _, _, err := i.Install(); err == nil || !strings.Contains(err.Error(), "no network is configured") {
		t.Errorf("got %v", err)
	}
}

func TestRunRepairsWhatOthersRewrite(t *testing.T) {
	i := installer(t, map[string]string{"10-a.conflist": theirs})
	i.Source, i.Bin = filepath.Join(t.TempDir(), "plugin"), t.TempDir()
	if err := os.WriteFile(i.Source, []byte("binary"), 0o755); err != nil {
		t.Fatal(err)
	}
	watch, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	if err := watch.Add(i.Dir); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	chained := func(name string) {
		t.Helper()
		limit := time.After(patience)
		for {
			if text, err := os.ReadFile(filepath.Join(i.Dir, name)); err == nil && strings.Contains(string(text), Type) {
				return
			}
			select {
			case <-watch.Events:
			case <-limit:
				t.Fatalf("%s was never repaired", name)
			}
		}
	}
	chained("10-a.conflist")
	if err := os.WriteFile(filepath.Join(i.Dir, "10-a.conflist"), []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	chained("10-a.conflist")
	if err := os.WriteFile(filepath.Join(i.Dir, "05-earlier.conflist"), []byte(theirs), 0o600); err != nil {
		t.Fatal(err)
	}
	chained("05-earlier.conflist")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := read1(t, i.Bin, Type); got != "binary" {
		t.Errorf("installed %q", got)
	}
	if err := i.Uninstall(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"10-a.conflist", "05-earlier.conflist"} {
		if strings.Contains(read1(t, i.Dir, name), Type) {
			t.Errorf("%s is still chained", name)
		}
	}
	if _, err := os.Stat(filepath.Join(i.Bin, Type)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the binary is still there")
	}
}
