// Package stat turns repeated runs into the figures that are reported: medians, spread and ratios, and reads what the machine
// spent. Pure but for Machine and Memory, which read /proc.
package stat

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Series is the same figure from several runs.
type Series []float64

// Median is the middle run, or the mean of the two middle ones; 0 of no runs.
func (s Series) Median() float64 {
	if len(s) == 0 {
		return 0
	}
	o := slices.Sorted(slices.Values(s))
	if m := len(o) / 2; len(o)%2 == 1 {
		return o[m]
	} else {
		return (o[m-1] + o[m]) / 2
	}
}

// Spread is the distance of the extremes over the median: how far to trust the figure.
func (s Series) Spread() float64 {
	m := s.Median()
	if m == 0 {
		return 0
	}
	return (slices.Max(s) - slices.Min(s)) / m
}

// Ratio compares two medians; 0 if there is nothing to compare with.
func Ratio(of, to Series) float64 {
	if m := to.Median(); m != 0 {
		return of.Median() / m
	}
	return 0
}

// ticks per second of /proc/stat (USER_HZ), 100 on every Linux architecture that Go runs on.
const ticks = 100

// Machine returns the processor seconds that the whole machine has been busy since boot: everything in the first line of
// /proc/stat but idle and iowait.
func Machine() (float64, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var busy float64
	for i, f := range strings.Fields(line)[1:] {
		if i == 3 || i == 4 || i >= 8 { // idle, iowait; guest time is already in user time
			continue
		}
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, fmt.Errorf("processor times: %w", err)
		}
		busy += n
	}
	return busy / ticks, nil
}

// Memory returns the resident anonymous memory of a process, in bytes: heap and stacks, not the program's file pages.
func Memory(pid int) (int64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d: no RssAnon", pid)
}
