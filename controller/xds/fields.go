package xds

import (
	"errors"
	"io"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// fields reads the length-delimited fields of a protobuf message that lies in several buffers, as gRPC receives it; fields of
// other kinds are passed over. What a client sends at a reconnect is megabytes long: joining it first would cost as much memory
// again, and the garbage collections that go with it. The zero value is an empty message. It belongs to one goroutine.
type fields struct {
	piece  []byte          // what is left of the buffer that is being read
	after  mem.BufferSlice // the buffers after it
	joined []byte          // a copy of the newest field that lay across buffers
}

// next is the number and the content of the next field; the number is 0 at the end of the message. The content is valid until the
// next call.
func (f *fields) next() (protowire.Number, []byte, error) {
	for {
		// Nearly every field of a long message: both tag and length are of one byte, and all of it is in this buffer.
		if b := f.piece; len(b) >= 2 && b[0] < 0x80 && b[0]>>3 != 0 && b[0]&7 == byte(protowire.BytesType) && b[1] < 0x80 {
			if end := 2 + int(b[1]); end <= len(b) {
				f.piece = b[end:]
				return protowire.Number(b[0] >> 3), b[2:end], nil
			}
		}
		if len(f.piece) == 0 {
			if len(f.after) == 0 {
				return 0, nil, nil
			}
			f.piece, f.after = f.after[0].ReadOnlyData(), f.after[1:]
			continue
		}
		num, content, n := field(f.piece)
		if truncated(n) && len(f.after) > 0 {
			num, content, n = f.join()
		}
		if n < 0 {
			return 0, nil, protowire.ParseError(n)
		}
		f.skip(n)
		if num != 0 {
			return num, content, nil
		}
	}
}

// join reads a field that does not end in this buffer.
func (f *fields) join() (num protowire.Number, content []byte, n int) {
	for most := len(f.piece) + 128; ; most *= 2 {
		f.joined = append(f.joined[:0], f.piece...)
		for _, b := range f.after {
			if len(f.joined) == most {
				break
			}
			data := b.ReadOnlyData()
			f.joined = append(f.joined, data[:min(len(data), most-len(f.joined))]...)
		}
		num, content, n = field(f.joined)
		if !truncated(n) || len(f.joined) < most {
			return num, content, n
		}
	}
}

// skip goes on n bytes, of which the message has at least as many.
func (f *fields) skip(n int) {
	for n > len(f.piece) {
		n -= len(f.piece)
		f.piece, f.after = f.after[0].ReadOnlyData(), f.after[1:]
	}
	f.piece = f.piece[n:]
}

// field reads the field that b begins with and says how long it is, or returns one of protowire's errors as n. num is 0 for a field
// that is not length-delimited.
func field(b []byte) (num protowire.Number, content []byte, n int) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return 0, nil, n
	}
	if typ != protowire.BytesType {
		m := protowire.ConsumeFieldValue(num, typ, b[n:])
		if m < 0 {
			return 0, nil, m
		}
		return 0, nil, n + m
	}
	content, m := protowire.ConsumeBytes(b[n:])
	if m < 0 {
		return 0, nil, m
	}
	return num, content, n + m
}

func truncated(n int) bool { return n < 0 && errors.Is(protowire.ParseError(n), io.ErrUnexpectedEOF) }
