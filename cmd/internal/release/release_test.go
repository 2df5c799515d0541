package release

import (
	"runtime/debug"
	"testing"
)

func TestOf(t *testing.T) {
	vcs := func(rev, modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs.revision", Value: rev}, {Key: "vcs.modified", Value: modified}}
	}
	for _, tc := range []struct {
		name              string
		stamp             string
		info              debug.BuildInfo
		version, revision string
	}{
		{"nothing known", "", debug.BuildInfo{}, "unknown", "unknown"},
		{"of the module", "", debug.BuildInfo{Main: debug.Module{Version: "v0.3.0"}}, "v0.3.0", "unknown"},
		{"the stamp has precedence", "v1.0.0", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "v1.0.0", "unknown"},
		{"of a commit", "", debug.BuildInfo{Settings: vcs("abc", "false")}, "unknown", "abc"},
		{"with changes", "", debug.BuildInfo{Settings: vcs("abc", "true")}, "unknown", "abc-dirty"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if v, r := of(tc.stamp, &tc.info); v != tc.version || r != tc.revision {
				t.Errorf("got %s %s, want %s %s", v, r, tc.version, tc.revision)
			}
		})
	}
}
