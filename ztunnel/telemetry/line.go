package telemetry

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxField bounds a text in a log line, in bytes: errors may quote what a peer sent.
const maxField = 1024

// timeLayout is RFC 3339 in UTC with microseconds.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// fieldWriter is one of the two formats. Empty values are left out.
type fieldWriter interface {
	text(name, value string)
	bare(name, value string) // an address in text form
	addr(name string, value netip.AddrPort)
	number(name string, value uint64)
	duration(name string, value time.Duration)
}

// AppendText appends a record as a line of Istio's plain format: time, level, target, message and fields, tab separated.
func AppendText(b []byte, r *Record) []byte {
	message, level := r.message()
	b = r.End.UTC().AppendFormat(b, timeLayout)
	b = append(b, '\t')
	b = append(b, level...)
	b = append(b, "\taccess\t"...)
	b = append(b, message...)
	w := plain{b: b, sep: '\t'}
	r.fields(&w)
	return append(w.b, '\n')
}

// AppendJSON appends a record as a line of JSON, the fields beside level, time, scope and message.
func AppendJSON(b []byte, r *Record) []byte {
	message, level := r.message()
	b = append(b, `{"level":"`...)
	b = append(b, level...)
	b = append(b, `","time":"`...)
	b = r.End.UTC().AppendFormat(b, timeLayout)
	b = append(b, `","scope":"access","message":"`...)
	b = append(b, message...)
	b = append(b, '"')
	w := jsonFields{b: b}
	r.fields(&w)
	return append(w.b, '}', '\n')
}

// plain writes name=value pairs; texts are quoted as Go does, so that no value can forge a field or a line.
type plain struct {
	b   []byte
	sep byte
}

func (w *plain) name(name string) {
	w.b = append(w.b, w.sep)
	w.b = append(w.b, name...)
	w.b = append(w.b, '=')
	w.sep = ' '
}

func (w *plain) text(name, value string) {
	if value != "" {
		w.name(name)
		w.b = strconv.AppendQuote(w.b, cut(value))
	}
}

func (w *plain) bare(name, value string) {
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '=' {
			w.text(name, value)
			return
		}
	}
	if value != "" {
		w.name(name)
		w.b = append(w.b, cut(value)...)
	}
}

func (w *plain) addr(name string, value netip.AddrPort) {
	if value.IsValid() {
		w.name(name)
		w.b = value.AppendTo(w.b)
	}
}

func (w *plain) number(name string, value uint64) {
	w.name(name)
	w.b = strconv.AppendUint(w.b, value, 10)
}

func (w *plain) duration(name string, value time.Duration) {
	w.name(name)
	w.b = append(w.b, '"')
	w.b = strconv.AppendInt(w.b, value.Milliseconds(), 10)
	w.b = append(w.b, `ms"`...)
}

// jsonFields writes members after the first ones.
type jsonFields struct{ b []byte }

func (w *jsonFields) name(name string) {
	w.b = append(w.b, `,"`...)
	w.b = append(w.b, name...)
	w.b = append(w.b, `":`...)
}

func (w *jsonFields) text(name, value string) {
	if value != "" {
		w.name(name)
		w.b = appendJSONString(w.b, cut(value))
	}
}

func (w *jsonFields) bare(name, value string) { w.text(name, value) }

func (w *jsonFields) addr(name string, value netip.AddrPort) {
	if value.IsValid() {
		w.name(name)
		w.b = append(w.b, '"')
		w.b = value.AppendTo(w.b) // zones are interface names and never in addresses from a socket of ours
		w.b = append(w.b, '"')
	}
}

func (w *jsonFields) number(name string, value uint64) {
	w.name(name)
	w.b = strconv.AppendUint(w.b, value, 10)
}

func (w *jsonFields) duration(name string, value time.Duration) {
	w.name(name)
	w.b = append(w.b, '"')
	w.b = strconv.AppendInt(w.b, value.Milliseconds(), 10)
	w.b = append(w.b, `ms"`...)
}

// appendJSONString quotes s as JSON (RFC 8259 section 7); what is not UTF-8 becomes U+FFFD.
func appendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			i++
		case c < utf8.RuneSelf:
			b = append(b, c)
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
		}
	}
	return append(b, '"')
}

// cut shortens a text that is too long.
func cut(s string) string {
	if len(s) > maxField {
		return s[:maxField] + "..."
	}
	return s
}
