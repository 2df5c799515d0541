// Package manifest answers which objects a file of Kubernetes manifests holds, and what is wrong with it, by file, line and
// field.
//
// It decodes strictly, as package strict does, and takes only the kinds it knows. It reads no file and keeps nothing;
// controller/source/folder calls it. Functions are pure.
package manifest

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/strict"
)

// MaxBytes bounds a file. Larger ones are a Problem, never read.
const MaxBytes = 64 << 20

// Item is one object and where it was written.
type Item struct {
	Key    objects.Key
	Object objects.Object
	Line   int // of the document's first field
}

// Problem is one thing that is wrong with a file. Its text is meant for the person who wrote it.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`   // 1 is the first; 0: the whole file
	Object string `json:"object,omitempty"` // Kind/namespace/name, as far as it could be read
	Field  string `json:"field,omitempty"`  // spec.rules[0].from
	Reason string `json:"reason"`
}

// Error is file:line: object: field: reason, leaving out what is not known.
func (p Problem) Error() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
	}
	for _, part := range []string{p.Object, p.Field, p.Reason} {
		if part != "" {
			s += ": " + part
		}
	}
	return s
}

// Decode reads every document of data, YAML or JSON, lists flattened. Objects of kinds that do not concern the mesh (a
// Deployment, a ConfigMap) are checked for their names and left out. Items are only meaningful when there are no Problems.
func Decode(file string, data []byte) ([]Item, []Problem) {
	if len(data) > MaxBytes {
		return nil, []Problem{{File: file, Reason: fmt.Sprintf("file of %d bytes: want at most %d", len(data), MaxBytes)}}
	}
	d := decoder{file: file, seen: map[objects.Key]int{}}
	for doc, err := range strict.Read(data) {
		if err != nil {
			d.report(doc, "", err)
			continue
		}
		d.document(doc)
	}
	return d.items, d.problems
}

type decoder struct {
	file     string
	items    []Item
	problems []Problem
	seen     map[objects.Key]int // line of each object
}

func (d *decoder) document(doc *strict.Document) {
	obj, name, errs := decodeObject(doc)
	if len(errs) > 0 {
		d.report(doc, name, errs...)
		return
	}
	if obj == nil {
		return
	}
	key := objects.Key{Kind: kindOf(obj), Namespace: obj.GetNamespace(), Name: obj.GetName()}
	if line, ok := d.seen[key]; ok {
		d.report(doc, key.String(), &strict.Error{Field: "metadata.name", Line: doc.Line(), Reason: fmt.Sprintf("same object as in line %d", line)})
		return
	}
	d.seen[key] = doc.Line()
	d.items = append(d.items, Item{Key: key, Object: objects.Trim(obj), Line: doc.Line()})
}

// decodeObject decodes one document. name is Kind/namespace/name as far as known. A nil object without errors is of a kind
// that does not concern the mesh.
func decodeObject(doc *strict.Document) (obj objects.Object, name string, errs []*strict.Error) {
	h, err := doc.Header()
	if err != nil {
		return nil, h.Metadata.Name, []*strict.Error{err}
	}
	if h.Metadata.Namespace == "" && !clusterScoped(h.Kind) {
		h.Metadata.Namespace = metav1.NamespaceDefault
	}
	obj, known := newObject(h.APIVersion, h.Kind)
	if !known {
		return nil, h.String(), []*strict.Error{{Field: "kind", Reason: fmt.Sprintf("kind %s of %s is not known", h.Kind, h.APIVersion)}}
	}
	if err := strict.CheckName(h, clusterScoped(h.Kind), ignoredGroup(h.Group())); err != nil {
		return nil, h.String(), []*strict.Error{err}
	}
	if obj == nil || h.Kind == string(objects.ConfigMap) && h.Metadata.Name != objects.MeshConfigName {
		return nil, h.String(), nil
	}
	errs = doc.Decode(obj)
	if len(errs) == 0 {
		obj.SetNamespace(h.Metadata.Namespace)
		errs = strict.Check(obj)
	}
	return obj, h.String(), errs
}

func (d *decoder) report(doc *strict.Document, object string, errs ...*strict.Error) {
	for _, e := range errs {
		p := Problem{File: d.file, Line: e.Line, Object: object, Field: e.Field, Reason: e.Reason}
		if p.Line == 0 {
			p.Line = doc.LineOf(e.Field)
		}
		if e.Suggest != "" {
			p.Reason += ": " + e.Suggest
		}
		d.problems = append(d.problems, p)
	}
}
