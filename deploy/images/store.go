package main

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations by which containerd names what it imports.
const (
	annotRefName    = "org.opencontainers.image.ref.name"
	annotContainerd = "io.containerd.image.name"
)

const mediaTypeBOM = types.MediaType("application/vnd.cyclonedx+json")

// archive writes the image as an OCI layout in a tar file: `ctr -n k8s.io images import` reads it.
func archive(m *image, to string) (err error) {
	dir, err := os.MkdirTemp("", "ambit-layout-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	names := map[string]string{annotContainerd: runtimeName(m.name), annotRefName: m.name.TagStr()}
	if err := l.AppendIndex(m.index, layout.WithAnnotations(names)); err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return entry(w, path, filepath.ToSlash(rel), d)
	}); err != nil {
		return err
	}
	return w.Close()
}

// runtimeName is the name by which kubelets ask their runtime for an image. The library calls Docker's registry by its host.
func runtimeName(tag name.Tag) string {
	full := tag.Name()
	if rest, docker := strings.CutPrefix(full, name.DefaultRegistry+"/"); docker {
		return "docker.io/" + rest
	}
	return full
}

func entry(w *tar.Writer, path, name string, d fs.DirEntry) error {
	if d.IsDir() {
		return w.WriteHeader(&tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)})
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: info.Size(), ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// push writes the image to its registry, and each bill of materials as an artifact that refers to its image (OCI
// distribution 1.1, referrers).
func push(ctx context.Context, m *image) error {
	opts := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	if err := remote.WriteIndex(m.name, m.index, opts...); err != nil {
		return err
	}
	for _, b := range m.boms {
		img, err := m.index.Image(b.image)
		if err != nil {
			return err
		}
		subject, err := partial.Descriptor(img)
		if err != nil {
			return err
		}
		artifact, err := mutate.Append(
			mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mediaTypeBOM),
			mutate.Addendum{Layer: static.NewLayer(b.text, mediaTypeBOM)})
		if err != nil {
			return err
		}
		refers, ok := mutate.Subject(artifact, *subject).(v1.Image)
		if !ok {
			return errors.New("bill of materials is no image")
		}
		digest, err := refers.Digest()
		if err != nil {
			return err
		}
		if err := remote.Write(m.name.Context().Digest(digest.String()), refers, opts...); err != nil {
			return err
		}
	}
	return nil
}
