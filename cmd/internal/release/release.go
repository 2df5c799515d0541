// Package release says which version of the product a program is.
package release

import "runtime/debug"

// stamped is set by the linker when images are built: -X github.com/ambit-mesh/ambit/cmd/internal/release.stamped=v1.2.3
var stamped string

// Version is the version that the program was stamped with, or else that of its module; "unknown" if there is neither.
// Revision is the commit it was built from, marked if there were changes besides, or "unknown".
func Version() (version, revision string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return of(stamped, info)
}

func of(stamp string, info *debug.BuildInfo) (version, revision string) {
	version, revision = stamp, "unknown"
	if version == "" {
		version = info.Main.Version
	}
	if version == "" {
		version = "unknown"
	}
	changed := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			changed = s.Value == "true"
		}
	}
	if changed {
		revision += "-dirty"
	}
	return version, revision
}
