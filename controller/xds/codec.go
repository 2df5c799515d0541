package xds

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that ours wraps
	"google.golang.org/grpc/mem"
)

// response is a DeltaDiscoveryResponse whose resources are encoded already.
type response struct {
	typeURL string
	nonce   string
	version string
	frames  [][]byte // shared, never changed
	removed []string
	first   bool // answers the first request of its type
}

// size is what it takes on the wire, in bytes, removed names aside.
func (r *response) size() (n int) {
	for _, f := range r.frames {
		n += len(f)
	}
	return n
}

// Codec is the protobuf codec of gRPC that also takes our responses, without copying the resources. The gRPC server that a
// Server is registered at must be made with grpc.ForceServerCodecV2(xds.Codec()).
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*response)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	head := appendString(nil, 1, r.version)
	head = appendString(head, 4, r.typeURL)
	head = appendString(head, 5, r.nonce)
	for _, name := range r.removed {
		head = appendString(head, 6, name)
	}
	out := make(mem.BufferSlice, 0, len(r.frames)+1)
	out = append(out, mem.SliceBuffer(head))
	for _, f := range r.frames {
		out = append(out, mem.SliceBuffer(f))
	}
	return out, nil
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if err := c.CodecV2.Unmarshal(data, v); err != nil {
		return fmt.Errorf("malformed message: %w", err)
	}
	return nil
}
