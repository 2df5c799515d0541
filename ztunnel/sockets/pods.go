package sockets

import (
	"fmt"

	"github.com/ambit-mesh/ambit/agent/api"
)

// entry is a pod that the agent named.
type entry struct {
	pod    *Pod
	wire   *api.Pod // as last learned
	held   held
	stocks map[api.SocketKind]*stock // guarded by Client.mu
	left   bool                      // guarded by Client.mu; it is not returned to an agent, and its listeners are closed
}

// add takes a pod and its listeners on. It owns fds.
func (c *Client) add(m *api.AddPod, fds api.Fds) error {
	pod := newPod(m.GetPod())
	h, err := hold(m.GetKinds(), fds)
	if err != nil {
		fds.Close()
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	listeners, err := adoptListeners(m.GetKinds(), fds)
	if err != nil {
		h.fds.Close()
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	c.install(&entry{pod: pod, wire: m.GetPod(), held: h})
	if err := c.cfg.Handler.Add(pod, listeners); err != nil {
		c.Release(pod)
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// install replaces what is known of a pod. Its stocks stay as long as it is in the same network namespace.
func (c *Client) install(e *entry) {
	c.mu.Lock()
	old := c.pods[e.pod.UID]
	if old != nil && old.pod.NetnsCookie == e.pod.NetnsCookie {
		e.stocks, old.stocks = old.stocks, nil
	} else {
		e.stocks = c.firstStocks(e.pod)
	}
	c.pods[e.pod.UID] = e
	c.metrics.pods.Set(float64(len(c.pods)))
	c.mu.Unlock()
	if old != nil {
		old.close()
	}
	for _, s := range c.stocks() {
		if s.uid == e.pod.UID {
			c.refill.add(s)
		}
	}
}

func (c *Client) firstStocks(p *Pod) map[api.SocketKind]*stock {
	stocks := map[api.SocketKind]*stock{}
	v4, v6 := p.families()
	for kind, wanted := range map[api.SocketKind]bool{
		api.SocketKind_TCP4: v4, api.SocketKind_UDP4: v4 && p.DNS,
		api.SocketKind_TCP6: v6, api.SocketKind_UDP6: v6 && p.DNS,
	} {
		if wanted {
			stocks[kind] = newStock(p.UID, kind, c.metrics.kinds[kind], c.refill.add)
		}
	}
	return stocks
}

// keep confirms a pod that was returned.
func (c *Client) keep(uid string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pods[uid] == nil {
		return fmt.Errorf("pod %s: kept, but not known here", uid)
	}
	return nil
}

// remove takes a pod away. Unknown pods are no error: an agent may say it twice.
func (c *Client) remove(m *api.DelPod) {
	reason := Gone
	if m.GetReason() == api.DelPod_LEFT {
		reason = Left
	}
	c.mu.Lock()
	e := c.pods[m.GetUid()]
	if e == nil {
		c.mu.Unlock()
		return
	}
	e.left = true
	c.mu.Unlock()
	c.cfg.Handler.Remove(m.GetUid(), reason)
	if reason == Gone {
		c.Release(e.pod)
		return
	}
	e.held.fds.Close()
	e.held = held{}
}

// except lists the pods that are served and not in named.
func (c *Client) except(named map[string]bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var others []string
	for uid, e := range c.pods {
		if !named[uid] && !e.left {
			others = append(others, uid)
		}
	}
	return others
}

func newPod(p *api.Pod) *Pod {
	return &Pod{
		UID: p.GetUid(), Name: p.GetName(), Namespace: p.GetNamespace(), ServiceAccount: p.GetServiceAccount(),
		Addresses: api.Addrs(p.GetAddresses()), NetnsCookie: p.GetNetnsCookie(), DNS: p.GetDns(),
		BypassInbound: p.GetBypassInbound(), Nameservers: api.Addrs(p.GetNameservers()),
	}
}
