// Package head answers: what do the header fields of an HBONE CONNECT and of its response mean?
//
// It turns a [Head] or [Response] into HTTP/2 header fields and back, and nothing else: no connection, no HPACK
// state, no decision about who may reach what. Package hbone calls it for each stream; fuzzing and table tests
// call it alone. Everything here is a pure function of its arguments and may be used concurrently.
package head

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Limits on the header lists we accept, in the units of SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113, 6.5.2). The
// client's and the server's differ because Istio's do: peers may rely on a server taking more.
const (
	MaxClientList = 16 << 10
	MaxServerList = 64 << 10
)

// Names of the header fields, lower case as HTTP/2 wants them.
const (
	fieldBaggage     = "baggage"
	fieldForwarded   = "forwarded"
	fieldTraceparent = "traceparent"
	fieldNetwork     = "x-forwarded-network"
	fieldSource      = "x-istio-source"
)

// Head is one CONNECT request: where the tunnel's other end is asked to connect, and what the sender says of the
// connection. Only Authority is required. Everything else is a claim of the peer, good for telemetry and for
// nothing that decides: identity comes from TLS.
type Head struct {
	// Authority is the target as written: "ip:port", "[ip6]:port" or, between networks, "hostname:port".
	Authority string
	// Baggage describes the source workload.
	Baggage Baggage
	// Forwarded names the client and the service it addressed.
	Forwarded Forwarded
	// Traceparent is the W3C trace context; the zero value means absent or malformed.
	Traceparent Traceparent
	// Network is the sender's network; only on the inner CONNECT of a tunnel that crosses networks.
	Network string
	// Source is x-istio-source, sent by Envoy waypoints and gateways: "waypoint", "gateway" or "sidecar".
	Source string
}

// Response is the head that answers a CONNECT.
type Response struct {
	// Status is the HTTP status: 200 when the tunnel is open.
	Status int
	// Baggage describes the destination workload; only with status 200.
	Baggage Baggage
}

// Malformed is a head that breaks HTTP/2 or HBONE.
type Malformed struct {
	// Status is what to answer, or 0 when the stream must be reset with PROTOCOL_ERROR (RFC 9113, 8.1.1).
	Status int
	// Reason is a constant phrase for the log.
	Reason string
}

// Error implements error.
func (e *Malformed) Error() string { return "malformed CONNECT: " + e.Reason }

// AppendFields appends the request's header fields to dst, pseudo-header fields first. Fields that differ on
// each connection are marked never-indexed, which keeps HPACK's dynamic table for those that repeat.
func (h *Head) AppendFields(dst []hpack.HeaderField) []hpack.HeaderField {
	dst = append(dst,
		hpack.HeaderField{Name: ":method", Value: "CONNECT"},
		hpack.HeaderField{Name: ":authority", Value: h.Authority})
	if v := h.Baggage.String(); v != "" {
		dst = append(dst, hpack.HeaderField{Name: fieldBaggage, Value: v})
	}
	if v := h.Forwarded.String(); v != "" {
		dst = append(dst, hpack.HeaderField{Name: fieldForwarded, Value: v, Sensitive: true})
	}
	if h.Traceparent != (Traceparent{}) {
		dst = append(dst, hpack.HeaderField{Name: fieldTraceparent, Value: h.Traceparent.String(), Sensitive: true})
	}
	if h.Network != "" {
		dst = append(dst, hpack.HeaderField{Name: fieldNetwork, Value: h.Network})
	}
	if h.Source != "" {
		dst = append(dst, hpack.HeaderField{Name: fieldSource, Value: h.Source})
	}
	return dst
}

// ParseRequest reads the header fields of a request. The error, if any, is a *[Malformed].
func ParseRequest(fields []hpack.HeaderField) (Head, error) {
	var h Head
	var method string
	var scheme, path, protocol, seenMethod, seenAuthority bool
	for _, f := range fields {
		switch f.Name {
		case ":method":
			if seenMethod {
				return Head{}, &Malformed{Reason: "two methods"}
			}
			seenMethod, method = true, f.Value
		case ":authority":
			if seenAuthority {
				return Head{}, &Malformed{Reason: "two authorities"}
			}
			seenAuthority, h.Authority = true, f.Value
		case ":scheme":
			scheme = true
		case ":path":
			path = true
		case ":protocol":
			protocol = true
		case "connection", "proxy-connection", "transfer-encoding", "upgrade", "keep-alive":
			return Head{}, &Malformed{Reason: "connection-specific header field"}
		default:
			if strings.HasPrefix(f.Name, ":") {
				return Head{}, &Malformed{Reason: "unknown pseudo-header field"}
			}
			h.regular(f)
		}
	}
	switch {
	case !seenMethod:
		return Head{}, &Malformed{Reason: "no method"}
	case method != "CONNECT":
		return Head{}, &Malformed{Status: 400, Reason: "method is not CONNECT"}
	case protocol:
		return Head{}, &Malformed{Status: 400, Reason: "extended CONNECT"}
	case scheme || path:
		return Head{}, &Malformed{Reason: "CONNECT with a scheme or path"} // RFC 9113, 8.5
	}
	if _, err := ParseAuthority(h.Authority); err != nil {
		return Head{}, &Malformed{Status: 400, Reason: "authority without a valid host and port"}
	}
	return h, nil
}

