package ca

import (
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	const day = 24 * time.Hour
	w := Windows{Overlap: day, Settle: time.Hour} // a phase is 25 h
	ends := epoch.Add(1000 * day)
	for _, tc := range []struct {
		name  string
		r     Rotation
		after time.Duration // since epoch, when the old root began
		f     facts
		want  step
		cause Cause
	}{
		{"young", Rotation{}, day, facts{}, stepNone, ""},
		{"a fifth is left, just", Rotation{}, 800 * day, facts{}, stepNone, ""},
		{"less than a fifth", Rotation{}, 800*day + 1, facts{}, stepBegin, CauseExpiry},
		{"operator", Rotation{}, day, facts{request: "now"}, stepBegin, CauseOperator},
		{"operator, done before", Rotation{Request: "now"}, day, facts{request: "now"}, stepNone, ""},
		{"operator, again", Rotation{Request: "now"}, day, facts{request: "again"}, stepBegin, CauseOperator},
		{"not distributed", Rotation{Phase: Distributing}, day, facts{}, stepNone, ""},
		{"distributed", Rotation{Phase: Distributing, Cause: CauseOperator}, day, facts{distributed: true}, stepNote, CauseOperator},
		{"waiting", Rotation{Phase: Distributing, Since: epoch}, 25*time.Hour - 1, facts{distributed: true}, stepNone, ""},
		{"long enough", Rotation{Phase: Distributing, Since: epoch}, 25 * time.Hour, facts{}, stepSwitch, ""},
		{"operator is impatient", Rotation{Phase: Distributing, Since: epoch}, time.Hour, facts{request: "faster"}, stepNone, ""},
		{"never distributed, and ended", Rotation{Phase: Distributing}, 1000 * day, facts{}, stepSwitch, ""},
		{"hurried, waiting", Rotation{Phase: Distributing, Since: ends.Add(-20 * time.Hour)}, 1000*day - 5*time.Hour - 1, facts{}, stepNone, ""},
		{"hurried", Rotation{Phase: Distributing, Since: ends.Add(-20 * time.Hour)}, 1000*day - 5*time.Hour, facts{}, stepSwitch, ""},
		{"old is still in use", Rotation{Phase: Switched, Since: epoch}, 25*time.Hour - 1, facts{}, stepNone, ""},
		{"old is not in use", Rotation{Phase: Switched, Since: epoch}, 25 * time.Hour, facts{}, stepFinish, ""},
		{"old has ended", Rotation{Phase: Switched, Since: ends.Add(-time.Hour)}, 1000 * day, facts{}, stepFinish, ""},
	} {
		tc.f.now, tc.f.from, tc.f.to = epoch.Add(tc.after), epoch, ends
		if got, cause := tc.r.next(tc.f, w); got != tc.want || cause != tc.cause {
			t.Errorf("%s: %v %q; want %v %q", tc.name, got, cause, tc.want, tc.cause)
		}
	}
	// A root that does not outlive a rotation's windows is replaced at once.
	short := facts{now: epoch, from: epoch, to: epoch.Add(74 * time.Hour)}
	if got, _ := (Rotation{}).next(short, w); got != stepBegin {
		t.Errorf("a short root: %v", got)
	}
}

func TestParseRotation(t *testing.T) {
	for text, ok := range map[string]bool{"": true, "{}": true, `{"phase":"switched","since":"2026-01-01T00:00:00Z"}`: true, `{"phase":"x"}`: false, "x": false, `{"since":1}`: false} {
		if _, err := parseRotation([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzStored: whatever is stored, opening it does not panic, and what opens can take every step and be opened again.
func FuzzStored(f *testing.F) {
	root, err := createRoot("cluster.local", 100*time.Hour, epoch)
	if err != nil {
		f.Fatal(err)
	}
	next, err := createRoot("cluster.local", 100*time.Hour, epoch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(root[KeyCert], root[KeyKey], []byte{}, []byte{}, next[KeyCert], next[KeyKey], []byte{}, []byte(`{"phase":"distributing"}`), []byte("x"))
	f.Add(root[KeyCert], root[KeyKey], []byte{}, root[KeyCert], []byte{}, []byte{}, next[KeyCert], []byte(`{"phase":"switched"}`), []byte{})
	f.Add([]byte("x"), []byte("y"), []byte("z"), []byte{}, []byte{}, []byte{}, []byte{}, []byte("{"), []byte{})
	f.Fuzz(func(t *testing.T, cert, key, chain, roots, nextCert, nextKey, previous, rotation, request []byte) {
		s, err := openStored(map[string][]byte{
			KeyCert: cert, KeyKey: key, KeyChain: chain, KeyRoot: roots, KeyNextCert: nextCert, KeyNextKey: nextKey, KeyPrevious: previous,
			KeyRotation: rotation, KeyRotate: request,
		}, "", clock)
		if err != nil {
			return
		}
		for range 5 {
			what, why := s.rotation.next(s.facts(s.old.NotAfter, true), Windows{Overlap: time.Hour})
			data, err := s.apply(what, why, "cluster.local", 100*time.Hour, epoch)
			if err != nil {
				return
			}
			if s, err = openStored(data, "", clock); err != nil {
				t.Fatalf("after %v: %v", what, err)
			}
		}
	})
}
