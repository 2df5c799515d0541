package hamt

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// TestAgainstMap drives a Map and a Go map with the same random edits, and checks that published versions stay.
func TestAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var m Map[int, int]
	want := map[int]int{}
	type version struct {
		m    Map[int, int]
		want map[int]int
	}
	var kept []version
	for range 300 {
		ed := Edit(m)
		for range rnd.IntN(200) {
			k := rnd.IntN(3000)
			if rnd.IntN(3) == 0 {
				ed.Delete(k)
				delete(want, k)
			} else {
				v := rnd.Int()
				ed.Set(k, v)
				want[k] = v
			}
			if rnd.IntN(100) == 0 {
				kept = append(kept, version{ed.Map(), maps.Clone(want)})
			}
		}
		m = ed.Map()
		kept = append(kept, version{m, maps.Clone(want)})
	}
	for i, v := range kept {
		if v.m.Len() != len(v.want) {
			t.Fatalf("version %d: %d keys, want %d", i, v.m.Len(), len(v.want))
		}
		if got := maps.Collect(v.m.All()); !maps.Equal(got, v.want) {
			t.Fatalf("version %d differs", i)
		}
		for k := range 3000 {
			got, ok := v.m.Get(k)
			if w, wok := v.want[k]; ok != wok || got != w {
				t.Fatalf("version %d key %d: %d %v, want %d %v", i, k, got, ok, w, wok)
			}
		}
	}
}

// TestDeepCollision forces keys through the list below the last level.
func TestDeepCollision(t *testing.T) {
	ed := Edit(Map[int, int]{})
	ed.hash = func(int) uint64 { return 42 }
	root := &node[int, int]{owner: ed.id}
	for k := range 20 {
		root, _ = ed.set(root, entry[int, int]{k, k * k}, 42, 0)
	}
	root, added := ed.set(root, entry[int, int]{3, -3}, 42, 0)
	if added {
		t.Fatal("replacing a key counted as adding it")
	}
	seen := 0
	root.all(func(k, v int) bool {
		seen++
		if want := k * k; v != want && (k != 3 || v != -3) {
			t.Errorf("key %d: %d", k, v)
		}
		return true
	})
	if seen != 20 {
		t.Fatalf("%d keys, want 20", seen)
	}
	for k := range 18 {
		root = ed.remove(root, k, 42, 0)
	}
	seen = 0
	root.all(func(k, v int) bool { seen++; return true })
	if seen != 2 {
		t.Fatalf("%d keys after removal, want 2", seen)
	}
}

func TestStopEarly(t *testing.T) {
	ed := Edit(Map[int, int]{})
	for k := range 100 {
		ed.Set(k, k)
	}
	n := 0
	for range ed.Map().All() {
		n++
		if n == 5 {
			break
		}
	}
	if n != 5 {
		t.Fatalf("yielded %d", n)
	}
}
