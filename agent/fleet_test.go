package agent

import (
	"net/netip"
	"testing"

	"github.com/ambit-mesh/ambit/agent/cni"
	"github.com/ambit-mesh/ambit/agent/datapath"
	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/pods"
)

// A pod of an earlier agent may be let go only when it surely is none of the source's.
func TestWhatAnEarlierAgentEnrolledIsClaimed(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	adopted := datapath.Pod{Cookie: 7, IPv4: a}
	in, out := enroll.Decision{Verdict: enroll.Enrolled}, enroll.Decision{Verdict: enroll.Outside}
	cases := map[string]struct {
		m    member
		want bool
	}{
		"its address":                    {member{pod: pods.Pod{IPs: []netip.Addr{b, a}}, decision: in}, true},
		"its address, in doubt":          {member{pod: pods.Pod{IPs: []netip.Addr{a}}}, true},
		"another address":                {member{pod: pods.Pod{IPs: []netip.Addr{b}}, decision: in}, false},
		"no address yet":                 {member{decision: in}, true},
		"no address, not in the mesh":    {member{decision: out}, false},
		"its address, not in the mesh":   {member{pod: pods.Pod{IPs: []netip.Addr{a}}, decision: out}, false},
		"its address, sandbox over":      {member{pod: pods.Pod{IPs: []netip.Addr{a}}, decision: in, deleted: true}, false},
		"its address, another namespace": {member{pod: pods.Pod{IPs: []netip.Addr{a}}, decision: in, cookie: 8}, false},
		"its namespace":                  {member{decision: out, cookie: 7, enrolled: true}, true},
	}
	for name, c := range cases {
		f := &fleet{members: map[pods.UID]*member{"u": &c.m}}
		if got := f.claimed(adopted); got != c.want {
			t.Errorf("%s: claimed %v, want %v", name, got, c.want)
		}
	}
	if (&fleet{}).claimed(adopted) {
		t.Error("nobody claims it")
	}
}

func TestWhatTheCNIPluginIsTold(t *testing.T) {
	cases := map[string]struct {
		command   string
		m         *member
		ok, final bool
	}{
		"unknown":              {cni.Add, nil, false, false},
		"unknown, check":       {cni.Check, nil, false, true},
		"unknown, delete":      {cni.Del, nil, true, true},
		"outside":              {cni.Add, &member{decision: enroll.Decision{Verdict: enroll.Outside}}, true, true},
		"refused":              {cni.Add, &member{decision: enroll.Decision{Reason: enroll.ForeignHooks}}, false, true},
		"namespace to come":    {cni.Add, &member{decision: enroll.Decision{Reason: enroll.NamespaceUnknown}}, false, false},
		"not there yet":        {cni.Add, &member{decision: enroll.Decision{Verdict: enroll.Enrolled}}, false, false},
		"enrolled":             {cni.Add, &member{decision: enroll.Decision{Verdict: enroll.Enrolled}, enrolled: true}, true, true},
		"enrolled, in trouble": {cni.Add, &member{decision: enroll.Decision{Verdict: enroll.Enrolled}, enrolled: true, err: errNotFound}, false, false},
		"in trouble, check":    {cni.Check, &member{decision: enroll.Decision{Verdict: enroll.Enrolled}, err: errNotFound}, false, true},
	}
	for name, c := range cases {
		answer, final := new(fleet).judge(&question{Request: cni.Request{Command: c.command}}, c.m)
		if answer.OK != c.ok || final != c.final || !answer.OK && answer.Reason == "" {
			t.Errorf("%s: %+v, final %v", name, answer, final)
		}
	}
}

func TestPodBudget(t *testing.T) {
	for limit, want := range map[uint64]int{0: 0, 1024: 0, 1024 + 110: 10, 20_000: 1725, 1 << 63: (1 << 30) / 11} {
		if got := podBudget(limit); got != want {
			t.Errorf("%d files: %d pods, want %d", limit, got, want)
		}
	}
}
