package ca

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var windows = Windows{Overlap: 24 * time.Hour, Settle: time.Hour}

func selfSignedConfig(store Store, now func() time.Time) SelfSignedConfig {
	return SelfSignedConfig{
		Store: store, TrustDomain: "cluster.local", Windows: windows, Log: slog.New(slog.DiscardHandler),
		Metrics: NewAuthorityMetrics(prometheus.NewRegistry()), Now: now, Poll: 15 * time.Minute,
	}
}

func open(t *testing.T, store Store, now func() time.Time) *SelfSigned {
	t.Helper()
	s, err := OpenSelfSigned(t.Context(), selfSignedConfig(store, now))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func stored1(t *testing.T, store Store, data map[string][]byte) {
	t.Helper()
	_, version, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Save(t.Context(), data, version); err != nil {
		t.Fatal(err)
	}
}

func TestSelfSigned(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	var replicas [4]*SelfSigned
	var group sync.WaitGroup
	for i := range replicas { // that start together make one root
		group.Go(func() {
			var err error
			if replicas[i], err = OpenSelfSigned(t.Context(), selfSignedConfig(NewFolder(dir), clock)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, s := range replicas {
		if !bytes.Equal(s.Roots(), replicas[0].Roots()) {
			t.Error("two roots")
		}
		verify(t, s, 0)
	}
	if again := open(t, NewFolder(dir), clock); !bytes.Equal(again.Roots(), replicas[0].Roots()) {
		t.Error("the root did not survive")
	}
	if err := os.WriteFile(filepath.Join(dir, KeyCert), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSelfSigned(t.Context(), selfSignedConfig(NewFolder(dir), clock)); err == nil {
		t.Error("a broken root was accepted or replaced")
	}
}

// TestTakeOver: an Istio mesh's root goes on as it is, and is not written to.
func TestTakeOver(t *testing.T) {
	store := NewFolder(t.TempDir())
	data := istioData(t, 3650*24*time.Hour)
	version, err := store.Save(t.Context(), data, "")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, store, clock)
	if !bytes.Equal(s.Roots(), data[KeyCert]) {
		t.Error("other roots")
	}
	verify(t, s, 0)
	if err := s.advance(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, now, err := store.Load(t.Context()); err != nil || now != version {
		t.Errorf("the Secret was changed: %v", err)
	}
}

// TestStoreChanges: what cannot be used changes nothing and is counted; what is gone is stored again.
func TestStoreChanges(t *testing.T) {
	dir := t.TempDir()
	store := NewFolder(dir)
	s := open(t, store, clock)
	roots := s.Roots()
	good, _, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored1(t, store, with(good, KeyKey, []byte("x")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Run(ctx) // one look
	if !bytes.Equal(s.Roots(), roots) {
		t.Error("a broken authority was taken over")
	}
	verify(t, s, 0)
	if err := s.refresh(t.Context(), false); err == nil {
		t.Error("no error for a broken authority")
	}
	for k := range good {
		if err := os.Remove(filepath.Join(dir, k)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.refresh(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if back, _, err := store.Load(t.Context()); err != nil || !same(back, good) {
		t.Errorf("not stored again: %v", err)
	}
}

// TestOperatorRotates: a new text starts one rotation; meanwhile a new root that is not distributed does not sign.
func TestOperatorRotates(t *testing.T) {
	now := epoch
	store := NewFolder(t.TempDir())
	stored1(t, store, istioData(t, 3650*24*time.Hour))
	s := open(t, store, func() time.Time { return now })
	old := s.change.get().cert
	data, _, err := store.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored1(t, store, with(data, KeyRotate, []byte("2026-11-25\n")))
	out := false
	step := func(after time.Duration, phase Phase, roots int, newSigns bool) {
		t.Helper()
		now = now.Add(after)
		err := s.advance(t.Context(), func(context.Context, []byte) error {
			if !out {
				return errors.New("one namespace is left")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		certs, err := parseCerts(s.Roots())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Phase(); got != phase || len(certs) != roots || s.change.get().cert.Equal(old) == newSigns {
			t.Fatalf("%v after: %v, %d roots, new signs %v", now.Sub(epoch), got, len(certs), !s.change.get().cert.Equal(old))
		}
	}
	step(0, Distributing, 2, false)
	step(windows.whole(), Distributing, 2, false)
	step(windows.whole(), Distributing, 2, false) // not out
	out = true
	step(time.Hour, Distributing, 2, false) // noted
	step(windows.whole()-1, Distributing, 2, false)
	step(1, Switched, 2, true)
	data, _, err = store.Load(t.Context())
	if err != nil || bytes.Contains(data[KeyKey], []byte("RSA")) || len(data[KeyNextKey]) > 0 {
		t.Errorf("the old key is still stored, or the new one twice: %v", err)
	}
	step(windows.whole()-1, Switched, 2, true)
	step(1, Stable, 1, true)
	step(1000*time.Hour, Stable, 1, true) // once
	if v := testutil.ToFloat64(s.cfg.Metrics.phases.WithLabelValues("stable")); v != 1 {
		t.Errorf("phase metric %v", v)
	}
}

// failing is a store that is away now and then, and in which another replica is always first.
type failing struct {
	Store
	away, conflict bool
}

func (f *failing) Load(ctx context.Context) (map[string][]byte, string, error) {
	if f.away {
		return nil, "", errors.New("away")
	}
	return f.Store.Load(ctx)
}

func (f *failing) Save(ctx context.Context, data map[string][]byte, version string) (string, error) {
	if f.conflict {
		return "", ErrConflict
	}
	return f.Store.Save(ctx, data, version)
}

func TestStoreAway(t *testing.T) {
	f := &failing{Store: NewFolder(t.TempDir())}
	stored1(t, f.Store, istioData(t, time.Hour))
	s := open(t, f, clock)
	f.away = true
	if err := s.advance(t.Context(), nil); err == nil {
		t.Error("rotated without knowing where")
	}
	verify(t, s, 0)
	f.away, f.conflict = false, true
	if err := s.advance(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if s.Phase() != Stable {
		t.Error("uses what another replica's save has kept from being stored")
	}
	f.conflict = false
	if err := s.advance(t.Context(), nil); err != nil || s.Phase() != Distributing {
		t.Errorf("%v %v", s.now.rotation, err)
	}
}

// TestExtraRoots: roots of other meshes that an operator added stay trusted through a rotation.
func TestExtraRoots(t *testing.T) {
	data, other := istioData(t, 3650*24*time.Hour), pluggedFiles(t)[KeyRoot]
	data[KeyRoot] = append(bytes.Clone(data[KeyCert]), other...)
	st, err := openStored(data, "", clock)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []step{stepBegin, stepNote, stepSwitch, stepFinish} {
		next, err := st.apply(what, CauseOperator, "cluster.local", time.Hour, epoch)
		if err != nil {
			t.Fatal(what, err)
		}
		if st, err = openStored(maps.Clone(next), "", clock); err != nil {
			t.Fatal(what, err)
		}
		if !bytes.Contains(st.signs.Roots(), other) {
			t.Errorf("after step %v the other mesh is not trusted", what)
		}
	}
	if certs, err := parseCerts(st.signs.Roots()); err != nil || len(certs) != 2 {
		t.Errorf("at the end %d roots, want the new one and the other mesh's: %v", len(certs), err)
	}
}

// TestRotationLosesNothing: two replicas, one the leader, replace an Istio mesh's root that nears its end, under workloads that
// renew at half of their certificates' lives, each at the replica that it happens to meet. At all times every two of them
// accept each other, in both directions, over TLS.
func TestRotationLosesNothing(t *testing.T) {
	phases := map[Phase]bool{}
	rotate(t, 100*time.Hour, func(_ Store, p Phase, _ int) *x509.Certificate { phases[p] = true; return nil })
	if len(phases) != 3 {
		t.Errorf("phases seen: %v", phases)
	}
}

// rotate runs a mesh of workloads whose root ends after life, until another one has replaced it and nothing of before is left.
// meddle is called every two hours with the phase and the hour; the root that it answers is the one that must remain.
func rotate(t *testing.T, life time.Duration, meddle func(Store, Phase, int) *x509.Certificate) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now
		store := NewFolder(dir)
		data, err := createRoot("cluster.local", life, now())
		if err != nil {
			t.Fatal(err)
		}
		stored1(t, store, data)
		leader, follower := open(t, store, now), open(t, NewFolder(dir), now)
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { _ = leader.Run(ctx) })
		group.Go(func() { _ = leader.Lead(ctx, nil) })
		group.Go(func() { _ = follower.Run(ctx) })
		before := leader.change.get().cert
		var mesh []*workload
		for i := range 4 {
			mesh = append(mesh, &workload{at: now().Add(time.Duration(i) * 3 * time.Hour)})
		}
		var last *x509.Certificate
		after := 0 // hours since it has ended: as long as there are certificates of before, or roots
		for hours := 0; after < 26; hours += 2 {
			if hours > 300 {
				t.Fatal("the rotation does not end")
			}
			if cert := leader.change.get().cert; leader.Phase() == Stable && !cert.Equal(before) && (last == nil || cert.Equal(last)) {
				after += 2
			}
			for i, w := range mesh {
				w.renew(t, []*SelfSigned{leader, follower}[(hours/2+i)%2], now())
			}
			for _, a := range mesh {
				for _, b := range mesh {
					if err := handshake(a, b); err != nil {
						t.Fatalf("%d h, %s: %v", hours, leader.Phase(), err)
					}
				}
			}
			if root := meddle(store, leader.Phase(), hours); root != nil {
				last = root
			}
			time.Sleep(2 * time.Hour)
			synctest.Wait()
		}
		if !bytes.Equal(leader.Roots(), follower.Roots()) {
			t.Error("replicas differ")
		}
		cancel()
		group.Wait()
	})
}
