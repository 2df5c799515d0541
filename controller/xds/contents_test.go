package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// listOf is a list as a client writes it, in pieces of so many bytes.
func listOf(versions map[string]string, piece int) mem.BufferSlice {
	var data []byte
	for name, version := range versions {
		e := appendString(appendString(nil, 1, name), 2, version)
		data = protowire.AppendBytes(protowire.AppendTag(data, 5, protowire.BytesType), e)
	}
	return cut(data, piece)
}

func cut(data []byte, piece int) (out mem.BufferSlice) {
	for b := range slices.Chunk(data, piece) {
		out = append(out, mem.SliceBuffer(b))
	}
	return out
}

func holdingOf(t testing.TB, versions map[string]string) *holding {
	t.Helper()
	var r request
	if err := r.decode(listOf(versions, 50)); err != nil {
		t.Fatal(err)
	}
	return &r.held
}

// TestContents holds missing against a comparison name by name, and the sum against equality, while resources change.
func TestContents(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var c contents
	now := map[string]*entry{}
	for step := range 3000 {
		name := fmt.Sprint("r", rng.IntN(100))
		if old := now[name]; old != nil {
			c.drop(old)
			delete(now, name)
		}
		if rng.IntN(3) > 0 {
			now[name] = &entry{name: name, version: fmt.Sprint(rng.IntN(4))}
			c.put(now[name])
		}
		client, want := map[string]string{}, map[string]string{}
		var stale []string
		for name, e := range now {
			switch rng.IntN(8 + step%100) {
			case 0: // the client lacks it
				want[name] = e.version
			case 1:
				client[name], want[name] = "old", e.version
				stale = append(stale, name)
			default:
				client[name] = e.version
			}
		}
		if rng.IntN(4) == 0 {
			client["gone"] = "1"
			stale = append(stale, "gone")
		}
		h := holdingOf(t, client)
		got := map[string]string{}
		var gotStale []string
		c.missing(h, func(e *entry) { got[e.name] = e.version }, func(name []byte) { gotStale = append(gotStale, string(name)) })
		slices.Sort(stale)
		slices.Sort(gotStale)
		if !maps.Equal(got, want) || !slices.Equal(stale, gotStale) {
			t.Fatalf("step %d: lacks %v and is stale in %v, want %v and %v", step, got, gotStale, want, stale)
		}
		if same := len(want) == 0 && len(stale) == 0; same != (h.sum == c.sum && h.n == len(now)) {
			t.Fatalf("step %d: sums say %v, the lists %v", step, !same, same)
		}
	}
	if len(c.slots) > 101 {
		t.Errorf("%d slots for 100 names", len(c.slots))
	}
}

// BenchmarkReconnect is what a client's list costs the server, with nothing changed and with one resource changed.
func BenchmarkReconnect(b *testing.B) {
	var c contents
	client := map[string]string{}
	for i := range 55_000 {
		e := &entry{name: fmt.Sprintf("Kubernetes//Pod/team-%d/app-%d-abcdefghi-%d", i/200, i/10, i), version: fmt.Sprintf("%016x", i)}
		c.put(e)
		client[e.name] = e.version
	}
	data := listOf(client, 16<<10)
	for _, changed := range []bool{false, true} {
		b.Run(fmt.Sprint("changed=", changed), func(b *testing.B) {
			for b.Loop() {
				var r request
				if err := r.decode(data); err != nil {
					b.Fatal(err)
				}
				if changed || r.held.sum != c.sum {
					c.missing(&r.held, func(*entry) { b.Fatal("lacks") }, func([]byte) { b.Fatal("stale") })
				}
			}
		})
	}
}
