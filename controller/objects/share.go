package objects

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"
)

// maxShared bounds each pool. A full pool forgets all: what comes later is shared anew, and nothing but memory is lost.
const maxShared = 1 << 14

// pool keeps one copy of values that many objects have. It is safe for concurrent use.
type pool[V any] struct {
	mu   sync.Mutex
	seen map[string]V
}

var (
	sharedStrings pool[string]
	sharedMaps    pool[map[string]string]
	sharedPorts   pool[[]NamedPort]
)

// get is the value of key, made if it is new.
func (p *pool[V]) get(key []byte, value func() V) V {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v, ok := p.seen[string(key)]; ok {
		return v
	}
	if p.seen == nil || len(p.seen) >= maxShared {
		p.seen = map[string]V{}
	}
	v := value()
	p.seen[string(key)] = v
	return v
}

// share is s, in the one copy that all equal strings have.
func share[S ~string](s S) S {
	if s == "" {
		return ""
	}
	return S(sharedStrings.get([]byte(s), func() string { return string(s) }))
}

// shareRef is a pointer to the shared string, or nil.
func shareRef[S ~string](s *S) *S {
	if s == nil {
		return nil
	}
	return new(share(*s))
}

// shareEach is a copy of a list with shared strings; nil for an empty one.
func shareEach[S ~string](list []S) []S {
	var out []S
	for _, s := range list {
		out = append(out, share(s))
	}
	return out
}

// shareMap is m with shared strings, the same map for all equal ones; nil for an empty one. m must not be used any more.
func shareMap(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	var key []byte
	for _, k := range slices.Sorted(maps.Keys(m)) {
		key = appendText(appendText(key, k), m[k])
	}
	return sharedMaps.get(key, func() map[string]string {
		out := make(map[string]string, len(m))
		for k, v := range m {
			out[share(k)] = share(v)
		}
		return out
	})
}

// sharePorts is ports, in the one slice that all equal ones have; nil without any.
func sharePorts(ports []NamedPort) []NamedPort {
	if len(ports) == 0 {
		return nil
	}
	var key []byte
	for _, p := range ports {
		key = binary.BigEndian.AppendUint16(appendText(key, p.Name), p.Number)
	}
	return sharedPorts.get(key, func() []NamedPort {
		out := slices.Clip(slices.Clone(ports))
		for i := range out {
			out[i].Name = share(out[i].Name)
		}
		return out
	})
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
