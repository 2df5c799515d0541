// Package arch answers whether the tree keeps its own rules: who may import whom, what is documented, how long a file may
// be, what names exist. It holds tests only, reads the tree as files and as `go list` tells it, and changes nothing. A rule
// of the house that can be a test is one here; a rule that does not hold is not.
package arch
