package hbone

import "sync"

// cond is a sync.Cond that costs one word until somebody waits: most streams never do. Its methods are called with the lock
// held that guards it.
type cond struct{ c *sync.Cond }

// wait is sync.Cond's; l is the same at each call.
func (c *cond) wait(l sync.Locker) {
	if c.c == nil {
		c.c = sync.NewCond(l)
	}
	c.c.Wait()
}

func (c *cond) signal() {
	if c.c != nil {
		c.c.Signal()
	}
}

func (c *cond) broadcast() {
	if c.c != nil {
		c.c.Broadcast()
	}
}