// regular takes over one header field that is not a pseudo-header field; unknown ones are ignored.
func (h *Head) regular(f hpack.HeaderField) {
	switch f.Name {
	case fieldBaggage:
		h.Baggage.merge(f.Value)
	case fieldForwarded:
		h.Forwarded = ParseForwarded(f.Value)
	case fieldTraceparent:
		h.Traceparent = ParseTraceparent(f.Value)
	case fieldNetwork:
		h.Network = f.Value
	case fieldSource:
		h.Source = f.Value
	}
}

// AppendFields appends the response's header fields to dst.
func (r *Response) AppendFields(dst []hpack.HeaderField) []hpack.HeaderField {
	status := "200"
	if r.Status != 200 {
		status = strconv.Itoa(r.Status)
	}
	dst = append(dst, hpack.HeaderField{Name: ":status", Value: status})
	if r.Status == 200 {
		if v := r.Baggage.String(); v != "" {
			dst = append(dst, hpack.HeaderField{Name: fieldBaggage, Value: v})
		}
	}
	return dst
}

// ParseResponse reads the header fields of a response. The error, if any, is a *[Malformed].
func ParseResponse(fields []hpack.HeaderField) (Response, error) {
	var r Response
	for _, f := range fields {
		switch {
		case f.Name == ":status" && r.Status != 0:
			return Response{}, &Malformed{Reason: "two statuses"}
		case f.Name == ":status":
			n, err := strconv.ParseUint(f.Value, 10, 16)
			if err != nil || len(f.Value) != 3 || n < 100 {
				return Response{}, &Malformed{Reason: "invalid status"}
			}
			r.Status = int(n)
		case strings.HasPrefix(f.Name, ":"):
			return Response{}, &Malformed{Reason: "unknown pseudo-header field"}
		case f.Name == fieldBaggage:
			r.Baggage.merge(f.Value)
		}
	}
	if r.Status == 0 {
		return Response{}, &Malformed{Reason: "no status"}
	}
	return r, nil
}

// Authority is a parsed target.
type Authority struct {
	Addr netip.Addr // the address, unmapped; invalid if the host is a name
	Host string     // the host as written, without brackets
	Port uint16     // never 0
}

// ParseAuthority splits an :authority into host and port. Both are required, as in every CONNECT.
func ParseAuthority(s string) (Authority, error) {
	colon := strings.LastIndexByte(s, ':')
	if colon <= 0 || len(s) > 255+6 {
		return Authority{}, fmt.Errorf("authority %.40q: no host and port", s)
	}
	host, portText := s[:colon], s[colon+1:]
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || portText[0] == '+' {
		return Authority{}, fmt.Errorf("authority %.40q: invalid port", s)
	}
	if host[0] == '[' {
		a, err := netip.ParseAddr(strings.TrimSuffix(host[1:], "]"))
		if err != nil || host[len(host)-1] != ']' || !a.Is6() || a.Zone() != "" {
			return Authority{}, fmt.Errorf("authority %.40q: invalid IPv6 address", s)
		}
		return Authority{Addr: a.Unmap(), Host: host[1 : len(host)-1], Port: uint16(port)}, nil
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if !a.Is4() {
			return Authority{}, fmt.Errorf("authority %.40q: IPv6 address without brackets", s)
		}
		return Authority{Addr: a, Host: host, Port: uint16(port)}, nil
	}
	for i := range len(host) {
		if c := host[i]; !hostByte(c) {
			return Authority{}, fmt.Errorf("authority %.40q: invalid host", s)
		}
	}
	return Authority{Host: host, Port: uint16(port)}, nil
}

// hostByte says whether c may be in a host name. Underscores are not DNS's, but are found in Service-like names.
func hostByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_'
}

// Decode runs HPACK over one complete header block with the given list size limit: what tests and fuzz targets use
// in place of a connection. Connections let the Framer do the same with their long-lived decoder.
func Decode(block []byte, limit uint32) ([]hpack.HeaderField, error) {
	var fields []hpack.HeaderField
	var size uint32
	d := hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if size += f.Size(); size <= limit {
			fields = append(fields, f)
		}
	})
	d.SetMaxStringLength(int(limit))
	if _, err := d.Write(block); err != nil {
		return nil, fmt.Errorf("header block: %w", err)
	}
	if err := d.Close(); err != nil {
		return nil, fmt.Errorf("header block: %w", err)
	}
	if size > limit {
		return nil, fmt.Errorf("header list of %d bytes: %w", size, http2.ErrFrameTooLarge)
	}
	return fields, nil
}
