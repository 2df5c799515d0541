package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// What is stored may be overwritten by somebody else: a backup, a mesh that moves, a tool that applies files. To sign with
// another root at once would part the mesh, as nobody trusts it yet; so its owner gets what he wants, but through the windows of
// a rotation. What each replica does with what it finds stored:
//
//	it continues what this replica signs with (follows)         taken
//	this replica has not seen the store for an overlap, or      taken: a rotation may have passed by, or there is nothing to lose
//	its own root has ended
//	another root; this replica leads                            stored anew: the old root signs, the other is the next one
//	another root; this replica does not lead                    an error, until the leader has done that; the old root signs
//	it cannot be read, or is no root of its own                 an error, until its owner repairs it; the old root signs
//
// A replica that starts takes what it finds. So starting all anew, with nothing running meanwhile, is how to replace a root at
// once and lose connections; and one that starts in the moments before the leader has looked signs with the other root
// for as long.

// errOverwritten says that another root is stored, and the leader has not yet made a rotation of it.
var errOverwritten = errors.New("the stored authority was overwritten with another root")

// follows reports that next continues before: certificates of before are accepted under next's roots, and the other way round,
// unless next is in the middle of a rotation, of which this replica has missed a phase.
func follows(before, next *stored, now time.Time) bool {
	if _, err := longest(before.signs.cert, next.signs.trusted, before.signs.chain, now); err != nil {
		return false
	}
	if next.rotation.Phase != Stable {
		return true
	}
	_, err := longest(next.signs.cert, before.signs.trusted, next.signs.chain, now)
	return err == nil
}

// takes reports that next may be used as it is. seen is how long ago before was known to be what is stored.
func takes(before, next *stored, seen time.Duration, w Windows, now time.Time) bool {
	_, end := before.signs.Expiry()
	return !now.Before(end) || seen >= w.Overlap || follows(before, next, now)
}

// adopt is the data of before with the root of another authority as the one that signs next. A rotation that is on its way
// goes to that root instead, or, if the new root signs already, the next one begins when it ends.
func adopt(before, other *stored) (map[string][]byte, error) {
	if len(other.signs.chain) > 1 {
		return nil, fmt.Errorf("%w that is not a root of its own: its owner must store a root, or what was there before", errOverwritten)
	}
	data := maps.Clone(before.data)
	data[KeyNextCert], data[KeyNextKey] = other.data[KeyCert], other.data[KeyKey]
	if roots := moreRoots(before, other); len(roots) > 0 {
		data[KeyRoot] = roots
	}
	r := before.rotation
	if r.Phase != Switched {
		r = Rotation{Phase: Distributing, Cause: CauseReplaced, Request: r.Request}
	}
	return withRotation(data, r)
}

// moreRoots is before's bundle of roots together with those of other meshes that come with the other authority; nil if there
// are none.
func moreRoots(before, other *stored) []byte {
	more, err := parseCerts(other.data[KeyRoot])
	if err != nil {
		return nil
	}
	own := before.data[KeyRoot]
	if len(bytes.TrimSpace(own)) == 0 {
		own = before.data[KeyCert]
	}
	have, err := parseCerts(own)
	if err != nil {
		return nil
	}
	more = slices.DeleteFunc(more, func(c *x509.Certificate) bool {
		return c.Equal(other.signs.cert) || slices.ContainsFunc(have, c.Equal)
	})
	if len(more) == 0 {
		return nil
	}
	return joinCerts(append(have, more...)...)
}
