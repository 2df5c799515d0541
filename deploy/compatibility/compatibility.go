// Package compatibility answers what deploy/COMPATIBILITY.md says of a label, an annotation or a field of Istio's: honoured, not
// needed or reported. Tests of the packages that do so call it, so that the page stays true; no program does.
package compatibility

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Words that a row may say.
const (
	Honoured  = "honoured"
	NotNeeded = "not needed"
	Reported  = "reported"
)

var row = regexp.MustCompile("^\\| `([^`]+)` \\| (honoured|not needed|reported) \\|([^|]*)\\|$")

// Section is what the tables below one heading say, by key. Every row must have the form of a row, and be there once.
func Section(page, heading string) (map[string]string, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(text), "\n## "+heading+"\n")
	if !ok {
		return nil, fmt.Errorf("%s has no heading %s", page, heading)
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	out := map[string]string{}
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		m := row.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%s: not a row: %s", page, line)
		}
		if out[m[1]] != "" {
			return nil, fmt.Errorf("%s: %s is there twice", page, m[1])
		}
		out[m[1]] = m[2]
	}
	return out, nil
}
