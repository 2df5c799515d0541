package sockets

import (
	"sync"
	"time"

	"github.com/ambit-mesh/ambit/agent/pods"
	"golang.org/x/time/rate"
)

// Limits bound how fast sockets are handed out. A ztunnel that is told "fewer" or "none" asks again.
type Limits struct {
	PerPod, PerPodBurst   int // sockets a second, and at once
	PerNode, PerNodeBurst int
}

// DefaultLimits are far above what one ztunnel can use (making and passing a socket costs 20 µs) and low enough that one pod
// cannot take all of the agent's time.
func DefaultLimits() Limits {
	return Limits{PerPod: 20_000, PerPodBurst: 4096, PerNode: 50_000, PerNodeBurst: 16_384}
}

// Limiter applies Limits.
type Limiter struct {
	limits Limits
	node   *rate.Limiter

	mu   sync.Mutex // guards pods
	pods map[pods.UID]*rate.Limiter
}

// NewLimiter starts with full bursts.
func NewLimiter(l Limits) *Limiter {
	return &Limiter{
		limits: l, node: rate.NewLimiter(rate.Limit(l.PerNode), l.PerNodeBurst), pods: map[pods.UID]*rate.Limiter{},
	}
}

// Grant answers how many of n sockets a pod may have now: from 0 to n.
func (l *Limiter) Grant(uid pods.UID, n int, now time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	pod, ok := l.pods[uid]
	if !ok {
		pod = rate.NewLimiter(rate.Limit(l.limits.PerPod), l.limits.PerPodBurst)
		l.pods[uid] = pod
	}
	n = min(n, int(pod.TokensAt(now)), int(l.node.TokensAt(now)))
	if n <= 0 || !pod.AllowN(now, n) || !l.node.AllowN(now, n) {
		return 0
	}
	return n
}

// Forget drops a pod that is gone.
func (l *Limiter) Forget(uid pods.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pods, uid)
}
