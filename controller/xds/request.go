package xds

import (
	"errors"
	"fmt"
	"unicode/utf8"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// maxNames bounds what one client may ask for by name.
	maxNames = 200_000
	// maxHeld bounds what one client may say it holds: ten times the largest cluster this is built for.
	maxHeld = 500_000
)

// request is a DeltaDiscoveryRequest. A client that reconnects lists every resource it holds, a megabyte for 10,000 of them;
// that list stays as it came and is read in place, because fifty clients that reconnect at once would otherwise cost hundreds
// of megabytes of maps.
type request struct {
	node        *core.Node
	typeURL     string
	subscribe   []string
	unsubscribe []string
	held        holding
	nonce       string
	nack        *rpcstatus.Status // nil unless the client rejects
	err         error             // over a limit: to be told to the client
}

// holding is the names and versions a client brought along, in the encoding of the request they came in.
type holding struct {
	message []byte
	n       int
	sum     uint64 // of the pairs' hashes, as in contents
}

// each calls f with every name and version. Both are valid only during the call; names come as often as the client wrote them.
func (h holding) each(f func(name, version []byte)) {
	if h.n == 0 {
		return
	}
	_ = fields(h.message, func(num protowire.Number, v []byte) error {
		if num == 5 {
			name, version, err := heldEntry(v)
			if err == nil { // decode saw to that
				f(name, version)
			}
		}
		return nil
	})
}

// versions is the same as a map, for clients that hold little.
func (h holding) versions() map[string]string {
	out := make(map[string]string, h.n)
	h.each(func(name, version []byte) { out[string(name)] = string(version) })
	return out
}

var errNotUTF8 = errors.New("string that is not UTF-8")

// decode reads a message. It accepts what protobuf's own decoder accepts; r refers to data from then on.
func (r *request) decode(data []byte) error {
	*r = request{}
	return fields(data, func(num protowire.Number, v []byte) error {
		switch num {
		case 1:
			if r.node == nil {
				r.node = &core.Node{}
			}
			return proto.UnmarshalOptions{Merge: true}.Unmarshal(v, r.node)
		case 2:
			return text(v, &r.typeURL)
		case 3:
			return r.name(v, &r.subscribe)
		case 4:
			return r.name(v, &r.unsubscribe)
		case 5:
			r.held.message = data
			if r.held.n++; r.held.n > maxHeld && r.err == nil {
				r.err = status.Errorf(codes.ResourceExhausted, "more than %d resources said to be held: start without them", maxHeld)
			}
			name, version, err := heldEntry(v)
			r.held.sum += hashPair(name, version)
			return err
		case 6:
			return text(v, &r.nonce)
		case 7:
			if r.nack == nil {
				r.nack = &rpcstatus.Status{}
			}
			return proto.UnmarshalOptions{Merge: true}.Unmarshal(v, r.nack)
		}
		return nil
	})
}

func (r *request) name(v []byte, list *[]string) error {
	if len(*list) >= maxNames {
		if r.err == nil {
			r.err = status.Errorf(codes.ResourceExhausted, "more than %d names in one request", maxNames)
		}
		return nil
	}
	var s string
	if err := text(v, &s); err != nil {
		return err
	}
	*list = append(*list, s)
	return nil
}

// fields calls f with every length-delimited field of a message; others are of no concern here.
func fields(data []byte, f func(protowire.Number, []byte) error) error {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, data); n < 0 {
				return protowire.ParseError(n)
			}
			data = data[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := f(num, v); err != nil {
			return fmt.Errorf("field %d: %w", num, err)
		}
	}
	return nil
}

// heldEntry reads one entry of the map of versions.
func heldEntry(data []byte) (name, version []byte, err error) {
	if name, version, ok := shortEntry(data); ok {
		return name, version, nil
	}
	err = fields(data, func(num protowire.Number, v []byte) error {
		if num > 2 {
			return nil
		}
		if !utf8.Valid(v) {
			return errNotUTF8
		}
		if num == 1 {
			name = v
		} else {
			version = v
		}
		return nil
	})
	return name, version, err
}

// shortEntry reads what every encoder writes for names and versions of less than 128 bytes: key, then value.
func shortEntry(data []byte) (name, version []byte, ok bool) {
	if len(data) < 4 || data[0] != 1<<3|2 || data[1] >= 0x80 {
		return nil, nil, false
	}
	end := 2 + int(data[1])
	if len(data) < end+2 || data[end] != 2<<3|2 || data[end+1] >= 0x80 || len(data) != end+2+int(data[end+1]) {
		return nil, nil, false
	}
	name, version = data[2:end], data[end+2:]
	return name, version, utf8.Valid(name) && utf8.Valid(version)
}

func text(v []byte, into *string) error {
	if !utf8.Valid(v) {
		return errNotUTF8
	}
	*into = string(v)
	return nil
}
