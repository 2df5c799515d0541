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
	frames  mem.BufferSlice // shared, never changed
	size    int             // of the frames, in bytes
	removed []string
	first   bool // answers the first request of its type
}

// add appends a resource's frame without copying it.
func (r *response) add(frame []byte) {
	r.frames = append(r.frames, mem.SliceBuffer(frame))
	r.size += len(frame)
}

// Codec is the protobuf codec of gRPC that also takes our responses, without copying the resources, and our requests, without
// unpacking or copying their lists. The gRPC server that a Server is registered at must be made with
// grpc.ForceServerCodecV2(xds.Codec()).
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	r, ok := v.(*response)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	head := make([]byte, 0, 8+len(r.version)+len(r.typeURL)+len(r.nonce))
	head = appendString(head, 1, r.version)
	head = appendString(head, 4, r.typeURL)
	head = appendString(head, 5, r.nonce)
	for _, name := range r.removed {
		head = appendString(head, 6, name)
	}
	out := make(mem.BufferSlice, 0, len(r.frames)+1)
	return append(append(out, mem.SliceBuffer(head)), r.frames...), nil
}

// Unmarshal implements encoding.CodecV2. gRPC takes data back when it returns; a list that is to be read later keeps a reference.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	var err error
	if r, ok := v.(*request); ok {
		if err = r.decode(data); err == nil && r.held.n > 0 {
			data.Ref()
		}
	} else {
		err = c.CodecV2.Unmarshal(data, v)
	}
	if err != nil {
		return fmt.Errorf("malformed message: %w", err)
	}
	return nil
}
