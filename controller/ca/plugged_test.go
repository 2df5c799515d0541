package ca

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func plugged(dir string, now func() time.Time) PluggedInConfig {
	return PluggedInConfig{Dir: dir, Log: slog.New(slog.DiscardHandler), Metrics: NewAuthorityMetrics(prometheus.NewRegistry()), Now: now}
}

func TestPluggedIn(t *testing.T) {
	files, other := pluggedFiles(t), pluggedFiles(t)
	open := func(files map[string][]byte) (*PluggedIn, error) {
		dir := t.TempDir()
		writeFiles(t, dir, files)
		return OpenPluggedIn(plugged(dir, clock))
	}
	both := append(bytes.Clone(files[KeyRoot]), other[KeyRoot]...)
	without := with(files, KeyChain, nil)
	delete(without, KeyChain)
	for name, f := range map[string]map[string][]byte{
		"istio's names": files, "two roots": with(files, KeyRoot, both), "no chain": without,
		"cert-manager's names": {"tls.crt": files[KeyChain], "tls.key": files[KeyKey], "ca.crt": files[KeyRoot]},
	} {
		p, err := open(f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		verify(t, p, 1)
	}
	for name, f := range map[string]map[string][]byte{
		"empty": {}, "no key": {KeyCert: files[KeyCert], KeyRoot: files[KeyRoot]}, "another key": with(files, KeyKey, other[KeyKey]),
		"too large": with(files, KeyRoot, bytes.Repeat([]byte("x"), maxStored+1)),
	} {
		if _, err := open(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestReload: the folder is watched as Secrets are mounted, a folder behind a link that is swapped. What is good is taken over
// and told; what is broken, or would part the mesh, is not, and is counted.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	swap := func(name string, files map[string][]byte) {
		t.Helper()
		real := filepath.Join(dir, name)
		if err := os.Mkdir(real, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFiles(t, real, files)
		if err := os.Symlink(name, filepath.Join(dir, "..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
		for f := range files {
			_ = os.Symlink(filepath.Join("..data", f), filepath.Join(dir, f))
		}
	}
	first, second := pluggedFiles(t), pluggedFiles(t)
	both := append(bytes.Clone(first[KeyRoot]), second[KeyRoot]...)
	swap("..1", first)
	cfg := plugged(dir, clock)
	p, err := OpenPluggedIn(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	defer func() { cancel(); <-ended }()

	refused := func(name string, files map[string][]byte) {
		t.Helper()
		before := testutil.ToFloat64(cfg.Metrics.reloads)
		now := p.change.get()
		swap(name, files)
		for deadline := time.After(20 * time.Second); testutil.ToFloat64(cfg.Metrics.reloads) == before; {
			select {
			case <-deadline:
				t.Fatalf("%s: not counted", name)
			case <-time.After(10 * time.Millisecond):
			}
		}
		if p.change.get() != now {
			t.Errorf("%s: taken over", name)
		}
		verify(t, p, 1)
	}
	taken := func(name string, files map[string][]byte) {
		t.Helper()
		changed := p.Changed()
		swap(name, files)
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: not taken over", name)
		}
		if !bytes.Equal(p.Roots(), files[KeyRoot]) {
			t.Errorf("%s: other roots", name)
		}
		verify(t, p, 1)
	}
	refused("..broken", with(first, KeyKey, []byte("x")))
	refused("..parted", second) // nobody knows the new root
	taken("..both", with(first, KeyRoot, both))
	refused("..narrow", second) // what was signed before would not be accepted
	taken("..switched", with(second, KeyRoot, both))
	taken("..done", second)
}

// TestReplaceableAtTheEnd: once the old authority has ended, anything that works is better.
func TestReplaceableAtTheEnd(t *testing.T) {
	first, second := pluggedFiles(t), pluggedFiles(t)
	a, err := NewAuthority(first[KeyCert], first[KeyKey], first[KeyChain], first[KeyRoot], clock)
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewAuthority(second[KeyCert], second[KeyKey], second[KeyChain], second[KeyRoot], clock)
	if err != nil {
		t.Fatal(err)
	}
	if replaceable(a, b, epoch) == nil {
		t.Error("parted the mesh")
	}
	if err := replaceable(a, b, epoch.Add(24*time.Hour)); err != nil {
		t.Error(err)
	}
	// Another intermediate of the same root is no change of trust.
	rootKey, k1, k2 := ec(t, elliptic.P256()), ec(t, elliptic.P256()), ec(t, elliptic.P256())
	root := issueCA(t, "root", rootKey.Public(), nil, rootKey, time.Hour)
	i1, i2 := issueCA(t, "i1", k1.Public(), root, rootKey, time.Hour), issueCA(t, "i2", k2.Public(), root, rootKey, time.Hour)
	x, err := NewAuthority(pemCert(i1.Raw), ecPEM(t, k1), nil, pemCert(root.Raw), clock)
	if err != nil {
		t.Fatal(err)
	}
	y, err := NewAuthority(pemCert(i2.Raw), ecPEM(t, k2), nil, pemCert(root.Raw), clock)
	if err != nil {
		t.Fatal(err)
	}
	if err := replaceable(x, y, epoch); err != nil {
		t.Error(err)
	}
}
