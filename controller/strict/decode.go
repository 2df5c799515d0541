package strict

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// Header is what every object starts with.
type Header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
		Namespace    string `json:"namespace"`
	} `json:"metadata"`
}

// Group is the API group; "" for the core's.
func (h Header) Group() string {
	group, _, ok := strings.Cut(h.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// String is Kind/namespace/name.
func (h Header) String() string {
	return objects.Key{Kind: objects.Kind(h.Kind), Namespace: h.Metadata.Namespace, Name: h.Metadata.Name}.String()
}

// Header reads the header. The namespace is as written.
func (d *Document) Header() (Header, *Error) {
	var h Header
	if err := json.Unmarshal(d.json, &h); err != nil {
		return Header{}, typeError(d, err, 0)
	}
	if h.Kind == "" || h.APIVersion == "" {
		return h, &Error{Field: "kind", Reason: "apiVersion and kind are required"}
	}
	return h, nil
}

// CheckName applies the API server's rules: names become parts of resource names and SPIFFE ids. Kinds that do not concern the
// mesh may have other names (loose).
func CheckName(h Header, clusterScoped, loose bool) *Error {
	if h.Metadata.Name == "" {
		return &Error{Field: "metadata.name", Reason: "a name is required"}
	}
	if msgs := validation.IsDNS1123Subdomain(h.Metadata.Name); len(msgs) > 0 && !loose {
		return &Error{Field: "metadata.name", Reason: msgs[0]}
	}
	if clusterScoped {
		if h.Metadata.Namespace != "" {
			return &Error{Field: "metadata.namespace", Reason: h.Kind + " has no namespace"}
		}
		return nil
	}
	if msgs := validation.IsDNS1123Label(h.Metadata.Namespace); len(msgs) > 0 {
		return &Error{Field: "metadata.namespace", Reason: msgs[0]}
	}
	return nil
}

// Decode decodes the document into obj, a pointer to a typed object. What decodes in spite of errors is in obj.
func (d *Document) Decode(obj objects.Object) []*Error {
	if spec, status, ok := protoParts(obj); ok {
		return d.decodeIstio(obj, spec, status)
	}
	return d.decodeStrict(d.json, 0, obj)
}

// Loosely decodes what fits into a view of the document and ignores all else.
func (d *Document) Loosely(view any) *Error {
	if err := json.Unmarshal(d.json, view); err != nil {
		return typeError(d, err, 0)
	}
	return nil
}

// decodeStrict decodes a part of the document, which starts at offset base, into a Kubernetes type.
func (d *Document) decodeStrict(data []byte, base int, into any) []*Error {
	strict, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		return []*Error{typeError(d, err, base)}
	}
	var errs []*Error
	for _, err := range strict {
		var fe kjson.FieldError
		if !errors.As(err, &fe) {
			errs = append(errs, &Error{Reason: err.Error()})
			continue
		}
		reason, _, _ := strings.Cut(err.Error(), " \"") // `unknown field "spec.x"`: the path is reported apart
		_, prefix := d.at(base)
		e := &Error{Field: joinPath(prefix, fe.FieldPath()), Reason: reason}
		if reason == unknownField {
			e.Unknown, e.Suggest = true, didYouMean(fe.FieldPath(), fieldsOf(reflect.TypeOf(into), fe.FieldPath()))
		}
		errs = append(errs, e)
	}
	return errs
}

func joinPath(prefix, path string) string {
	if prefix == "" {
		return path
	}
	return prefix + "." + path
}

// typeError finds the field in a decoding error that knows an offset.
func typeError(d *Document, err error, base int) *Error {
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		line, path := d.at(base + max(int(te.Offset)-1, 0))
		return &Error{Field: path, Line: line, Reason: fmt.Sprintf("cannot use a %s here: want %s", te.Value, te.Type)}
	}
	return &Error{Reason: err.Error()}
}

// protoParts are the protobuf messages inside an Istio object: client-go's types hold them in these two fields.
func protoParts(obj objects.Object) (spec, status proto.Message, ok bool) {
	v := reflect.ValueOf(obj)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return nil, nil, false
	}
	s, t := v.Elem().FieldByName("Spec"), v.Elem().FieldByName("Status")
	if !s.IsValid() || !t.IsValid() {
		return nil, nil, false
	}
	spec, ok = s.Addr().Interface().(proto.Message)
	if !ok {
		return nil, nil, false
	}
	status, ok = t.Addr().Interface().(proto.Message)
	return spec, status, ok
}

// decodeIstio decodes an object whose spec and status are protobufs: strictly, but for the status, which controllers write.
func (d *Document) decodeIstio(obj objects.Object, spec, status proto.Message) []*Error {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(d.json, &parts); err != nil {
		return []*Error{typeError(d, err, 0)}
	}
	meta, ok := obj.(metav1.ObjectMetaAccessor)
	if !ok {
		return []*Error{{Reason: fmt.Sprintf("%T has no metadata", obj)}}
	}
	obj.GetObjectKind().SetGroupVersionKind(gvk(parts))
	lenient := protojson.UnmarshalOptions{DiscardUnknown: true}
	var errs []*Error
	for _, name := range sortedKeys(parts) {
		part, base := parts[name], d.valueOffset(name)
		switch name {
		case "apiVersion", "kind":
		case "metadata":
			errs = append(errs, d.decodeStrict(part, base, meta.GetObjectMeta())...)
		case "spec":
			errs = append(errs, unknownFields(part, spec.ProtoReflect().Descriptor(), name)...)
			if err := lenient.Unmarshal(part, spec); err != nil {
				errs = append(errs, protoError(d, err, base))
			}
		case "status":
			if err := lenient.Unmarshal(part, status); err != nil {
				errs = append(errs, protoError(d, err, base))
			}
		default:
			errs = append(errs, &Error{Field: name, Reason: unknownField, Unknown: true, Suggest: didYouMean(name, []string{"apiVersion", "kind", "metadata", "spec", "status"})})
		}
	}
	return errs
}

// protoPosition is how protojson states where an error is: its message is not meant for programs, and so may vary in its
// blanks.
var protoPosition = regexp.MustCompile(`^(?:proto:\s)?\s*(?:syntax error )?\(line 1:(\d+)\):\s*(.*)$`)

func protoError(d *Document, err error, base int) *Error {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	m := protoPosition.FindStringSubmatch(text)
	if m == nil {
		_, path := d.at(base)
		return &Error{Field: path, Reason: strings.TrimSpace(strings.TrimPrefix(text, "proto:"))}
	}
	column, _ := strconv.Atoi(m[1])
	line, path := d.at(base + max(column-1, 0))
	if strings.HasSuffix(m[2], " is already set") {
		return &Error{Field: path, Line: line, Reason: "excludes another field that is set beside it", Suggest: "keep one of them"}
	}
	return &Error{Field: path, Line: line, Reason: m[2]}
}

// valueOffset is where the value of a field of the document itself starts.
func (d *Document) valueOffset(name string) int {
	offset := 0
	for _, m := range d.marks {
		if m.path == name {
			offset = m.offset // the key's mark, then the value's
		}
	}
	return offset
}

func sortedKeys[T any](m map[string]T) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func gvk(parts map[string]json.RawMessage) schema.GroupVersionKind {
	var version, kind string
	_ = json.Unmarshal(parts["apiVersion"], &version) // the header was read before
	_ = json.Unmarshal(parts["kind"], &kind)
	return schema.FromAPIVersionAndKind(version, kind)
}
