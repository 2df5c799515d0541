package strict

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

const unknownField = "unknown field"

// Unknown lists the paths of what unknownFields finds, for who takes in what an API server has stored already.
func Unknown(text []byte, m protoreflect.MessageDescriptor, path string) []string {
	var out []string
	for _, err := range unknownFields(text, m, path) {
		out = append(out, err.Field)
	}
	return out
}

// unknownFields lists, in order, the fields of a JSON value that a message does not have, and enum values likewise. Names are those of JSON: the API
// server's schemas know no others, though the protobuf library does.
func unknownFields(text []byte, m protoreflect.MessageDescriptor, path string) []*Error {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil // the decoder says so
	}
	var w walk
	w.message(value, m, path)
	return w.errs
}

type walk struct{ errs []*Error }

func (w *walk) message(value any, m protoreflect.MessageDescriptor, path string) {
	fields, ok := value.(map[string]any)
	if !ok || strings.HasPrefix(string(m.FullName()), "google.protobuf.") {
		return // a wrong type, which the decoder finds; or one with a JSON form of its own
	}
	for _, name := range sortedKeys(fields) {
		f := m.Fields().ByJSONName(name)
		if f == nil {
			w.errs = append(w.errs, &Error{Field: join(path, name), Reason: unknownField, Unknown: true, Suggest: didYouMean(name, jsonNames(m))})
			continue
		}
		w.field(fields[name], f, join(path, name))
	}
}

func (w *walk) field(value any, f protoreflect.FieldDescriptor, path string) {
	switch {
	case f.IsMap():
		entries, _ := value.(map[string]any)
		for _, k := range sortedKeys(entries) {
			w.single(entries[k], f.MapValue(), join(path, k))
		}
	case f.IsList():
		list, _ := value.([]any)
		for i, v := range list {
			w.single(v, f, fmt.Sprintf("%s[%d]", path, i))
		}
	default:
		w.single(value, f, path)
	}
}

func (w *walk) single(value any, f protoreflect.FieldDescriptor, path string) {
	if m := f.Message(); m != nil {
		w.message(value, m, path)
		return
	}
	name, isText := value.(string)
	if f.Enum() == nil || !isText || f.Enum().Values().ByName(protoreflect.Name(name)) != nil {
		return
	}
	var known []string
	for i := range f.Enum().Values().Len() {
		known = append(known, string(f.Enum().Values().Get(i).Name()))
	}
	e := &Error{Field: path, Reason: fmt.Sprintf("unknown value %q", clip(name)), Suggest: "use one of " + strings.Join(known, ", ")}
	if near := Nearest(name, known); near != "" {
		e.Suggest = fmt.Sprintf("did you mean %q?", near)
	}
	w.errs = append(w.errs, e)
}

func clip(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

func jsonNames(m protoreflect.MessageDescriptor) []string {
	var out []string
	for i := range m.Fields().Len() {
		out = append(out, m.Fields().Get(i).JSONName())
	}
	return out
}

// fieldsOf lists the fields beside the last one of path in a Kubernetes type; none where the path leads nowhere.
func fieldsOf(t reflect.Type, path string) []string {
	steps := strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' })
	for _, step := range steps[:max(len(steps)-1, 0)] {
		t = indirect(t)
		if strings.HasSuffix(step, "]") {
			if t.Kind() != reflect.Slice && t.Kind() != reflect.Map {
				return nil
			}
			t = t.Elem()
			continue
		}
		if t.Kind() == reflect.Map {
			t = t.Elem()
			continue
		}
		next, ok := jsonFields(t)[step]
		if !ok {
			return nil
		}
		t = next
	}
	return sortedKeys(jsonFields(indirect(t)))
}

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func jsonFields(t reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	if t.Kind() != reflect.Struct {
		return out
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case name != "":
			out[name] = f.Type
		case f.Anonymous:
			for n, t := range jsonFields(indirect(f.Type)) {
				out[n] = t
			}
		}
	}
	return out
}

func didYouMean(path string, known []string) string {
	name := path[strings.LastIndexAny(path, ".[]")+1:]
	if near := Nearest(name, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

// Nearest is the known word that somebody who wrote word most likely meant; "" if none is near. Case, separators, a missing or
// an additional plural, and one error in four letters are forgiven.
func Nearest(word string, known []string) string {
	best, bestAt := "", 0
	w := plainWord(word)
	for _, k := range slices.Sorted(slices.Values(known)) {
		p := plainWord(k)
		at := distance(w, p)
		if most := max(1, max(len(w), len(p))/4); at > most || len(w) < 2 || len(p) < 2 && at > 0 || word == k {
			continue
		}
		if best == "" || at < bestAt {
			best, bestAt = k, at
		}
	}
	return best
}

func plainWord(s string) string {
	const most = 64 // longer words are no misspelt ones
	s = strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
	return s[:min(len(s), most)]
}

// distance counts the letters to insert, delete, replace or swap with their neighbour.
func distance(a, b string) int {
	rows := [3][]int{make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)}
	older, old, now := rows[0], rows[1], rows[2]
	for j := range old {
		old[j] = j
	}
	for i := 1; i <= len(a); i++ {
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(old[j]+1, now[j-1]+1, old[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], older[j-2]+1)
			}
		}
		older, old, now = old, now, older
	}
	return old[len(b)]
}
