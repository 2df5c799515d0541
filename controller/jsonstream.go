package controller

import (
	"encoding/json"
	"io"
)

// jsonStream writes a JSON value piece by piece. After the first error it writes nothing.
type jsonStream struct {
	w     io.Writer
	err   error
	comma bool
}

func (j *jsonStream) raw(b []byte) {
	if j.err == nil {
		_, j.err = j.w.Write(b)
	}
}

func (j *jsonStream) check(err error) {
	if j.err == nil {
		j.err = err
	}
}

// open begins a list or an object.
func (j *jsonStream) open(bracket byte) {
	j.raw([]byte{bracket})
	j.comma = false
}

func (j *jsonStream) close(bracket byte) {
	j.raw([]byte{'\n', bracket})
	j.comma = true
}

func (j *jsonStream) next() {
	if j.comma {
		j.raw([]byte{','})
	}
	j.raw([]byte{'\n'})
	j.comma = true
}

// key begins a field of an object; its value must follow.
func (j *jsonStream) key(name string) {
	j.next()
	j.value(name)
	j.raw([]byte(": "))
}

func (j *jsonStream) value(v any) {
	b, err := json.Marshal(v)
	j.check(err)
	j.raw(b)
}

func (j *jsonStream) field(name string, v any) error {
	j.key(name)
	j.value(v)
	return j.err
}

func (j *jsonStream) item(v any) error {
	j.next()
	j.value(v)
	return j.err
}
