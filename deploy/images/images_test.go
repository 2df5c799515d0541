package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// cni is the smallest of the real images' programs: what the tests build.
var cni = spec{name: "tiny", title: "the CNI plugin alone", user: "1337:1337", programs: []program{{"cmd/cni", "/opt/cni/bin/ambit-cni"}}}

func made(t *testing.T, hub string, arch ...string) (*image, options) {
	t.Helper()
	o := options{source: "../..", hub: hub, tag: "test", version: "v0.0.1-test", architectures: arch, insecure: true}
	m, err := assemble(t.Context(), o, cni)
	if err != nil {
		t.Fatal(err)
	}
	return m, o
}

func digest(t *testing.T, m *image) v1.Hash {
	t.Helper()
	d, err := m.index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The same sources give the same image, and its archive is what containerd reads.
func TestReproducible(t *testing.T) {
	a, _ := made(t, "example.test/ambit", "amd64")
	b, _ := made(t, "example.test/ambit", "amd64")
	if digest(t, a) != digest(t, b) {
		t.Errorf("two builds gave %s and %s", digest(t, a), digest(t, b))
	}
	if string(a.boms[0].text) != string(b.boms[0].text) {
		t.Error("two builds gave different bills of materials")
	}
	path := filepath.Join(t.TempDir(), "tiny.tar")
	if err := archive(a, path); err != nil {
		t.Fatal(err)
	}
	var index struct {
		Manifests []struct {
			Digest      string
			Annotations map[string]string
		}
	}
	if err := json.Unmarshal(member(t, path, "index.json"), &index); err != nil {
		t.Fatal(err)
	}
	if len(index.Manifests) != 1 || index.Manifests[0].Digest != digest(t, a).String() ||
		index.Manifests[0].Annotations[annotContainerd] != "example.test/ambit/tiny:test" {
		t.Errorf("index of the archive: %+v", index)
	}
}

func member(t *testing.T, path, name string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s holds no %s", path, name)
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name == name {
			text, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			return text
		}
	}
}

// What a user pulls from a registry after a push: both architectures, the user, the program; and the bill of materials as a
// referrer of each image.
func TestPush(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.WithReferrersSupport(true)))
	defer server.Close()
	m, _ := made(t, strings.TrimPrefix(server.URL, "http://")+"/ambit", "amd64", "arm64")
	if err := push(context.Background(), m); err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := remote.Image(m.name, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Architecture != arch || cfg.Config.User != "1337:1337" || !slices.Equal(cfg.Config.Entrypoint, []string{"/opt/cni/bin/ambit-cni"}) {
			t.Errorf("%s: %s as %s runs %v", arch, cfg.Architecture, cfg.Config.User, cfg.Config.Entrypoint)
		}
		files := mutate.Extract(img)
		var names []string
		for r := tar.NewReader(files); ; {
			h, err := r.Next()
			if err != nil {
				break
			}
			names = append(names, h.Name)
			if h.Mode != 0o755 || h.Uid != 0 {
				t.Errorf("%s: mode %o, owner %d", h.Name, h.Mode, h.Uid)
			}
		}
		files.Close()
		if !slices.Equal(names, []string{"opt", "opt/cni", "opt/cni/bin", "opt/cni/bin/ambit-cni"}) && !slices.Equal(names, []string{"opt/", "opt/cni/", "opt/cni/bin/", "opt/cni/bin/ambit-cni"}) {
			t.Errorf("the image holds %q", names)
		}
		own, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		refs, err := remote.Referrers(m.name.Context().Digest(own.String()))
		if err != nil {
			t.Fatal(err)
		}
		list, err := refs.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Manifests) != 1 || list.Manifests[0].ArtifactType != string(mediaTypeBOM) {
			t.Errorf("%s has the referrers %+v", arch, list.Manifests)
		}
	}
}

// The bill names the modules that the program was linked from.
func TestBill(t *testing.T) {
	m, o := made(t, "example.test/ambit", "amd64")
	var doc cdx.BOM
	if err := json.Unmarshal(m.boms[0].text, &doc); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"stdlib": false, "github.com/containernetworking/cni": false}
	for _, c := range *doc.Components {
		if _, ok := want[c.Name]; ok {
			want[c.Name] = c.Version != "" && strings.HasPrefix(c.PackageURL, "pkg:golang/"+c.Name+"@")
		}
	}
	for name, there := range want {
		if !there {
			t.Errorf("no component %s", name)
		}
	}
	if c := doc.Metadata.Component; c.Version != o.version || (*c.Hashes)[0].Value != m.boms[0].image.Hex {
		t.Errorf("it is the bill of %+v", c)
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(nil); err != nil || len(all) != len(specs) {
		t.Errorf("%d, %v", len(all), err)
	}
	if some, err := choose([]string{"ztunnel"}); err != nil || len(some) != 1 || some[0].user != "1337:1337" {
		t.Errorf("%+v, %v", some, err)
	}
	if _, err := choose([]string{"zzz"}); err == nil || !strings.Contains(err.Error(), "controller") {
		t.Errorf("an unknown image: %v", err)
	}
}

// An image is not made of what does not compile, and nothing is left in the temporary folder.
func TestBroken(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	o := options{source: "../..", hub: "example.test/ambit", tag: "test", architectures: []string{"amd64"}}
	if _, err := assemble(t.Context(), o, spec{name: "none", programs: []program{{"cmd/none", "/none"}}}); err == nil {
		t.Error("no error")
	}
	if left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "ambit-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// An image that is loaded under another name than manifests ask for would be looked for in a registry.
func TestRuntimeName(t *testing.T) {
	for hub, want := range map[string]string{
		"docker.io/ambit": "docker.io/ambit/agent:dev", "ambit": "docker.io/ambit/agent:dev",
		"registry.example:5000/mesh": "registry.example:5000/mesh/agent:dev",
	} {
		tag, err := name.NewTag(hub + "/agent:dev")
		if err != nil {
			t.Fatal(err)
		}
		if got := runtimeName(tag); got != want {
			t.Errorf("hub %s: %s, want %s", hub, got, want)
		}
	}
}
