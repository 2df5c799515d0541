package ca

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func same(a, b map[string][]byte) bool {
	return maps.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
}

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	f := NewFolder(dir)
	if data, version, err := f.Load(t.Context()); data != nil || version != "" || err != nil {
		t.Fatalf("nothing there: %v %q %v", data, version, err)
	}
	if _, err := f.Save(t.Context(), map[string][]byte{KeyCert: {1}}, "x"); !errors.Is(err, ErrConflict) {
		t.Errorf("replaced what is not there: %v", err)
	}
	first := map[string][]byte{KeyCert: []byte("c"), KeyKey: []byte("k"), KeyNextCert: []byte("n")}
	v1, err := f.Save(t.Context(), first, "")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, KeyKey)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", info, err)
	}
	if _, err := f.Save(t.Context(), first, ""); !errors.Is(err, ErrConflict) {
		t.Errorf("created over what is there: %v", err)
	}
	second := map[string][]byte{KeyCert: []byte("c2"), KeyKey: []byte("k2")}
	v2, err := f.Save(t.Context(), second, v1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Save(t.Context(), first, v1); !errors.Is(err, ErrConflict) {
		t.Errorf("an older version replaced a newer one: %v", err)
	}
	if data, version, err := NewFolder(dir).Load(t.Context()); err != nil || version != v2 || !same(data, second) {
		t.Errorf("loaded %v %q %v", data, version, err)
	}
	if _, err := f.Save(t.Context(), map[string][]byte{"../x": {1}}, v2); err == nil {
		t.Error("a file outside the folder was written")
	}
}

// TestFolderCrash: a Save is all or nothing, whenever the process dies: before the journal is in place nothing has happened,
// and after it, whatever was carried out, the next Load has all.
func TestFolderCrash(t *testing.T) {
	dir := t.TempDir()
	f := NewFolder(dir)
	version, err := f.Save(t.Context(), map[string][]byte{KeyCert: []byte("c"), KeyKey: []byte("k"), KeyPrevious: []byte("p")}, "")
	if err != nil {
		t.Fatal(err)
	}
	next := map[string][]byte{KeyCert: []byte("c2"), KeyKey: []byte("k2")}
	journal, err := json.Marshal(next)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, journalFile), journal, 0o600), os.WriteFile(filepath.Join(dir, KeyCert), []byte("c2"), 0o600)); err != nil {
		t.Fatal(err)
	}
	data, got, err := f.Load(t.Context())
	if err != nil || !same(data, next) || got == version {
		t.Errorf("after a crash: %v %q %v", data, got, err)
	}
}

// TestFolderRace: of many that replace the same version, one wins.
func TestFolderRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	var won, lost atomic.Int32
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			_, err := NewFolder(dir).Save(t.Context(), map[string][]byte{KeyCert: {byte(i)}, KeyKey: {byte(i)}}, "")
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, ErrConflict):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 || lost.Load() != 7 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
}
