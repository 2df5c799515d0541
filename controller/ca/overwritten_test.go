package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"testing"
	"time"
)

// another is what somebody stores in the place of a mesh's authority, and its root.
func another(t *testing.T, now time.Time) (map[string][]byte, *x509.Certificate) {
	t.Helper()
	data, err := createRoot("cluster.local", 3650*24*time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := parseCerts(data[KeyCert])
	if err != nil {
		t.Fatal(err)
	}
	return data, certs[0]
}

// TestOverwrittenLosesNothing: somebody overwrites what is stored with another root, in each phase of a rotation. Every two
// workloads accept each other at all times, and in the end the other root is the mesh's.
func TestOverwrittenLosesNothing(t *testing.T) {
	for _, in := range []Phase{Stable, Distributing, Switched} {
		t.Run(in.String(), func(t *testing.T) {
			life := 3650 * 24 * time.Hour
			if in != Stable {
				life = 100 * time.Hour // replaces itself
			}
			done := false
			rotate(t, life, func(store Store, now Phase, hours int) *x509.Certificate {
				if done || now != in || hours < 4 {
					return nil
				}
				done = true
				data, root := another(t, time.Now())
				stored1(t, store, data)
				return root
			})
			if !done {
				t.Error("the phase was never seen")
			}
		})
	}
}

// TestOverwritten: what a replica does with another root, by what it is and knows.
func TestOverwritten(t *testing.T) {
	for _, c := range []struct {
		name  string
		life  time.Duration // of its own root
		away  time.Duration
		leads bool
		want  string // who signs then, and what is stored
	}{
		{"a follower waits", 1000 * time.Hour, time.Minute, false, "own, other"},
		{"a leader makes it the next", 1000 * time.Hour, time.Minute, true, "own, own"},
		{"a follower that was away follows", 1000 * time.Hour, windows.Overlap, false, "other, other"},
		{"a leader that was away follows", 1000 * time.Hour, windows.Overlap, true, "other, other"},
		{"nothing to lose", time.Hour, 2 * time.Hour, true, "other, other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := epoch
			store := NewFolder(t.TempDir())
			data, err := createRoot("cluster.local", c.life, now)
			if err != nil {
				t.Fatal(err)
			}
			stored1(t, store, data)
			s := open(t, store, func() time.Time { return now })
			now = now.Add(c.away)
			replaced, root := another(t, now)
			stored1(t, store, replaced)
			err = s.refresh(t.Context(), c.leads)
			if (err != nil) != (c.want == "own, other") || err != nil && !errors.Is(err, errOverwritten) {
				t.Errorf("refresh: %v", err)
			}
			got, _, err := store.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			name := func(other bool) string {
				if other {
					return "other"
				}
				return "own"
			}
			if is := name(s.change.get().cert.Equal(root)) + ", " + name(bytes.Equal(got[KeyCert], replaced[KeyCert])); is != c.want {
				t.Errorf("%s, want %s", is, c.want)
			}
			if c.want == "own, own" && (!bytes.Contains(s.Roots(), replaced[KeyCert]) || s.Phase() != Distributing) {
				t.Errorf("the other root is not on its way: %s", s.Phase())
			}
		})
	}
}

// TestOverwrittenByChain: an authority that is not a root cannot become one; the mesh goes on, and the store is left alone.
func TestOverwrittenByChain(t *testing.T) {
	store := NewFolder(t.TempDir())
	s := open(t, store, clock)
	roots := s.Roots()
	stored1(t, store, pluggedFiles(t))
	for _, leads := range []bool{false, true} {
		if err := s.refresh(t.Context(), leads); !errors.Is(err, errOverwritten) {
			t.Errorf("leads %v: %v", leads, err)
		}
	}
	if got, _, err := store.Load(t.Context()); err != nil || !bytes.Equal(s.Roots(), roots) || bytes.Contains(got[KeyCert], roots) {
		t.Errorf("changed: %v", err)
	}
	verify(t, s, 0)
}

// TestMissedPhase: a replica that could not read for one phase of a rotation follows it, and does not take it for another root.
func TestMissedPhase(t *testing.T) {
	now := epoch
	store := NewFolder(t.TempDir())
	stored1(t, store, istioData(t, 3650*24*time.Hour))
	s := open(t, store, func() time.Time { return now })
	st := s.current()
	for _, what := range []step{stepBegin, stepNote, stepSwitch} {
		data, err := st.apply(what, CauseOperator, "cluster.local", 3650*24*time.Hour, now)
		if err != nil {
			t.Fatal(err)
		}
		if st, err = openStored(data, "", s.cfg.Now); err != nil {
			t.Fatal(err)
		}
	}
	stored1(t, store, st.data)
	if err := s.refresh(t.Context(), true); err != nil || s.Phase() != Switched || !s.change.get().cert.Equal(st.signs.cert) {
		t.Errorf("%v %v", s.Phase(), err)
	}
}

// TestOverwrittenKeepsOtherRoots: roots of other meshes are trusted, whichever of the two they came with.
func TestOverwrittenKeepsOtherRoots(t *testing.T) {
	now := func() time.Time { return epoch }
	mesh, _ := another(t, epoch)
	theirs, _ := another(t, epoch)
	third, _ := another(t, epoch)
	fourth, _ := another(t, epoch)
	mesh[KeyRoot] = append(bytes.Clone(mesh[KeyCert]), third[KeyCert]...)
	theirs[KeyRoot] = append(bytes.Clone(theirs[KeyCert]), fourth[KeyCert]...)
	before, err := openStored(mesh, "", now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := openStored(theirs, "", now)
	if err != nil {
		t.Fatal(err)
	}
	data, err := adopt(before, other)
	if err != nil {
		t.Fatal(err)
	}
	st, err := openStored(data, "", now)
	if err != nil {
		t.Fatal(err)
	}
	for i, root := range [][]byte{mesh[KeyCert], theirs[KeyCert], third[KeyCert], fourth[KeyCert]} {
		if !bytes.Contains(st.signs.Roots(), root) {
			t.Errorf("root %d is not trusted", i)
		}
	}
}
