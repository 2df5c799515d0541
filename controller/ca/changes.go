package ca

import (
	"bytes"
	"crypto/x509"
	"slices"
	"sync"
)

// changes is the authority in use and who waits for the next.
type changes struct {
	mu     sync.Mutex
	now    *Authority
	wakeup chan struct{}
}

func (c *changes) get() *Authority {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wakeup == nil {
		c.wakeup = make(chan struct{})
	}
	return c.wakeup
}

// set replaces the authority. Who waits is woken only if it signs or trusts differently.
func (c *changes) set(a *Authority) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.now
	c.now = a
	if before == nil || c.wakeup == nil || before.same(a) {
		return
	}
	close(c.wakeup)
	c.wakeup = nil
}

// same reports that two authorities sign and trust alike.
func (a *Authority) same(b *Authority) bool {
	return slices.EqualFunc(a.chain, b.chain, (*x509.Certificate).Equal) && bytes.Equal(a.roots, b.roots)
}
