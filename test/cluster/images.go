package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// writeImage makes an image of one static program, which is its entry point, and writes it as a tarball that containerd
// imports. The same program gives the same image.
func writeImage(file, image, program string) error {
	tag, err := name.NewTag(image)
	if err != nil {
		return fmt.Errorf("image name: %w", err)
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	var files bytes.Buffer
	entry := "/" + path.Base(tag.RepositoryStr())
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Name: entry[1:], Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := w.Write(text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		return err
	}
	// containerd skips an image that does not tell its platform.
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS: "linux", Architecture: runtime.GOARCH, Config: v1.Config{Entrypoint: []string{entry}, WorkingDir: "/"},
	})
	if err != nil {
		return err
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return err
	}
	return tarball.WriteToFile(file, tag, img)
}

// images builds the cluster's own programs and writes their images to dir.
func (t Tree) images(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for image, program := range map[string]string{pauseImage: "pause", "docker.io/ambit/hello:dev": "hello", "docker.io/ambit/coredns:dev": "coredns"} {
		binary, err := t.build(ctx, program, "")
		if err != nil {
			return err
		}
		if err := writeImage(filepath.Join(dir, program+".tar"), image, binary); err != nil {
			return fmt.Errorf("image %s: %w", image, err)
		}
	}
	return nil
}

// loadImages gives all images of a folder to the containerd at the usual place.
func loadImages(ctx context.Context, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err != nil {
		return err
	}
	for _, f := range files {
		out, err := exec.CommandContext(ctx, "ctr", "--address="+containerdSocket, "--namespace=k8s.io", "images", "import", f).CombinedOutput()
		if err != nil {
			return fmt.Errorf("load image %s: %w: %s", f, err, bytes.TrimSpace(out))
		}
	}
	return nil
}
