package validate

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/ambit-mesh/ambit/controller/strict"
)

// FuzzText: no text panics, and whatever is found has words.
func FuzzText(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for doc, err := range strict.Read(text) {
			if err == nil {
				worded(t, Document(doc, Settings{}).Findings)
			}
		}
	})
}

func worded(t *testing.T, list []Finding) {
	t.Helper()
	for _, f := range list {
		if f.Message == "" || f.Severity == "" {
			t.Fatalf("finding without words: %#v", f)
		}
	}
	if len(list) > 100_000 {
		t.Fatalf("%d findings", len(list))
	}
}

// FuzzObjects: objects of every kind, filled from the input, with absent elements and strange values, never panic.
func FuzzObjects(f *testing.F) {
	kinds := allKinds()
	if len(kinds) < 20 {
		f.Fatalf("only %d kinds", len(kinds))
	}
	for i := range uint64(16) {
		f.Add(i, i*31)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		for _, kind := range kinds {
			o := newObject(kind.GroupVersion().String(), kind.Kind)
			fill(reflect.ValueOf(o).Elem(), rand.New(rand.NewPCG(a, b)), 0)
			worded(t, Object(o, Settings{}))
		}
	})
}

// allKinds are those that have an object.
func allKinds() (out []schema.GroupVersionKind) {
	for group, versions := range groups {
		for _, version := range versions {
			gv := schema.GroupVersion{Group: group, Version: version}
			for kind := range scheme().KnownTypes(gv) {
				if newObject(gv.String(), kind) != nil {
					out = append(out, gv.WithKind(kind))
				}
			}
		}
	}
	return out
}

var words = []string{
	"", "*", "a", "*a*", "spiffe://a/ns/b/sa/c", "a/b", "10.0.0.0/8", "10.0.0.1", "80", "99999", "source.ip", "request.headers[a]", "request.auth.claims[",
	"(", "/{**}/a", "Service", "Gateway", "unix://", "*.a.b", "5xx,503,x", "istio.io/use-waypoint", "true", "{\"keys\":[{\"kty\":\"EC\"}]}", "http://%zz", "\xff", "1s",
}

// fill sets fields at random: the messages inside through their descriptors, which know what excludes what.
func fill(v reflect.Value, r *rand.Rand, depth int) {
	if !v.CanSet() || depth > 12 {
		return
	}
	if m, ok := v.Addr().Interface().(proto.Message); ok {
		fillMessage(m.ProtoReflect(), r, depth)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(words[r.IntN(len(words))])
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.IntN(80000) - 10))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Pointer:
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem(), r, depth+1)
		}
	case reflect.Slice:
		n := r.IntN(3)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(v.Index(i), r, depth+1)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range r.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(key, r, depth+1)
			fill(value, r, depth+1)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), r, depth+1)
		}
	}
}

func fillMessage(m protoreflect.Message, r *rand.Rand, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		switch {
		case r.IntN(4) == 0 || depth > 12:
		case f.IsMap():
			entries := m.Mutable(f).Map()
			key := protoreflect.ValueOfString(words[r.IntN(len(words))])
			if f.MapKey().Kind() != protoreflect.StringKind {
				key = scalar(f.MapKey(), r)
			}
			if f.MapValue().Message() != nil {
				value := entries.NewValue()
				fillMessage(value.Message(), r, depth+1)
				entries.Set(key.MapKey(), value)
			} else {
				entries.Set(key.MapKey(), scalar(f.MapValue(), r))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range r.IntN(3) {
				if f.Message() != nil {
					fillMessage(list.AppendMutable().Message(), r, depth+1)
				} else {
					list.Append(scalar(f, r))
				}
			}
		case f.Message() != nil:
			fillMessage(m.Mutable(f).Message(), r, depth+1)
		default:
			m.Set(f, scalar(f, r))
		}
	}
}

func scalar(f protoreflect.FieldDescriptor, r *rand.Rand) protoreflect.Value {
	n := r.IntN(80000)
	switch f.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(words[r.IntN(len(words))])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(words[r.IntN(len(words))]))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n%2 == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n % 12))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(n) - 100)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(n) - 100)
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n) - 100)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(int64(n) - 100)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	default:
		return protoreflect.ValueOfUint32(uint32(n))
	}
}

// TestNothingThere: lists with absent elements, which decoders do not make but programs may.
func TestNothingThere(t *testing.T) {
	for _, kind := range allKinds() {
		o := newObject(kind.GroupVersion().String(), kind.Kind)
		absent(reflect.ValueOf(o).Elem())
		worded(t, Object(o, Settings{}))
	}
}

func absent(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case !f.CanSet():
		case f.Kind() == reflect.Struct:
			absent(f)
		case f.Kind() == reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 2, 2))
		}
	}
}
