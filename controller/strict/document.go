package strict

import (
	"fmt"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"unicode/utf16"

	"go.yaml.in/yaml/v3"
)

const (
	maxNodes = 256 << 10 // after expanding aliases, so that a few lines cannot become gigabytes
	maxDepth = 100
)

// Document is one object as JSON on one line, with the source line and field path of every byte. Typed decoders work
// on the JSON and report offsets or paths; both lead back to the line the author sees. It is read-only.
type Document struct {
	json  []byte
	marks []mark // ascending by offset
	line  int
	lines map[string]int // by field path
	nodes int
}

type mark struct {
	offset int
	line   int
	path   string
}

// encode converts n. The JSON is ASCII, so that an offset in bytes is one in characters. The document is never nil.
func encode(n *yaml.Node) (*Document, *Error) {
	d := &Document{line: n.Line, lines: map[string]int{}}
	return d, d.value(n, "", 0)
}

// Line is where the document starts; 0 if it was not read from a file.
func (d *Document) Line() int { return d.line }

// at is the line and path of the byte at offset.
func (d *Document) at(offset int) (int, string) {
	i := sort.Search(len(d.marks), func(i int) bool { return d.marks[i].offset > offset })
	if i == 0 {
		return d.line, ""
	}
	return d.marks[i-1].line, d.marks[i-1].path
}

// LineOf is the line of a field, or of its closest ancestor that was written.
func (d *Document) LineOf(path string) int {
	if line, ok := d.lines[plainKeys(path)]; ok {
		return line
	}
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			break
		}
		path = path[:cut]
	}
	return d.line
}

func (d *Document) value(n *yaml.Node, path string, depth int) *Error {
	d.nodes++
	if d.nodes > maxNodes || depth > maxDepth {
		return &Error{Field: path, Line: n.Line, Reason: fmt.Sprintf("document is too large: want at most %d values, %d deep", maxNodes, maxDepth)}
	}
	d.marks = append(d.marks, mark{len(d.json), n.Line, path})
	if _, ok := d.lines[path]; !ok {
		d.lines[path] = n.Line
	}
	switch n.Kind {
	case yaml.MappingNode:
		return d.mapping(n, path, depth)
	case yaml.SequenceNode:
		return d.sequence(n, path, depth)
	case yaml.AliasNode:
		return d.value(n.Alias, path, depth+1)
	case yaml.ScalarNode:
		return d.scalar(n, path)
	default:
		return &Error{Field: path, Line: n.Line, Reason: "not a value"}
	}
}

func (d *Document) mapping(n *yaml.Node, path string, depth int) *Error {
	d.json = append(d.json, '{')
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return &Error{Field: path, Line: key.Line, Reason: "key is not a plain string"}
		}
		child := join(path, key.Value)
		if line, ok := seen[key.Value]; ok {
			return repeated(child, key.Line, line)
		}
		seen[key.Value] = key.Line
		if i > 0 {
			d.json = append(d.json, ',')
		}
		d.marks = append(d.marks, mark{len(d.json), key.Line, child})
		d.lines[child] = key.Line
		d.json = append(appendString(d.json, key.Value), ':')
		if err := d.value(val, child, depth+1); err != nil {
			return err
		}
	}
	d.json = append(d.json, '}')
	return nil
}

func (d *Document) sequence(n *yaml.Node, path string, depth int) *Error {
	d.json = append(d.json, '[')
	for i, val := range n.Content {
		if i > 0 {
			d.json = append(d.json, ',')
		}
		if err := d.value(val, fmt.Sprintf("%s[%d]", path, i), depth+1); err != nil {
			return err
		}
	}
	d.json = append(d.json, ']')
	return nil
}

func (d *Document) scalar(n *yaml.Node, path string) *Error {
	switch n.ShortTag() {
	case "!!null":
		d.json = append(d.json, "null"...)
	case "!!bool":
		d.json = strconv.AppendBool(d.json, strings.EqualFold(n.Value, "true"))
	case "!!int":
		return d.integer(n, path)
	case "!!float":
		f, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return &Error{Field: path, Line: n.Line, Reason: fmt.Sprintf("%q is not a number", n.Value)}
		}
		d.json = strconv.AppendFloat(d.json, f, 'g', -1, 64)
	default: // strings, and timestamps, which Kubernetes writes as strings
		if b, ok := oldBool(n); ok {
			d.json = strconv.AppendBool(d.json, b)
			return nil
		}
		d.json = appendString(d.json, n.Value)
	}
	return nil
}

func (d *Document) integer(n *yaml.Node, path string) *Error {
	text := strings.ReplaceAll(n.Value, "_", "")
	if i, err := strconv.ParseInt(text, 0, 64); err == nil {
		d.json = strconv.AppendInt(d.json, i, 10)
		return nil
	}
	u, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		return &Error{Field: path, Line: n.Line, Reason: fmt.Sprintf("%q is not a number", n.Value)}
	}
	d.json = strconv.AppendUint(d.json, u, 10)
	return nil
}

// oldBool reads the words that YAML 1.1, and so kubectl, takes for booleans when they are not quoted.
func oldBool(n *yaml.Node) (value, ok bool) {
	if n.Style != 0 {
		return false, false
	}
	switch n.Value {
	case "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "no", "No", "NO", "off", "Off", "OFF":
		return false, true
	default:
		return false, false
	}
}

// appendString writes s as a JSON string of ASCII bytes.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r >= 0x20 && r < 0x7f:
			b = append(b, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}

// join extends a field path as Kubernetes writes it.
func join(path, key string) string {
	switch {
	case strings.ContainsAny(key, ".[]/"):
		return fmt.Sprintf("%s[%s]", path, key)
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): (.*)$`)

// syntaxError finds the line in the YAML parser's message.
func syntaxError(err error) *Error {
	e := &Error{Reason: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Reason = m[2]
	}
	e.Reason = "not YAML: " + e.Reason
	return e
}

// plainKeys writes labels[app] as labels.app, as join does.
func plainKeys(path string) string {
	return bracketed.ReplaceAllString(path, ".$1")
}

var bracketed = regexp.MustCompile(`\[([^\[\]./]*[^\[\]./0-9][^\[\]./]*)\]`)

// isList recognises what kubectl get -o yaml writes.
func isList(n *yaml.Node) bool {
	version, kind := field(n, "apiVersion"), field(n, "kind")
	return kind != nil && version != nil && version.Value == "v1" && kind.Value == "List" && field(n, "items") != nil
}

func listItems(n *yaml.Node) []*yaml.Node {
	items := field(n, "items")
	if items.Kind != yaml.SequenceNode {
		return nil
	}
	return items.Content
}

func field(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

func repeated(field string, line, first int) *Error {
	if first == 0 {
		return &Error{Field: field, Reason: "field is set twice"}
	}
	return &Error{Field: field, Line: line, Reason: fmt.Sprintf("field is already set in line %d", first)}
}
