package folder

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source"
	"github.com/ambit-mesh/ambit/controller/source/manifest"
)

// script writes files and looks at what the folder says, without watching it.
type script struct {
	t   *testing.T
	dir string
	w   world
}

func newScript(t *testing.T) *script { return &script{t, t.TempDir(), newWorld()} }

func (s *script) write(name, text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *script) remove(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

// look is the names of the objects in force, and the problems.
func (s *script) look() (map[objects.Key]objects.Object, string, []manifest.Problem) {
	s.t.Helper()
	files, _, err := list(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	s.w.read(s.dir, files)
	objs, problems := s.w.resolve()
	var names []string
	for k, o := range objs {
		name := k.Name
		if p, ok := o.(*objects.CompactPod); ok {
			name += "@" + p.IPs[0].String()
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return objs, strings.Join(names, " "), problems
}

func (s *script) expect(what, want string, problems ...string) {
	s.t.Helper()
	_, got, found := s.look()
	if got != want {
		s.t.Errorf("%s: got %q, want %q", what, got, want)
	}
	var texts []string
	for _, p := range found {
		texts = append(texts, p.Error())
	}
	if len(texts) != len(problems) {
		s.t.Errorf("%s: problems %q, want %d", what, texts, len(problems))
		return
	}
	for i, p := range problems {
		if !strings.Contains(texts[i], p) {
			s.t.Errorf("%s: problem %q, want %q", what, texts[i], p)
		}
	}
}

func pod(name, ip string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: %s}, status: {podIP: %s}}\n", name, ip)
}

func TestLastGoodState(t *testing.T) {
	s := newScript(t)
	s.write("a.yaml", pod("a", "10.0.0.1"))
	s.write("sub/b.yml", pod("b", "10.0.0.2"))
	s.write("note.txt", "not a manifest")
	s.write(".hidden.yaml", "not: read")
	s.write(".git/c.yaml", "not: read")
	s.expect("start", "a@10.0.0.1 b@10.0.0.2")
	s.write("a.yaml", "{apiVersion: v1, kind: Pod, metadata: {name: a}, specc: {}}")
	s.expect("bad file", "a@10.0.0.1 b@10.0.0.2", "a.yaml:1: Pod/default/a: specc: unknown field")
	s.write("sub/b.yml", pod("b", "10.0.0.3"))
	s.expect("another file changes", "a@10.0.0.1 b@10.0.0.3", "a.yaml:1")
	s.write("a.yaml", pod("a", "10.0.0.4"))
	s.expect("mended", "a@10.0.0.4 b@10.0.0.3")
	s.write("a.yaml", "")
	s.expect("emptied", "b@10.0.0.3")
	s.remove("sub/b.yml")
	s.expect("removed", "")
	s.write("c.yaml", "{")
	s.expect("bad from the start", "", "c.yaml:1: not YAML")
}

func TestConflicts(t *testing.T) {
	s := newScript(t)
	s.write("b.yaml", pod("x", "10.0.0.1"))
	s.expect("start", "x@10.0.0.1")
	s.write("a.yaml", pod("y", "10.0.0.1"))
	s.expect("newcomer takes an address", "x@10.0.0.1", "a.yaml:1: Pod/default/y: status.podIPs: address 10.0.0.1 is that of Pod/default/x in b.yaml:1")
	s.write("b.yaml", pod("x", "10.0.0.2"))
	s.expect("the first one leaves it", "x@10.0.0.2 y@10.0.0.1")
	s.write("c.yaml", pod("x", "10.0.0.3"))
	s.expect("same object", "x@10.0.0.2 y@10.0.0.1", "c.yaml:1: Pod/default/x: metadata.name: same object in b.yaml:1")
	s.remove("b.yaml")
	s.expect("it moved", "x@10.0.0.3 y@10.0.0.1")
	s.write("a.yaml", pod("y", "10.0.0.3"))
	s.write("c.yaml", pod("x", "10.0.0.1"))
	s.expect("they swap", "x@10.0.0.1 y@10.0.0.3")
	s.write("d.yaml", pod("p", "10.0.0.9")+"---\n"+pod("q", "10.0.0.9"))
	s.expect("within one file", "x@10.0.0.1 y@10.0.0.3", "d.yaml:3: Pod/default/q: status.podIPs: address 10.0.0.9")
	s.write("d.yaml", "{apiVersion: v1, kind: Pod, metadata: {name: h}, spec: {hostNetwork: true}, status: {podIP: 10.0.0.1}}")
	s.expect("host network shares", "h@10.0.0.1 x@10.0.0.1 y@10.0.0.3")
	s.write("d.yaml", "{apiVersion: v1, kind: Pod, metadata: {name: e}, status: {phase: Failed, podIP: 10.0.0.1}}")
	s.expect("ended pods have none", "e@10.0.0.1 x@10.0.0.1 y@10.0.0.3")
}

// A file whose conflict is settled by falling back must not push out another one.
func TestConflictFallsBack(t *testing.T) {
	s := newScript(t)
	s.write("a.yaml", pod("a", "10.0.0.1"))
	s.write("b.yaml", pod("b", "10.0.0.2"))
	s.expect("start", "a@10.0.0.1 b@10.0.0.2")
	s.write("a.yaml", "{") // stays at .1
	s.write("b.yaml", pod("b", "10.0.0.1"))
	s.expect("b wants what a still has", "a@10.0.0.1 b@10.0.0.2", "a.yaml", "b.yaml:1: Pod/default/b: status.podIPs")
}

func TestAgentNotes(t *testing.T) {
	s := newScript(t)
	s.write("a.yaml", pod("a", "10.0.0.1")+"---\n{apiVersion: v1, kind: Pod, metadata: {name: b, annotations: {ambit.io/x: y}}, status: {podIP: 10.0.0.2}}")
	annotations := func() map[string]string {
		objs, _, _ := s.look()
		return objs[objects.Key{Kind: objects.Pod, Namespace: "default", Name: "b"}].GetAnnotations()
	}
	s.write("status/pods/default_b.json", `{"annotations":{"ambient.istio.io/redirection":"enabled","evil":"1"}}`)
	if got := annotations(); !maps.Equal(got, map[string]string{"ambit.io/x": "y", "ambient.istio.io/redirection": "enabled"}) {
		t.Errorf("noted: %v", got)
	}
	first, _, _ := s.look()
	second, _, _ := s.look()
	if len(diff(first, second)) != 0 {
		t.Error("nothing changed, but objects are new")
	}
	s.write("status/pods/default_b.json", `{`)
	if got := annotations()["ambient.istio.io/redirection"]; got != "enabled" {
		t.Errorf("a half-written note: %q", got)
	}
	s.expect("reported", "a@10.0.0.1 b@10.0.0.2", "status/pods/default_b.json")
	s.remove("status/pods/default_b.json")
	if got := annotations(); !maps.Equal(got, map[string]string{"ambit.io/x": "y"}) {
		t.Errorf("taken back: %v", got)
	}
	s.write("status/pods/default_unknown.json", `{"annotations":{"ambient.istio.io/redirection":"enabled"}}`)
	s.write("status/conditions/x.json", `{"not": "read"}`)
	s.expect("strangers", "a@10.0.0.1 b@10.0.0.2")
}

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	st := NewStatus(dir)
	key := objects.Key{Kind: objects.Service, Namespace: "shop", Name: "web"}
	path := filepath.Join(dir, "status/conditions/Service_shop_web.json")
	if err := st.WriteStatus(t.Context(), []objects.Status{{Key: key, Conditions: []objects.Condition{{Type: "T", Status: true, Reason: "R"}}}}); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Object     string
		Conditions []objects.Condition
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &got); err != nil || got.Object != "Service/shop/web" || len(got.Conditions) != 1 || got.Conditions[0].Reason != "R" {
		t.Errorf("%s %v", data, err)
	}
	for range 2 {
		if err := st.WriteStatus(t.Context(), []objects.Status{{Key: key}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("conditions were not removed")
	}
}

// TestRun watches a real folder: by events, in new subfolders too.
func TestRun(t *testing.T) {
	before := goleak.IgnoreCurrent()
	dir := t.TempDir()
	var log bytes.Buffer
	src := New(Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))})
	batches := make(chan source.Batch)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		ended <- src.Run(ctx, func(b source.Batch) {
			select {
			case batches <- b:
			case <-ctx.Done():
			}
		})
	}()
	if b := <-batches; !b.Synced || len(b.Changes) != 0 {
		t.Errorf("an empty folder: %+v", b)
	}
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Dir(path)+"/.tmp", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Dir(path)+"/.tmp", path); err != nil {
			t.Fatal(err)
		}
	}
	put("new/sub/a.yaml", pod("a", "10.0.0.1"))
	if b := <-batches; len(b.Changes) != 1 || b.Changes[0].Key.Name != "a" || b.Changes[0].Object == nil {
		t.Errorf("%+v", b)
	}
	put("new/sub/a.yaml", pod("a", "10.0.0.2"))
	if b := <-batches; len(b.Changes) != 1 || b.Changes[0].Object.(*objects.CompactPod).IPs[0].String() != "10.0.0.2" {
		t.Errorf("%+v", b)
	}
	if err := os.RemoveAll(filepath.Join(dir, "new")); err != nil {
		t.Fatal(err)
	}
	if b := <-batches; len(b.Changes) != 1 || b.Changes[0].Object != nil {
		t.Errorf("%+v", b)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}

func TestNoFolder(t *testing.T) {
	src := New(Config{Dir: filepath.Join(t.TempDir(), "none"), Log: slog.New(slog.DiscardHandler)})
	if err := src.Run(t.Context(), func(source.Batch) {}); err == nil {
		t.Error("a folder that does not exist was watched")
	}
}
