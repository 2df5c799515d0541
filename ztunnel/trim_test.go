package ztunnel

import "testing"

func TestTrimmingWaitsForQuietAndForSomethingToFind(t *testing.T) {
	const mib = 1 << 20
	for name, c := range map[string]struct {
		now, last heapUse
		trimmed   uint64
		want      bool
	}{
		"busy":                          {heapUse{allocated: 100 * mib}, heapUse{allocated: 90 * mib}, 0, false},
		"quiet after much":              {heapUse{allocated: 100 * mib}, heapUse{allocated: 100*mib - 1000}, 50 * mib, true},
		"quiet and trimmed already":     {heapUse{allocated: 100 * mib}, heapUse{allocated: 100*mib - 1000}, 99 * mib, false},
		"quiet with many free pages":    {heapUse{allocated: 100 * mib, spare: 30 * mib}, heapUse{allocated: 100 * mib}, 99 * mib, true},
		"busy with many free pages":     {heapUse{allocated: 100 * mib, spare: 30 * mib}, heapUse{allocated: 90 * mib}, 99 * mib, false},
		"quiet since the process began": {heapUse{allocated: 2 * mib}, heapUse{allocated: 2 * mib}, 0, false},
	} {
		if got := worthTrimming(c.now, c.last, c.trimmed); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
