package xds

import (
	"errors"
	"fmt"
	"unicode/utf8"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// maxNames bounds what one client may ask for by name.
	maxNames = 200_000
	// maxHeld bounds what one client may say it holds: ten times the largest cluster this is built for.
	maxHeld = 500_000
	// maxNode bounds what a client says of itself, in bytes: unpacked it is a hundred times as much.
	maxNode = 256 << 10
)

// request is a DeltaDiscoveryRequest. A client that reconnects lists every resource it holds, a megabyte for 10,000 of them;
// that list stays in the buffers it came in and is read in place, because fifty clients that reconnect at once would otherwise
// cost hundreds of megabytes of maps.
type request struct {
	node        *core.Node
	typeURL     string
	subscribe   []string
	unsubscribe []string
	held        holding
	nonce       string
	rejects     bool   // what the nonce is of
	complaint   string // why
	err         error  // over a limit: to be told to the client
	nodeSize    int
}

var errNotUTF8 = errors.New("string that is not UTF-8")

// decode reads a message. It accepts what protobuf's own decoder accepts. r.held refers to data from then on, the rest does not.
func (r *request) decode(data mem.BufferSlice) error {
	*r = request{}
	for in := (fields{after: data}); ; {
		if r.held.count(&in); r.held.n > 0 {
			r.held.list = data
		}
		num, v, err := in.next()
		if err != nil || num == 0 {
			return err
		}
		if num == 5 { // first: there may be many
			err = r.hold(v, data)
		} else {
			err = r.field(num, v)
		}
		if err != nil {
			return fmt.Errorf("field %d: %w", num, err)
		}
	}
}

func (r *request) field(num protowire.Number, v []byte) error {
	switch num {
	case 1:
		if r.nodeSize += len(v); r.nodeSize > maxNode {
			r.limit("a node of more than %d bytes", maxNode)
			return nil
		}
		if r.node == nil {
			r.node = &core.Node{}
		}
		return proto.UnmarshalOptions{Merge: true}.Unmarshal(v, r.node)
	case 2:
		for _, url := range types {
			if string(v) == url {
				r.typeURL = url // not another copy
				return nil
			}
		}
		return text(v, &r.typeURL)
	case 3:
		return r.name(v, &r.subscribe)
	case 4:
		return r.name(v, &r.unsubscribe)
	case 6:
		return text(v, &r.nonce)
	case 7:
		r.rejects = true
		return r.status(v)
	}
	return nil
}

// status reads the message of a google.rpc.Status, its field 2. Its presence is a rejection, whatever is in it.
func (r *request) status(v []byte) error {
	for in := (fields{piece: v}); ; {
		num, v, err := in.next()
		if err != nil || num == 0 {
			return err
		}
		if num == 2 {
			if err := text(v, &r.complaint); err != nil {
				return err
			}
		}
	}
}

// limit notes that a limit was passed: the first is told.
func (r *request) limit(format string, most int) {
	if r.err == nil {
		r.err = status.Errorf(codes.ResourceExhausted, format, most)
	}
}

func (r *request) hold(entry []byte, data mem.BufferSlice) error {
	r.held.list = data
	if r.held.n++; r.held.n > maxHeld {
		r.limit("more than %d resources said to be held: start without them", maxHeld)
	}
	_, _, hash, err := heldEntry(entry)
	r.held.sum += hash
	return err
}

func (r *request) name(v []byte, list *[]string) error {
	if len(*list) >= maxNames {
		r.limit("more than %d names in one request", maxNames)
		return nil
	}
	var s string
	if err := text(v, &s); err != nil {
		return err
	}
	*list = append(*list, s)
	return nil
}

func text(v []byte, into *string) error {
	if !utf8.Valid(v) {
		return errNotUTF8
	}
	*into = string(v)
	return nil
}
