package cni

import (
	"slices"
	"time"
)

// A quarrel: so many repairs within so long are no accident, and answering each at once would keep both sides busy for ever.
const (
	quarrelMany  = 5
	quarrelTime  = 10 * time.Minute
	quarrelPause = 5 * time.Second
)

// quarrel remembers repairs. The zero value is peace.
type quarrel struct {
	installed bool // the first change was no repair
	repairs   []time.Time
}

// look notes one look at the configuration; changed: the plugin had to be put in.
func (q *quarrel) look(now time.Time, changed bool) {
	if changed && q.installed && len(q.repairs) < 2*quarrelMany {
		q.repairs = append(q.repairs, now)
	}
	q.installed = q.installed || changed
	q.repairs = slices.DeleteFunc(q.repairs, func(t time.Time) bool { return now.Sub(t) > quarrelTime })
}

func (q *quarrel) on() bool { return len(q.repairs) >= quarrelMany }

// pause is how long to wait before an answer to a change.
func (q *quarrel) pause() time.Duration {
	if q.on() {
		return quarrelPause
	}
	return repairPause
}
