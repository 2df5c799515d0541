package fleet

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// raw is a message as it is on the wire: fifty clients of one process cannot decode everything that fifty machines would.
type raw []byte

// rawCodec passes raw messages through.
type rawCodec struct{}

var _ encoding.CodecV2 = rawCodec{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*raw))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*raw) = data.Materialize()
	return nil
}

// response is what a client reads of a DeltaDiscoveryResponse.
type response struct {
	typeURL, nonce string
	resources      [][]byte
	removed        int
}

func parseResponse(b []byte) (r response, err error) {
	err = fields(b, func(n protowire.Number, v []byte) {
		switch n {
		case 2:
			r.resources = append(r.resources, v)
		case 4:
			r.typeURL = string(v)
		case 5:
			r.nonce = string(v)
		case 6:
			r.removed++
		}
	})
	return r, err
}

// resource is a Resource: name, version and the content of its Any.
type resource struct{ name, version, content []byte }

func parseResource(b []byte) (r resource, err error) {
	var inner error
	err = fields(b, func(n protowire.Number, v []byte) {
		switch n {
		case 1:
			r.version = v
		case 2:
			inner = fields(v, func(n protowire.Number, v []byte) {
				if n == 2 {
					r.content = v
				}
			})
		case 3:
			r.name = v
		}
	})
	if err == nil {
		err = inner
	}
	return r, err
}

// fields calls yield for each length-delimited field.
func fields(b []byte, yield func(protowire.Number, []byte)) error {
	for len(b) > 0 {
		number, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("tag: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if typ != protowire.BytesType {
			m := protowire.ConsumeFieldValue(number, typ, b)
			if m < 0 {
				return fmt.Errorf("field %d: %w", number, protowire.ParseError(m))
			}
			b = b[m:]
			continue
		}
		v, m := protowire.ConsumeBytes(b)
		if m < 0 {
			return fmt.Errorf("field %d: %w", number, protowire.ParseError(m))
		}
		yield(number, v)
		b = b[m:]
	}
	return nil
}
