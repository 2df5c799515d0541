package xds

import (
	"fmt"
	"strings"
)

const (
	// maxRejected bounds the rejected resources that are remembered for a client and type.
	maxRejected = 64
	// maxComplaint bounds how much of a rejection is read, in bytes.
	maxComplaint = 64 << 10
)

// rejections is what a client would not take of one type. Node proxies apply what they can of a response and name the rest,
// "name: reason" joined by "; ". A rejected resource is not sent again before it changes or the client reconnects, and keeps
// none of the others back; a client that rejected a policy refuses the connections the policy is for.
type rejections struct {
	lastNACK string // the client's words
	nacks    uint64
	answered uint64 // sequence number up to which the client has answered
	rejected map[string]rejection
	unread   bool // lastNACK has not been held against the table
	upTo     bool // so has the newest ACK
}

type rejection struct {
	reason string
	seq    uint64 // of the response that was rejected
}

func (r *rejections) reject(words string) {
	if words == "" {
		words = "no reason given"
	}
	r.lastNACK, r.unread, r.upTo = words[:min(len(words), maxComplaint)], true, true
	r.nacks++
}

func (r *rejections) accept() { r.upTo = true }

// lastError is what a person should read now: "" if the client has taken everything.
func (r *rejections) lastError() string { return clip(r.lastNACK) }

func (r *rejections) reasons() map[string]string {
	if len(r.rejected) == 0 {
		return nil
	}
	out := make(map[string]string, len(r.rejected))
	for name, was := range r.rejected {
		out[name] = was.reason
	}
	return out
}

// review brings what is remembered up to date after an answer: rejected resources that have changed since and were taken, or
// are gone, are no longer of interest. An ACK ends a complaint that named no resource.
func (sub *subscription) review(k *kind) {
	r := &sub.rejections
	if !r.upTo {
		return
	}
	r.upTo, r.answered = false, sub.upserts
	for name, was := range r.rejected {
		e := k.entries[name]
		if e == nil || e.gone || e.seq > was.seq && e.seq <= r.answered {
			delete(r.rejected, name)
		}
	}
	if r.unread {
		r.unread = false
		r.read(k)
	} else if len(r.rejected) == 0 {
		r.lastNACK = ""
	}
}

// read finds the names in the client's words. Only names there are count, so a client cannot make up any.
func (r *rejections) read(k *kind) {
	for piece := range strings.SplitSeq(r.lastNACK, "; ") {
		name, reason, ok := strings.Cut(piece, ": ")
		if e := k.entries[name]; !ok || e == nil || e.gone || len(r.rejected) >= maxRejected {
			continue
		}
		if r.rejected == nil {
			r.rejected = map[string]rejection{}
		}
		r.rejected[name] = rejection{clip(reason), r.answered}
	}
}

func clip(s string) string {
	const most = 512
	if len(s) > most {
		return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
	}
	return s
}
