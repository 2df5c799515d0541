// Package strict answers which objects a text of Kubernetes manifests holds, decoded into their types, and what in it no API
// server would store: unknown and repeated fields, wrong types, bad names and addresses, each by line and field.
//
// It knows types, not meaning: controller/validate knows that. It reads no file. The folder source (controller/source/manifest),
// the admission webhook and `ambit validate` call it. Functions are pure; Documents are read-only.
package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"go.yaml.in/yaml/v3"
)

// Error is something wrong at a place in a document.
type Error struct {
	Field   string // spec.rules[0].from
	Line    int    // 0: not known
	Reason  string
	Suggest string // what to write instead; "" if there is no telling
	Unknown bool   // Field is one that the type does not have
}

func (e *Error) Error() string {
	s := e.Reason
	if e.Suggest != "" {
		s += ": " + e.Suggest
	}
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	return s
}

// Read yields every document of a YAML or JSON text, lists flattened, empty ones left out. A document that cannot be read comes
// with what is wrong; after a syntax error nothing follows.
func Read(text []byte) iter.Seq2[*Document, *Error] {
	return func(yield func(*Document, *Error) bool) {
		docs := yaml.NewDecoder(bytes.NewReader(text))
		for {
			var root yaml.Node
			err := decodeNode(docs, &root)
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(&Document{}, syntaxError(err))
				return
			case len(root.Content) == 1 && !flatten(root.Content[0], yield):
				return
			}
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

func flatten(n *yaml.Node, yield func(*Document, *Error) bool) bool {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		return true // an empty document
	case n.Kind != yaml.MappingNode:
		return yield(&Document{line: n.Line}, &Error{Line: n.Line, Reason: "document is not an object"})
	case isList(n):
		for _, item := range listItems(n) {
			if !flatten(item, yield) {
				return false
			}
		}
		return true
	}
	return yield(encode(n))
}

// JSON reads one object, as an API server sends it.
func JSON(text []byte) (*Document, *Error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	n, err := jsonNode(dec, 0)
	if err != nil {
		return &Document{}, &Error{Reason: "not JSON: " + err.Error()}
	}
	if n.Kind != yaml.MappingNode {
		return &Document{}, &Error{Reason: "document is not an object"}
	}
	return encode(n)
}

// jsonNode reads a value as the node that YAML would give, so that both take one way from here on.
func jsonNode(dec *json.Decoder, depth int) (*yaml.Node, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d deep", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode}
		if t == '{' {
			n.Kind = yaml.MappingNode
		}
		for dec.More() { // keys of objects come as values of their own
			child, err := jsonNode(dec, depth+1)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err := dec.Token()
		return n, err
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: t, Style: yaml.DoubleQuotedStyle}, nil
	case json.Number:
		if _, err := t.Int64(); err == nil {
			return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: t.String()}, nil
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: t.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(t)}, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, nil
	}
}
