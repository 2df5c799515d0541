package head

import (
	"encoding/hex"
	"net/netip"
	"strings"
)

// Forwarded is the part of RFC 7239's header that HBONE uses.
type Forwarded struct {
	// For is the client's address as the sending tunnel saw it: a claim, never a source for authorization.
	For netip.AddrPort
	// Host is the Service host name the client addressed; it only labels telemetry.
	Host string
}

// String formats the header's value; it is empty when there is nothing to say.
func (f Forwarded) String() string {
	if !f.For.IsValid() && f.Host == "" {
		return ""
	}
	out := make([]byte, 0, 96)
	if f.For.IsValid() {
		out = append(out, `for="`...)
		out = f.For.AppendTo(out)
		out = append(out, '"')
	}
	if f.Host != "" && plain(f.Host) && !strings.ContainsAny(f.Host, `;"`) {
		if len(out) > 0 {
			out = append(out, ';')
		}
		out = append(out, "host="...)
		out = append(out, f.Host...)
	}
	return string(out)
}

// ParseForwarded reads a header's value as Istio does: parts between semicolons, quotes stripped, what cannot be
// read is absent.
func ParseForwarded(value string) Forwarded {
	var f Forwarded
	for i := range len(value) {
		if value[i] >= 0x80 {
			return f
		}
	}
	for part := range strings.SplitSeq(value, ";") {
		key, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		v = strings.Trim(v, `"`)
		switch key {
		case "host":
			f.Host = v
		case "for":
			if a, err := netip.ParseAddrPort(v); err == nil && a.Addr().Zone() == "" {
				f.For = a
			}
		}
	}
	return f
}

// Traceparent is a W3C trace context of version 00 with its flags clear, as ztunnels send it.
type Traceparent struct {
	Trace [16]byte
	Span  [8]byte
	Flags byte
}

// String formats the header's value.
func (t Traceparent) String() string {
	var out [55]byte
	copy(out[:], "00-")
	hex.Encode(out[3:], t.Trace[:])
	out[35] = '-'
	hex.Encode(out[36:], t.Span[:])
	out[52] = '-'
	hex.Encode(out[53:], []byte{t.Flags})
	return string(out[:])
}

// ParseTraceparent reads a header's value; anything that is not version 00 in its one form is the zero value.
func ParseTraceparent(value string) Traceparent {
	var t Traceparent
	var flags [1]byte
	if len(value) != 55 || value[:3] != "00-" || value[35] != '-' || value[52] != '-' {
		return t
	}
	if _, err := hex.Decode(t.Trace[:], []byte(value[3:35])); err != nil {
		return Traceparent{}
	}
	if _, err := hex.Decode(t.Span[:], []byte(value[36:52])); err != nil {
		return Traceparent{}
	}
	if _, err := hex.Decode(flags[:], []byte(value[53:])); err != nil {
		return Traceparent{}
	}
	t.Flags = flags[0]
	return t
}
