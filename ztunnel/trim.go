package ztunnel

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Trimming is considered every trimEvery, and at least trimGap passes between two.
const (
	trimEvery = 3 * time.Second
	trimGap   = 9 * time.Second
)

// tuneGC collects some three times as often as the runtime would: most of the process is long-lived connections, and what their opening leaves
// between them stays as holes. A GOGC of the user's is left alone.
func tuneGC() {
	const percent = 30
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// heapUse is what the runtime says of its heap, in bytes.
type heapUse struct {
	spare     uint64 // free, but not given back to the operating system
	allocated uint64 // since the process began
}

// worthTrimming decides whether to give memory back now: while opening, tens of thousands of connections leave garbage and free
// pages that would stay for as long as nothing happens, because only allocation makes the runtime collect. Worth it is: little
// was allocated since the last look (a collection costs work that traffic would want; a scrape of the metrics allocates one or
// two MiB), yet there is something to find.
func worthTrimming(now, last heapUse, trimmed uint64) bool {
	const least = 8 << 20
	quiet := now.allocated-last.allocated < least/2
	return quiet && (now.allocated-trimmed > least || now.spare > least)
}

// trim lets idle connections rest, and gives memory back when the process has been quiet for a moment, until ctx ends. rest
// reports how many connections it told.
func trim(ctx context.Context, rest func() int) error {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	last, trimmed, when := readHeap(), uint64(0), time.Time{}
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		resting := rest()
		now := readHeap()
		if time.Since(when) >= trimGap && worthTrimming(now, last, trimmed) {
			if resting > 0 {
				settle(ctx)
			}
			runtime.GC() // pools let go of what two collections in a row found unused
			debug.FreeOSMemory()
			now = readHeap()
			trimmed, when = now.allocated, time.Now()
		}
		last = now
	}
}

// settle gives connections that were told to rest the time to let go of their old stacks; one that takes longer keeps its until a
// later collection.
func settle(ctx context.Context) {
	select {
	case <-time.After(200 * time.Millisecond):
	case <-ctx.Done():
	}
}

func readHeap() heapUse {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/allocs:bytes"},
	}
	metrics.Read(s)
	return heapUse{spare: s[0].Value.Uint64(), allocated: s[1].Value.Uint64()}
}
