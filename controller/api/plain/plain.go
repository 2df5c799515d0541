// Package plain shows the wire's messages as people want to read them: plain values for JSON or YAML, addresses as text.
//
// Golden files and config dumps use it; nothing reads it back. Functions are pure.
package plain

import (
	"net/netip"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Value is m as maps, lists and scalars. Fields that are unset are left out.
func Value(m proto.Message) map[string]any { return message(m.ProtoReflect()) }

func message(m protoreflect.Message) map[string]any {
	out := map[string]any{}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			entries := map[string]any{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				entries[k.String()] = scalar(fd.MapValue(), v)
				return true
			})
			out[fd.JSONName()] = entries
		case fd.IsList():
			list := make([]any, v.List().Len())
			for i := range list {
				list[i] = scalar(fd, v.List().Get(i))
			}
			out[fd.JSONName()] = list
		default:
			out[fd.JSONName()] = scalar(fd, v)
		}
		return true
	})
	return out
}

func scalar(fd protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return message(v.Message())
	case protoreflect.EnumKind:
		if d := fd.Enum().Values().ByNumber(v.Enum()); d != nil {
			return string(d.Name())
		}
		return int32(v.Enum())
	case protoreflect.BytesKind:
		if a, ok := netip.AddrFromSlice(v.Bytes()); ok {
			return a.String()
		}
		return v.Bytes()
	default:
		return v.Interface()
	}
}
