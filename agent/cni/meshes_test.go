package cni

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOtherMeshes(t *testing.T) {
	list := func(plugins string) string {
		return `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"},` + plugins + `]}`
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  string // file that is named; "": nobody
	}{
		"nothing":                 {nil, ""},
		"no mesh":                 {map[string]string{"10-a.conflist": theirs}, ""},
		"istio's sidecars":        {map[string]string{"10-a.conflist": list(`{"type":"istio-cni"}`)}, ""},
		"istio's sidecars, said":  {map[string]string{"10-a.conflist": list(`{"type":"istio-cni","ambient_enabled":false}`)}, ""},
		"istio ambient":           {map[string]string{"10-a.conflist": list(`{"type":"istio-cni","ambient_enabled":true}`)}, "10-a.conflist"},
		"before ours":             {map[string]string{"10-a.conflist": list(`{"type":"istio-cni","ambient_enabled":true},{"type":"ambit-cni"}`)}, "10-a.conflist"},
		"in a list of its own":    {map[string]string{"02-istio-cni.conflist": list(`{"type":"istio-cni","ambient_enabled":true}`), "10-a.conflist": theirs}, "02-istio-cni.conflist"},
		"in one that is not used": {map[string]string{"10-a.conflist": theirs, "20-b.conflist": list(`{"type":"istio-cni","ambient_enabled":true}`)}, ""},
		"linkerd":                 {map[string]string{"10-a.conflist": list(`{"type":"linkerd-cni"}`)}, ""},
		"nonsense":                {map[string]string{"10-a.conflist": list(`7,{"type":["istio-cni"]}`)}, ""},
	} {
		dir := t.TempDir()
		for file, text := range test.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := OtherMeshes(dir); len(got) > 0 != (test.want != "") || len(got) > 0 && !strings.HasPrefix(got[0], test.want+" ") {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
	if got := OtherMeshes(filepath.Join(t.TempDir(), "none")); got != nil {
		t.Errorf("a folder that is not there: %q", got)
	}
}
