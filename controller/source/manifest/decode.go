package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// header is what every object starts with.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string `json:"name"`
		Namespace string `json:"namespace"`
	} `json:"metadata"`
}

// decodeObject decodes one document. name is Kind/namespace/name as far as known. A nil object without errors is of a kind
// that does not concern the mesh.
func decodeObject(doc *document) (obj objects.Object, name string, errs []error) {
	var h header
	if err := json.Unmarshal(doc.json, &h); err != nil {
		return nil, "", []error{typeError(doc, err, 0)}
	}
	if h.Kind == "" || h.APIVersion == "" {
		return nil, h.Metadata.Name, []error{&fieldError{"kind", 0, "apiVersion and kind are required"}}
	}
	if h.Metadata.Namespace == "" && !clusterScoped(h.Kind) {
		h.Metadata.Namespace = metav1.NamespaceDefault
	}
	name = objects.Key{Kind: objects.Kind(h.Kind), Namespace: h.Metadata.Namespace, Name: h.Metadata.Name}.String()
	obj, known := newObject(h.APIVersion, h.Kind)
	if !known {
		return nil, name, []error{&fieldError{"kind", 0, fmt.Sprintf("kind %s of %s is not known", h.Kind, h.APIVersion)}}
	}
	if err := checkName(h); err != nil {
		return nil, name, []error{err}
	}
	if obj == nil || h.Kind == string(objects.ConfigMap) && h.Metadata.Name != objects.MeshConfigName {
		return nil, name, nil
	}
	if spec, status, ok := protoParts(obj); ok {
		errs = decodeIstio(doc, obj, spec, status)
	} else {
		errs = decodeStrict(doc, doc.json, 0, obj)
	}
	if len(errs) == 0 {
		obj.SetNamespace(h.Metadata.Namespace)
		errs = check(obj)
	}
	return obj, name, errs
}

// checkName applies the API server's rules: names become parts of resource names and SPIFFE ids.
func checkName(h header) error {
	if h.Metadata.Name == "" {
		return &fieldError{"metadata.name", 0, "a name is required"}
	}
	if msgs := validation.IsDNS1123Subdomain(h.Metadata.Name); len(msgs) > 0 && !ignoredGroup(strings.Split(h.APIVersion, "/")[0]) {
		return &fieldError{"metadata.name", 0, msgs[0]}
	}
	if clusterScoped(h.Kind) {
		if h.Metadata.Namespace != "" {
			return &fieldError{"metadata.namespace", 0, h.Kind + " has no namespace"}
		}
		return nil
	}
	if msgs := validation.IsDNS1123Label(h.Metadata.Namespace); len(msgs) > 0 {
		return &fieldError{"metadata.namespace", 0, msgs[0]}
	}
	return nil
}

// decodeStrict decodes a part of the document, which starts at offset base, into a Kubernetes type.
func decodeStrict(doc *document, data []byte, base int, into any) []error {
	strict, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		return []error{typeError(doc, err, base)}
	}
	var errs []error
	for _, err := range strict {
		var fe kjson.FieldError
		if errors.As(err, &fe) {
			reason, _, _ := strings.Cut(err.Error(), " \"") // `unknown field "spec.x"`: the path is reported apart
			_, prefix := doc.at(base)
			errs = append(errs, &fieldError{joinPath(prefix, fe.FieldPath()), 0, reason})
			continue
		}
		errs = append(errs, err)
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
func typeError(doc *document, err error, base int) error {
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		line, path := doc.at(base + max(int(te.Offset)-1, 0))
		return &fieldError{path, line, fmt.Sprintf("cannot use a %s here: want %s", te.Value, te.Type)}
	}
	return &fieldError{"", 0, err.Error()}
}

// protoParts are the protobuf messages inside an Istio object.
func protoParts(obj objects.Object) (spec, status proto.Message, ok bool) {
	switch o := obj.(type) {
	case *securityv1.PeerAuthentication:
		return &o.Spec, &o.Status, true
	case *securityv1.AuthorizationPolicy:
		return &o.Spec, &o.Status, true
	case *networkingv1.ServiceEntry:
		return &o.Spec, &o.Status, true
	case *networkingv1.WorkloadEntry:
		return &o.Spec, &o.Status, true
	case *networkingv1.VirtualService:
		return &o.Spec, &o.Status, true
	case *networkingv1.DestinationRule:
		return &o.Spec, &o.Status, true
	default:
		return nil, nil, false
	}
}

// decodeIstio decodes an object whose spec and status are protobufs: strictly, but for the status, which controllers write.
func decodeIstio(doc *document, obj objects.Object, spec, status proto.Message) []error {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(doc.json, &parts); err != nil {
		return []error{typeError(doc, err, 0)}
	}
	meta, ok := obj.(metav1.ObjectMetaAccessor)
	if !ok {
		return []error{fmt.Errorf("%T has no metadata", obj)}
	}
	var errs []error
	for _, name := range sortedKeys(parts) {
		part, base := parts[name], doc.valueOffset(name)
		switch name {
		case "apiVersion", "kind":
		case "metadata":
			errs = append(errs, decodeStrict(doc, part, base, meta.GetObjectMeta())...)
		case "spec":
			if err := (protojson.UnmarshalOptions{}).Unmarshal(part, spec); err != nil {
				errs = append(errs, protoError(doc, err, base))
			}
		case "status":
			if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(part, status); err != nil {
				errs = append(errs, protoError(doc, err, base))
			}
		default:
			errs = append(errs, &fieldError{name, 0, "unknown field"})
		}
	}
	return errs
}

// protoPosition is how protojson states where an error is: its message is not meant for programs, and so may vary in its
// blanks.
var protoPosition = regexp.MustCompile(`^(?:proto:\s)?\s*(?:syntax error )?\(line 1:(\d+)\):\s*(.*)$`)

func protoError(doc *document, err error, base int) error {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	m := protoPosition.FindStringSubmatch(text)
	if m == nil {
		_, path := doc.at(base)
		return &fieldError{path, 0, strings.TrimSpace(strings.TrimPrefix(text, "proto:"))}
	}
	column, _ := strconv.Atoi(m[1])
	line, path := doc.at(base + max(column-1, 0))
	reason := m[2]
	if strings.HasPrefix(reason, "unknown field") {
		reason = "unknown field"
	}
	return &fieldError{path, line, reason}
}

// valueOffset is where the value of a field of the document itself starts.
func (d *document) valueOffset(name string) int {
	offset := 0
	for _, m := range d.marks {
		if m.path == name {
			offset = m.offset // the key's mark, then the value's
		}
	}
	return offset
}

func sortedKeys(m map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
