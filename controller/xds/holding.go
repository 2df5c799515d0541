package xds

import (
	"hash/maphash"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
)

// holding is the names and versions a client brought along, in the encoding and in the buffers of the request they came in. It has
// one owner, who may free it when it is not needed any more: gRPC uses the buffers again then. What is not freed is garbage.
type holding struct {
	list mem.BufferSlice
	n    int
	sum  uint64 // of the entries' hashes, as in contents
}

func (h *holding) free() {
	h.list.Free()
	*h = holding{}
}

// each calls f with every name and version, and their hash. They are valid only during the call; names come as often as the client
// wrote them.
func (h *holding) each(f func(name, version []byte, hash uint64)) {
	if h.n == 0 {
		return
	}
	for in := (fields{after: h.list}); ; {
		num, v, err := in.next()
		if num == 0 || err != nil { // decode saw to the errors
			return
		}
		if num != 5 {
			continue
		}
		if name, version, hash, err := heldEntry(v); err == nil {
			f(name, version, hash)
		}
	}
}

// versions is the same as a map, for clients that hold little.
func (h *holding) versions() map[string]string {
	out := make(map[string]string, h.n)
	h.each(func(name, version []byte, _ uint64) { out[string(name)] = string(version) })
	return out
}

// heldEntry reads one entry of the map of versions, key 1 and value 2. The hash is that of hashPair, whatever the encoding.
func heldEntry(data []byte) (name, version []byte, hash uint64, err error) {
	if end, ok := short(data); ok {
		return data[2:end], data[end+2:], maphash.Bytes(seed, data), nil
	}
	for in := (fields{piece: data}); ; {
		num, v, err := in.next()
		if err != nil {
			return nil, nil, 0, err
		}
		switch num {
		case 0:
			return name, version, hashPair(string(name), string(version)), nil
		case 1:
			name = v
		case 2:
			version = v
		default:
			continue
		}
		if !utf8.Valid(v) {
			return nil, nil, 0, errNotUTF8
		}
	}
}

// short recognises what every encoder writes for a name and a version of less than 128 bytes each. end is that of the name.
func short(data []byte) (end int, ok bool) {
	if len(data) < 4 || data[0] != 1<<3|2 || data[1] >= 0x80 {
		return 0, false
	}
	end = 2 + int(data[1])
	if len(data) < end+2 || data[end] != 2<<3|2 || data[end+1] >= 0x80 || len(data) != end+2+int(data[end+1]) {
		return 0, false
	}
	return end, ascii(data)
}

// count takes the entries that come next in a message, as long as they are what short recognises and lie in one buffer: nearly all of
// a long list, in the least time. What stops it is for next.
func (h *holding) count(in *fields) {
	b := in.piece
	for len(b) >= 2 && b[0] == 5<<3|2 {
		n, at := int(b[1]), 2
		if n >= 0x80 {
			if len(b) < 3 || b[2] >= 0x80 {
				break
			}
			n, at = n&0x7f|int(b[2])<<7, 3
		}
		if at+n > len(b) || h.n >= maxHeld {
			break
		}
		entry := b[at : at+n]
		if _, ok := short(entry); !ok {
			break
		}
		h.sum += maphash.Bytes(seed, entry)
		h.n++
		b = b[at+n:]
	}
	in.piece = b
}

var seed = maphash.MakeSeed()

// hashPair is the hash of a name that has a version: of the entry as encoders write it.
func hashPair(name, version string) uint64 {
	var room [256]byte
	return maphash.Bytes(seed, appendString(appendString(room[:0], 1, name), 2, version))
}
