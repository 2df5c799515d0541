package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Tree is the top of the product's tree; test/cluster lies below it.
type Tree string

func (t Tree) module() string { return filepath.Join(string(t), "test/cluster") }

// cacheDir is where built programs live: outside the tree, so that a new clone or a clean one need not build them again.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil { // no HOME
		base = "/var/cache"
	}
	dir := filepath.Join(base, "ambit")
	return dir, os.MkdirAll(dir, 0o755)
}

// build gives the path of the program in folder name of the module, built now if the cache has none of the same sources.
// The name in the cache holds a hash of all that goes into the program, so a stale one is never used.
func (t Tree) build(ctx context.Context, name string, ldflags string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("cache: %w", err)
	}
	key, err := t.key(name, ldflags)
	if err != nil {
		return "", err
	}
	path := filepath.Join(cache, name+"-"+key)
	unlock, err := lock(path + ".lock") // others that need the same wait for it instead of building too
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	fmt.Fprintf(os.Stderr, "building %s (once; minutes when the Go build cache is cold)\n", path)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w "+ldflags, "-o", path+".new", ".")
	cmd.Dir, cmd.Stderr = filepath.Join(t.module(), name), os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return path, os.Rename(path+".new", path)
}

// key hashes the modules' versions, the program's own source (its folder alone: it imports no other of this module), the
// compiler and the flags. The module files are the folder's where it is a module of its own.
func (t Tree) key(name, ldflags string) (string, error) {
	dir := filepath.Join(t.module(), name)
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		return "", fmt.Errorf("no program %s in %s: run at the top of the tree, or give --tree", name, t.module())
	}
	modules := dir
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		modules = t.module()
	}
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOARCH, ldflags)
	for _, f := range append(files, filepath.Join(modules, "go.mod"), filepath.Join(modules, "go.sum")) {
		text, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, filepath.Base(f), len(text))
		h.Write(text)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// lock holds an exclusive lock on a file until unlock is called, or the process ends. The file goes with unlock.
func lock(path string) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, err
		}
		if there, err := os.Stat(path); err == nil && os.SameFile(mine, there) {
			return func() { os.Remove(path); f.Close() }, nil
		}
		f.Close() // its holder removed it while this one waited
	}
}

// kubernetes builds the multi-call program. Its programs tell the version that they were linked with.
func (t Tree) kubernetes(ctx context.Context) (string, error) {
	version, err := t.version(ctx, t.module(), "k8s.io/kubernetes")
	if err != nil {
		return "", err
	}
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	const pkg = "k8s.io/component-base/version."
	return t.build(ctx, "kubernetes", fmt.Sprintf("-X %sgitVersion=%s -X %sgitMajor=%s -X %sgitMinor=%s", pkg, version, pkg, major, pkg, minor))
}

func (t Tree) version(ctx context.Context, dir, module string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Version}}", module)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("version of %s: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}
