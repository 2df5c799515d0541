package controller

import (
	"sync"

	"github.com/ambit-mesh/ambit/controller/objects"
)

// resident is an identity on a node.
type resident struct{ node, namespace, account string }

// proxy is a node proxy's own pod.
type proxy struct{ node, account, uid string }

// place is the pods of one identity on one node.
type place struct {
	resident
	pods int
}

// residents knows which identities live on which node: those of pods that are assigned there and have not ended. Of the node
// proxies' own pods it knows more. It implements ca.Residents. A pod costs a map entry; what it says is shared.
type residents struct {
	accounts map[string]bool // of node proxies: "namespace/service account"

	mu      sync.RWMutex
	pods    map[objects.Key]*place
	places  map[resident]*place
	proxies map[objects.Key]proxy
}

func newResidents(nodeAccounts []string) *residents {
	r := &residents{
		accounts: map[string]bool{}, pods: map[objects.Key]*place{}, places: map[resident]*place{}, proxies: map[objects.Key]proxy{},
	}
	for _, a := range nodeAccounts {
		r.accounts[a] = true
	}
	return r
}

// Runs implements ca.Residents.
func (r *residents) Runs(node, namespace, account string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return node != "" && r.places[resident{node, namespace, account}] != nil
}

// Proxy implements ca.Residents.
func (r *residents) Proxy(namespace, account, pod, uid string) (node string, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	p, ok := r.proxies[objects.Key{Kind: objects.Pod, Namespace: namespace, Name: pod}]
	if !ok || uid == "" || p.uid != uid || p.account != account {
		return "", false
	}
	return p.node, true
}

func (r *residents) apply(changes []objects.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range changes {
		if c.Key.Kind == objects.Pod {
			r.removeLocked(c.Key)
			if pod, ok := c.Object.(*objects.CompactPod); ok && !pod.Ended() {
				r.addLocked(c.Key, pod)
			}
		}
	}
}

func (r *residents) removeLocked(key objects.Key) {
	delete(r.proxies, key)
	at := r.pods[key]
	if at == nil {
		return
	}
	delete(r.pods, key)
	if at.pods--; at.pods == 0 {
		delete(r.places, at.resident)
	}
}

func (r *residents) addLocked(key objects.Key, pod *objects.CompactPod) {
	account := pod.ServiceAccountName
	if account == "" {
		account = "default"
	}
	if r.accounts[pod.Namespace+"/"+account] {
		r.proxies[key] = proxy{pod.NodeName, account, string(pod.UID)}
	}
	if pod.NodeName == "" {
		return
	}
	where := resident{pod.NodeName, pod.Namespace, account}
	at := r.places[where]
	if at == nil {
		at = &place{resident: where}
		r.places[where] = at
	}
	at.pods++
	r.pods[key] = at
}
