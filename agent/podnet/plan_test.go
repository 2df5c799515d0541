package podnet

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

var ports = []uint16{15001, 15006, 15008, 15053}

func TestPlanApplyAndRestore(t *testing.T) {
	cases := map[string]struct {
		now     Values
		applied Values
		changed Values // by somebody else, while the pod was in the mesh
		after   Values
	}{
		"untouched namespace": {
			now:     Values{twReuse: "2", reservedPorts: "", migrateReq: "0"},
			applied: Values{twReuse: "1", reservedPorts: "15001,15006,15008,15053", migrateReq: "1"},
			after:   Values{twReuse: "2", reservedPorts: "", migrateReq: "0"},
		},
		"some were so already": {
			now:     Values{twReuse: "1", reservedPorts: "8080,15000-15001", migrateReq: "1"},
			applied: Values{twReuse: "1", reservedPorts: "8080,15000-15001,15006,15008,15053", migrateReq: "1"},
			after:   Values{twReuse: "1", reservedPorts: "8080,15000-15001", migrateReq: "1"},
		},
		"an old kernel": {
			now:     Values{twReuse: "0", reservedPorts: ""},
			applied: Values{twReuse: "1", reservedPorts: "15001,15006,15008,15053"},
			after:   Values{twReuse: "0", reservedPorts: ""},
		},
		"changed by others meanwhile": {
			now:     Values{twReuse: "2", reservedPorts: "", migrateReq: "0"},
			applied: Values{twReuse: "1", reservedPorts: "15001,15006,15008,15053", migrateReq: "1"},
			changed: Values{twReuse: "0", reservedPorts: "9000,15001,15006,15008,15053"},
			after:   Values{twReuse: "0", reservedPorts: "9000", migrateReq: "0"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			writes, before, err := planApply(c.now, nil, ports)
			if err != nil {
				t.Fatal(err)
			}
			now := perform(c.now, writes)
			if d := cmp.Diff(c.applied, now); d != "" {
				t.Errorf("applied (-want +got):\n%s", d)
			}
			writes, again, err := planApply(now, before, ports)
			if err != nil || len(writes) > 0 || !cmp.Equal(before, again) {
				t.Errorf("a second apply writes %v, remembers %v, %v", writes, again, err)
			}
			for key, value := range c.changed {
				now[key] = value
			}
			writes, err = planRestore(now, before, ports)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.after, perform(now, writes)); d != "" {
				t.Errorf("restored (-want +got):\n%s", d)
			}
		})
	}
}

func perform(v Values, writes []Write) Values {
	after := Values{}
	for key, value := range v {
		after[key] = value
	}
	for _, w := range writes {
		after[w.Key] = w.Value
	}
	return after
}

func TestPortsThatCannotBeRead(t *testing.T) {
	for _, bad := range []string{"x", "1-", "-1", "9-8", "65536", "1-2-3"} {
		if s, err := parsePorts(bad); err == nil {
			t.Errorf("%q was read as %s", bad, s)
		}
		if _, _, err := planApply(Values{reservedPorts: bad}, nil, ports); err == nil {
			t.Errorf("%q was planned over", bad)
		}
	}
}

func FuzzParsePorts(f *testing.F) {
	for _, s := range []string{"", "1", "1-5,7", "0-65535", "9-8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parsePorts(text)
		if err != nil {
			return
		}
		again, err := parsePorts(s.String())
		if err != nil || *again != *s || again.len() != s.len() {
			t.Fatalf("%q became %q, which is another set (%v)", text, s, err)
		}
	})
}
