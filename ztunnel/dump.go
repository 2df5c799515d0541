package ztunnel

import (
	"github.com/ambit-mesh/ambit/ztunnel/admin"
	"github.com/ambit-mesh/ambit/ztunnel/inpod"
)

// podsDump is what the admin port shows of the pods and their connections.
func podsDump(pods *inpod.Pods) map[string]admin.Pod {
	all := map[string]admin.Pod{}
	for _, p := range pods.Views() {
		one := admin.Pod{State: admin.Up, Info: admin.PodInfo{Name: p.Pod.Name, Namespace: p.Pod.Namespace, ServiceAccount: p.Pod.ServiceAccount}}
		for _, v := range p.Connections {
			c := admin.Connection{
				Src: v.Client, ActualDst: v.Dial, Protocol: v.Protocol, Plan: v.Plan, Policy: v.Policy, Reason: v.Reason,
				Snapshot: v.Snapshot, Identity: v.Peer,
			}
			if v.Meant != "" {
				c.OriginalDst = &v.Meant
			}
			if v.Inbound {
				one.Connections.Inbound = append(one.Connections.Inbound, c)
			} else {
				one.Connections.Outbound = append(one.Connections.Outbound, c)
			}
		}
		all[p.Pod.UID] = one
	}
	return all
}
