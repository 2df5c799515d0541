// Package manifest answers which objects a file of Kubernetes manifests holds, and what is wrong with it, by file, line and
// field.
//
// It decodes strictly: an unknown or repeated field, a wrong type, a kind it does not know, a name or address that no API
// server would take is a Problem. It reads no file and keeps nothing; controller/source/folder calls it. Functions are pure.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/ambit-mesh/ambit/controller/objects"
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
	docs := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var root yaml.Node
		err := decodeNode(docs, &root)
		if errors.Is(err, io.EOF) {
			return d.items, d.problems
		}
		if err != nil {
			d.problems = append(d.problems, syntaxProblem(file, err))
			return d.items, d.problems
		}
		if len(root.Content) == 1 {
			d.document(root.Content[0])
		}
	}
}

// decodeNode shields against a panic of the YAML parser: a file is input from outside.
func decodeNode(docs *yaml.Decoder, into *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: %v", r)
		}
	}()
	return docs.Decode(into)
}

type decoder struct {
	file     string
	items    []Item
	problems []Problem
	seen     map[objects.Key]int // line of each object
}

func (d *decoder) document(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // an empty document
	}
	if n.Kind != yaml.MappingNode {
		d.report(n.Line, "", "", "document is not an object")
		return
	}
	if isList(n) {
		for _, item := range listItems(n) {
			d.document(item)
		}
		return
	}
	doc, err := encode(n)
	if err != nil {
		d.fieldErrors(doc, "", []error{err})
		return
	}
	obj, name, errs := decodeObject(doc)
	if len(errs) > 0 {
		d.fieldErrors(doc, name, errs)
		return
	}
	if obj == nil {
		return
	}
	key := objects.Key{Kind: kindOf(obj), Namespace: obj.GetNamespace(), Name: obj.GetName()}
	if line, ok := d.seen[key]; ok {
		d.report(n.Line, key.String(), "metadata.name", fmt.Sprintf("same object as in line %d", line))
		return
	}
	d.seen[key] = n.Line
	d.items = append(d.items, Item{Key: key, Object: objects.Trim(obj), Line: n.Line})
}

func (d *decoder) fieldErrors(doc *document, name string, errs []error) {
	for _, err := range errs {
		var fe *fieldError
		if !errors.As(err, &fe) {
			fe = &fieldError{reason: err.Error()}
		}
		line := fe.line
		if line == 0 {
			line = doc.lineOf(fe.field)
		}
		d.report(line, name, fe.field, fe.reason)
	}
}

func (d *decoder) report(line int, object, field, reason string) {
	d.problems = append(d.problems, Problem{File: d.file, Line: line, Object: object, Field: field, Reason: reason})
}

// fieldError is a problem at a place in the document.
type fieldError struct {
	field  string
	line   int // 0: that of field
	reason string
}

func (e *fieldError) Error() string { return e.field + ": " + e.reason }
