package agent

import (
	"fmt"

	"github.com/ambit-mesh/ambit/agent/handoff"
	"github.com/ambit-mesh/ambit/agent/pods"
)

// admission says who may be this node's ztunnel: one uid, and, where they are set, one cgroup and the pods of one service
// account. The kernel attests uid and cgroup, the cgroup names the pod, and the source knows whose pod that is. A pod the source
// has not heard of yet is refused; its ztunnel tries again.
func admission(uid int, cgroup string, account pods.Key, known func() *pods.Set) func(handoff.Peer) error {
	one := handoff.AllowOne(uint32(uid), cgroup)
	return func(p handoff.Peer) error {
		if err := one(p); err != nil || account == (pods.Key{}) {
			return err
		}
		id, ok := handoff.PodUID(p.Cgroup)
		if !ok {
			return fmt.Errorf("cgroup %.256q is not a pod's, and the ztunnel's account is %s", p.Cgroup, account)
		}
		set := known()
		if set == nil {
			return fmt.Errorf("this node's pods are not known yet: pod %s may be the ztunnel's or not", id)
		}
		pod, ok := set.ByUID(pods.UID(id))
		if !ok {
			return fmt.Errorf("pod %s is not known on this node", id)
		}
		if got := (pods.Key{Namespace: pod.Key.Namespace, Name: pod.ServiceAccount}); got != account {
			return fmt.Errorf("pod %s runs as %s, the ztunnel as %s", pod.Key, got, account)
		}
		return nil
	}
}
