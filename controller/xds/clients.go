package xds

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Client is one connected client, for people and for istioctl: the shape is that of /debug/syncz.
type Client struct {
	ClusterID    string          `json:"cluster_id,omitempty"`
	Proxy        string          `json:"proxy"`
	ProxyType    string          `json:"proxy_type"`
	ProxyVersion string          `json:"proxy_version,omitempty"`
	IstioVersion string          `json:"istio_version,omitempty"`
	Account      string          `json:"account"`
	Node         string          `json:"node,omitempty"`
	Connected    time.Time       `json:"connected"`
	Bytes        uint64          `json:"bytes_sent"`
	Resources    map[string]Sync `json:"resources"` // by type URL
}

// Sync is how far a client is with one type.
type Sync struct {
	Sent      string            `json:"sent,omitempty"`
	Acked     string            `json:"acked,omitempty"`
	SentTime  time.Time         `json:"sentTime,omitzero"`
	InFlight  bool              `json:"in_flight,omitempty"`
	Wildcard  bool              `json:"wildcard"`
	Names     int               `json:"names,omitempty"` // asked for by name
	Rejects   uint64            `json:"rejects,omitempty"`
	LastError string            `json:"lastError,omitempty"` // until what was rejected has changed and was taken
	Rejected  map[string]string `json:"rejected,omitempty"`  // reasons by resource name
}

// Clients lists who is connected, in the order of their ids.
func (s *Server) Clients() []Client {
	s.mu.Lock()
	streams := slices.Collect(maps.Values(s.streams))
	s.mu.Unlock()
	out := make([]Client, 0, len(streams))
	for _, st := range streams {
		out = append(out, st.describe())
	}
	slices.SortFunc(out, func(a, b Client) int { return cmp.Or(cmp.Compare(a.Proxy, b.Proxy), a.Connected.Compare(b.Connected)) })
	return out
}

func (st *stream) describe() Client {
	st.mu.Lock()
	defer st.mu.Unlock()
	c := Client{
		Proxy: st.node.id, ProxyType: st.node.role, ProxyVersion: st.node.version, IstioVersion: st.node.version, ClusterID: st.node.cluster, Account: st.caller.Account(), Node: st.node.node,
		Connected: st.since, Bytes: st.bytes, Resources: map[string]Sync{},
	}
	for url, sub := range st.session.subs {
		c.Resources[url] = Sync{
			Sent: sub.sent, Acked: sub.acked, InFlight: sub.nonce != "", Wildcard: sub.wildcard, Names: len(sub.names),
			SentTime: sub.sentAt, Rejects: sub.nacks, LastError: sub.lastError(), Rejected: sub.reasons(),
		}
	}
	return c
}
