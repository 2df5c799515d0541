package validate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ambit-mesh/ambit/controller/strict"
)

const maxRegex = 1024

func clip(s string) string {
	const most = 64
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// didYouMean is a suggestion from a list of known words; "" if none is near.
func didYouMean(word string, known ...string) string {
	if near := strict.Nearest(word, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return ""
}

// oneOf is the suggestion for a value of an enumeration.
func oneOf(word string, known ...string) string {
	return cmp.Or(didYouMean(word, known...), "use one of "+strings.Join(known, ", "))
}

func (c *check) port(p *field.Path, n uint32) {
	if n == 0 || n > 65535 {
		c.fail(p, "", "port %d is out of range: want 1 to 65535", n)
	}
}

// address checks an address or a block. Bits beyond a block's length are ignored by every mesh, and so are said.
func (c *check) address(p *field.Path, s string) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return
	}
	block, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		c.fail(p, "use an address as 10.0.0.1 or a block as 10.0.0.0/8", "%q is not an IP address or block", clip(s))
	case block != block.Masked():
		c.warn(p, fmt.Sprintf("use %q, or %q for the one address", block.Masked(), block.Addr()), "%s means all of %s", s, block.Masked())
	}
}

var hostLabel = regexp.MustCompile(`^[a-zA-Z0-9_]([-a-zA-Z0-9_]*[a-zA-Z0-9_])?$`)

// fqdn reports whether s can be a host name.
func fqdn(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) > 63 || !hostLabel.MatchString(label) {
			return false
		}
	}
	return true
}

// host checks a host name that may begin with a wildcard label. It reports whether it is one.
func (c *check) host(p *field.Path, s string) bool {
	name := strings.TrimPrefix(s, "*.")
	switch {
	case s == "":
		c.fail(p, "", "host is empty")
	case s == "*" || fqdn(name):
		return true
	case strings.Contains(s, "://"):
		c.fail(p, "write the host alone, without scheme and path", "%q is a URL, not a host", clip(s))
	case strings.Contains(s, ":"):
		c.fail(p, "leave the port out: ports are matched elsewhere", "%q is not a host", clip(s))
	case strings.Contains(name, "*"):
		c.fail(p, "a wildcard stands for the first labels only, as *.example.com", "%q is not a host", clip(s))
	default:
		c.fail(p, "", "%q is not a host name", clip(s))
	}
	return false
}

func (c *check) exportTo(p *field.Path, list []string) {
	for i, s := range list {
		switch {
		case s == "." || s == "*" || len(validation.IsDNS1123Label(s)) == 0:
		case s == "~":
			if len(list) > 1 {
				c.fail(p.Index(i), "", `"~" exports to nobody and excludes all other values`)
			}
		default:
			c.fail(p.Index(i), `use a namespace, "." for this one or "*" for all`, "%q is not a namespace", clip(s))
		}
		if s == "*" && len(list) > 1 {
			c.warn(p.Index(i), "", `"*" exports to all: the other values add nothing`)
		}
		if slices.Index(list, s) < i {
			c.warn(p.Index(i), "", "%q is listed twice", clip(s))
		}
	}
}

func (c *check) regex(p *field.Path, s string) {
	if len(s) > maxRegex {
		c.fail(p, "", "regular expression of %d bytes: want at most %d", len(s), maxRegex)
		return
	}
	if _, err := regexp.Compile(s); err != nil {
		c.fail(p, "expressions are RE2: no look-around, no back references", "not a regular expression: %s", clip(strings.TrimPrefix(err.Error(), "error parsing regexp: ")))
	}
}

var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// headerName checks a name of RFC 9110.
func (c *check) headerName(p *field.Path, s string) {
	switch {
	case s == "":
		c.fail(p, "", "header name is empty")
	case !token.MatchString(strings.TrimPrefix(s, ":")):
		c.fail(p, "", "%q cannot be the name of a header", clip(s))
	}
}

// percent checks a share of all requests.
func (c *check) percent(p *field.Path, v float64) {
	if v < 0 || v > 100 || v != v {
		c.fail(p, "", "%v is not a percentage: want 0 to 100", v)
	}
}

// atLeast checks a duration, in milliseconds.
func (c *check) atLeast(p *field.Path, d *durationpb.Duration, ms int64) {
	switch {
	case d == nil:
	case d.CheckValid() != nil || d.AsDuration() < 0:
		c.fail(p, "", "not a duration that can be waited for")
	case d.AsDuration().Milliseconds() < ms:
		c.fail(p, "", "%s is too short: want at least %dms", d.AsDuration(), ms)
	}
}

// labels checks labels that endpoints are selected by.
func (c *check) labels(p *field.Path, labels map[string]string) {
	for k, v := range labels {
		at := p.Key(clip(k))
		switch {
		case k == "":
			c.fail(p, "", "label without a name")
		case strings.Contains(k+v, "*"):
			c.fail(at, "name each value in an object of its own", "selectors know no wildcards")
		default:
			for _, msg := range append(validation.IsQualifiedName(k), validation.IsValidLabelValue(v)...) {
				c.fail(at, "", "%s", msg)
			}
		}
	}
}

func parsePort(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint32(n), err == nil && n > 0
}

// unmarshal shields against decoders that panic on hostile input.
func unmarshal(text string, into any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return json.Unmarshal([]byte(text), into)
}
