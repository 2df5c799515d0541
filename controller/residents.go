package controller

import (
	"sync"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// resident is an identity on a node.
type resident struct{ node, namespace, account string }

// residents knows which identities live on which node: those of pods that are assigned there and have not ended. It
// implements ca.Residents.
type residents struct {
	mu    sync.RWMutex
	pods  map[objects.Key]resident
	count map[resident]int
}

func newResidents() *residents {
	return &residents{pods: map[objects.Key]resident{}, count: map[resident]int{}}
}

// Runs implements ca.Residents.
func (r *residents) Runs(node, namespace, account string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return node != "" && r.count[resident{node, namespace, account}] > 0
}

func (r *residents) apply(changes []objects.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		if c.Key.Kind != objects.Pod {
			continue
		}
		if old, ok := r.pods[c.Key]; ok {
			delete(r.pods, c.Key)
			if r.count[old]--; r.count[old] == 0 {
				delete(r.count, old)
			}
		}
		pod, ok := c.Object.(*objects.CompactPod)
		if !ok || pod.NodeName == "" || pod.Ended() {
			continue
		}
		account := pod.ServiceAccountName
		if account == "" {
			account = "default"
		}
		now := resident{pod.NodeName, pod.Namespace, account}
		r.pods[c.Key] = now
		r.count[now]++
	}
}
