package plan

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestWant(t *testing.T) {
	got, err := Want([]Pod{
		{Cookie: 7, IPv4: addr("10.0.0.7"), IPv6: addr("fd00::7"), DNS: true, Strict: true, ProbePorts: []uint16{80}},
		{Cookie: 8, IPv6: addr("fd00::8"), BypassInbound: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Entries{
		Pods: map[uint64]Pod{
			7: {Cookie: 7, IPv4: addr("10.0.0.7"), IPv6: addr("fd00::7"), DNS: true, Strict: true},
			8: {Cookie: 8, IPv6: addr("fd00::8"), BypassInbound: true},
		},
		Locals: map[netip.Addr]Local{
			addr("10.0.0.7"): {7, FlagDNS | FlagStrict}, addr("fd00::7"): {7, FlagDNS | FlagStrict},
			addr("fd00::8"): {8, FlagBypassInbound},
		},
		Probes: map[netip.AddrPort]bool{
			netip.MustParseAddrPort("10.0.0.7:80"): true, netip.MustParseAddrPort("[fd00::7]:80"): true,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWantRefuses(t *testing.T) {
	ok := Pod{Cookie: 1, IPv4: addr("10.0.0.7")}
	for name, tc := range map[string]struct {
		pods []Pod
		want error
	}{
		"no namespace":      {[]Pod{{IPv4: ok.IPv4}}, ErrInvalid},
		"no address":        {[]Pod{{Cookie: 1}}, ErrInvalid},
		"families swapped":  {[]Pod{{Cookie: 1, IPv4: addr("fd00::1")}}, ErrInvalid},
		"IPv4 as IPv6":      {[]Pod{{Cookie: 1, IPv6: addr("10.0.0.7")}}, ErrInvalid},
		"mapped":            {[]Pod{{Cookie: 1, IPv6: addr("::ffff:10.0.0.7")}}, ErrInvalid},
		"zone":              {[]Pod{{Cookie: 1, IPv6: addr("fd00::1%eth0")}}, ErrInvalid},
		"loopback":          {[]Pod{{Cookie: 1, IPv4: addr("127.0.0.1")}}, ErrInvalid},
		"unspecified":       {[]Pod{{Cookie: 1, IPv6: addr("::")}}, ErrInvalid},
		"link-local":        {[]Pod{{Cookie: 1, IPv6: addr("fe80::1")}}, ErrInvalid},
		"multicast":         {[]Pod{{Cookie: 1, IPv4: addr("224.0.0.1")}}, ErrInvalid},
		"probe port 0":      {[]Pod{{Cookie: 1, IPv4: ok.IPv4, ProbePorts: []uint16{0}}}, ErrInvalid},
		"one pod twice":     {[]Pod{ok, {Cookie: 1, IPv4: addr("10.0.0.8")}}, ErrInvalid},
		"one address twice": {[]Pod{ok, {Cookie: 2, IPv4: ok.IPv4}}, ErrTaken},
	} {
		if _, err := Want(tc.pods); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

// apply is the dumb way to carry out changes.
func apply(have, want Entries, c Changes) {
	for _, k := range c.DelPods {
		delete(have.Pods, k)
	}
	for _, k := range c.DelProbes {
		delete(have.Probes, k)
	}
	for _, k := range c.DelLocals {
		delete(have.Locals, k)
	}
	for _, k := range c.PutLocals {
		have.Locals[k] = want.Locals[k]
	}
	for _, k := range c.PutProbes {
		have.Probes[k] = true
	}
	for _, k := range c.PutPods {
		have.Pods[k] = want.Pods[k]
	}
}

func anyPods(r *rand.Rand) (pods []Pod) {
	for i := range 6 {
		if r.IntN(2) == 0 {
			continue
		}
		p := Pod{Cookie: uint64(i + 1), DNS: r.IntN(2) == 0, Strict: r.IntN(2) == 0, BypassInbound: r.IntN(2) == 0}
		// Addresses move between pods from one set to the next, never within one.
		p.IPv4 = netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(i)})
		if r.IntN(2) == 0 {
			p.IPv6 = addr("fd00::1").Next()
			for range i {
				p.IPv6 = p.IPv6.Next()
			}
		}
		for port := uint16(80); port < 83; port++ {
			if r.IntN(2) == 0 {
				p.ProbePorts = append(p.ProbePorts, port)
			}
		}
		pods = append(pods, p)
	}
	return pods
}

// From any set of pods, the difference to any other leads exactly there, and from there nowhere.
func TestDiffLeadsToWhatIsWanted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		have, err := Want(anyPods(r))
		if err != nil {
			t.Fatal(err)
		}
		pods := anyPods(r)
		want, err := Want(pods)
		if err != nil {
			t.Fatal(err)
		}
		apply(have, want, Diff(have, want))
		if !reflect.DeepEqual(have, want) {
			t.Fatalf("reached %+v, want %+v", have, want)
		}
		if again := Diff(have, want); !reflect.DeepEqual(again, Changes{}) {
			t.Fatalf("nothing is left to do but %+v", again)
		}
		if got := want.List(); len(got) != len(pods) || (len(pods) > 0 && !reflect.DeepEqual(got, pods)) {
			t.Fatalf("read back %+v, want %+v", got, pods)
		}
	}
}

func TestSpreadPort(t *testing.T) {
	seen := map[uint16]int{}
	for i := range 256 {
		for port := uint16(1); port < 100; port++ {
			p := SpreadPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), port))
			if p < 1024 || p > 65023 {
				t.Fatalf("port %d", p)
			}
			seen[p]++
		}
	}
	if len(seen) < 15000 { // of 25,344 destinations; evenly at random it would be about 20,900
		t.Errorf("only %d ports", len(seen))
	}
}
