package ztunnel

import (
	"strings"
	"testing"
)

func TestPrivileges(t *testing.T) {
	const caps = "CapInh:\t%s\nCapPrm:\t%s\nCapEff:\t%s\nCapBnd:\t000001ffffffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	none := strings.ReplaceAll(caps, "%s", "0000000000000000")
	some := strings.ReplaceAll(caps, "%s", "0000000000001000")
	for _, tc := range []struct{ name, status, want string }{
		{"none, the bounding set does not count", "Name:\tz\nUid:\t1337\t1337\t1337\t1337\n" + none, ""},
		{"root", "Uid:\t0\t0\t0\t0\n" + none, "runs as root"},
		{"saved root", "Uid:\t1337\t1337\t0\t1337\n" + none, "runs as root"},
		{"a capability", "Uid:\t1337\t1337\t1337\t1337\n" + some, "has capabilities 0x1000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := parsePrivileges(tc.status)
			if err != nil {
				t.Fatal(err)
			}
			if !p.noNewPrivs {
				t.Error("no_new_privs not seen")
			}
			switch err := p.refuse(); {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	for _, broken := range []string{"", "Uid:\tx\n", "Uid:\t1\nCapEff:\tzz\n"} {
		if _, err := parsePrivileges(broken); err == nil {
			t.Errorf("%q: no error", broken)
		}
	}
	if _, err := currentPrivileges(); err != nil {
		t.Error(err)
	}
}
