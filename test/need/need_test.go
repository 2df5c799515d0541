package need

import "testing"

func TestRequired(t *testing.T) {
	for _, tc := range []struct {
		list string
		want bool
	}{{"", false}, {"root", true}, {"mptcp,root", true}, {"rooted", false}, {"apiserver", false}} {
		if got := required(tc.list, AsRoot); got != tc.want {
			t.Errorf("%q: %v", tc.list, got)
		}
	}
}

// recorder notes how a test was ended instead of ending it.
type recorder struct {
	testing.TB
	failed, skipped bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.failed = true }
func (r *recorder) Skipf(string, ...any)  { r.skipped = true }

func TestThat(t *testing.T) {
	for _, tc := range []struct {
		name            string
		there           bool
		require         string
		failed, skipped bool
	}{
		{"there", true, "", false, false},
		{"there and required", true, "mptcp", false, false},
		{"missing", false, "root,cgroup2", false, true},
		{"missing and required", false, "root,mptcp", true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("AMBIT_TEST_REQUIRE", tc.require)
			r := &recorder{TB: t}
			That(r, tc.there, MPTCP, "why")
			if r.failed != tc.failed || r.skipped != tc.skipped {
				t.Errorf("failed %v, skipped %v", r.failed, r.skipped)
			}
		})
	}
}
