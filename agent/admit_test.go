package agent

import (
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/agent/handoff"
	"github.com/ambit-mesh/ambit/agent/pods"
)

func TestAdmission(t *testing.T) {
	const ztunnel, other, unknown = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002", "00000000-0000-0000-0000-000000000003"
	set := pods.NewSet([]pods.Pod{
		{UID: ztunnel, Key: pods.Key{Namespace: "ambit-system", Name: "ambit-ztunnel-x"}, ServiceAccount: "ambit-ztunnel"},
		{UID: other, Key: pods.Key{Namespace: "shop", Name: "web"}, ServiceAccount: "ambit-ztunnel"},
	}, nil)
	account := pods.Key{Namespace: "ambit-system", Name: "ambit-ztunnel"}
	for _, tc := range []struct {
		name    string
		account pods.Key
		set     *pods.Set
		peer    handoff.Peer
		want    string // in the error; "" admits
	}{
		{"the ztunnel", account, set, handoff.Peer{UID: 1337, Cgroup: "/kubepods/pod" + ztunnel + "/c"}, ""},
		{"another uid", account, set, handoff.Peer{UID: 1000, Cgroup: "/kubepods/pod" + ztunnel + "/c"}, "uid 1000"},
		{"the account of that name in another namespace", account, set, handoff.Peer{UID: 1337, Cgroup: "/kubepods/pod" + other + "/c"}, "runs as shop/ambit-ztunnel"},
		{"a pod nobody knows", account, set, handoff.Peer{UID: 1337, Cgroup: "/kubepods/pod" + unknown + "/c"}, "not known on this node"},
		{"before the pods are known", account, nil, handoff.Peer{UID: 1337, Cgroup: "/kubepods/pod" + ztunnel + "/c"}, "not known yet"},
		{"a process of the host", account, set, handoff.Peer{UID: 1337, Cgroup: "/user.slice"}, "not a pod's"},
		{"no account asked for", pods.Key{}, nil, handoff.Peer{UID: 1337, Cgroup: "/user.slice"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := admission(1337, "", tc.account, func() *pods.Set { return tc.set })(tc.peer)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
