package folder

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source/manifest"
)

// redirection is the one annotation agents write on pods.
const redirection = "ambient.istio.io/redirection"

// world is every file of the folder and what they say together.
type world struct {
	files   map[string]*file       // manifests, by relative path
	agents  map[string]*file       // agents' notes about pods
	notes   map[objects.Key]string // redirection by pod
	patched map[*objects.CompactPod]*objects.CompactPod
}

func newWorld() world {
	return world{files: map[string]*file{}, agents: map[string]*file{}, notes: map[objects.Key]string{}, patched: map[*objects.CompactPod]*objects.CompactPod{}}
}

// read loads what changed among names. again asks for another look soon.
func (w *world) read(dir string, names []string) (changed, again bool) {
	present := make(map[string]bool, len(names))
	for _, name := range names {
		present[name] = true
		set, decode := w.files, w.decodeManifest
		if strings.HasPrefix(name, "status"+string(filepath.Separator)) {
			set, decode = w.agents, w.decodeNote
		}
		f := set[name]
		if f == nil {
			f = &file{}
		}
		data, fresh, soon, err := f.load(filepath.Join(dir, name), time.Now())
		again = again || soon
		if errors.Is(err, fs.ErrNotExist) {
			delete(present, name)
			continue
		}
		if !fresh && err == nil {
			continue
		}
		_, knew := set[name]
		set[name] = f
		changed = changed || fresh || !knew
		if err != nil {
			f.newest, f.errors, f.counts = nil, []manifest.Problem{{File: name, Reason: err.Error()}}, true
			changed = true
			continue
		}
		decode(name, f, data)
	}
	for _, set := range []map[string]*file{w.files, w.agents} {
		for name := range set {
			if !present[name] {
				delete(set, name)
				delete(w.notes, noteKey(name))
				changed = true
			}
		}
	}
	return changed, again
}

func (w *world) decodeManifest(name string, f *file, data []byte) {
	items, problems := manifest.Decode(name, data)
	if len(problems) > 0 {
		items = nil
	}
	f.newest, f.errors, f.counts = items, problems, true
}

// decodeNote reads what an agent says of a pod. Only the redirection annotation counts.
func (w *world) decodeNote(name string, f *file, data []byte) {
	var note struct {
		Annotations map[string]string `json:"annotations"`
	}
	f.errors = nil
	key := noteKey(name)
	if err := json.Unmarshal(data, &note); err != nil || key.Name == "" {
		f.errors = []manifest.Problem{{File: name, Reason: fmt.Sprintf("not an agent's note <namespace>_<pod>.json: %v", err)}}
		return // what the agent said last stays
	}
	w.notes[key] = note.Annotations[redirection]
}

// noteKey is the pod of a note's file name. Neither namespaces nor pods have an underscore.
func noteKey(name string) objects.Key {
	ns, pod, _ := strings.Cut(strings.TrimSuffix(filepath.Base(name), ".json"), "_")
	return objects.Key{Kind: objects.Pod, Namespace: ns, Name: pod}
}

// resolve puts the files together: the newest of each, unless it has a problem or contradicts another file. Then the file
// that changed, or else the later name, keeps what it said last. The result depends on the files only.
func (w *world) resolve() (map[objects.Key]objects.Object, []manifest.Problem) {
	names := slices.Sorted(maps.Keys(w.files))
	var problems []manifest.Problem
	for _, name := range names {
		f := w.files[name]
		f.counts = len(f.errors) == 0
		problems = append(problems, f.errors...)
	}
	for {
		loser, problem := w.conflict(names)
		if loser == nil {
			break
		}
		loser.counts = false // its last good state
		problems = append(problems, problem)
	}
	out := map[objects.Key]objects.Object{}
	for _, name := range names {
		f := w.files[name]
		f.good = f.said()
		for _, it := range f.good {
			out[it.Key] = it.Object
		}
	}
	for _, f := range w.agents {
		problems = append(problems, f.errors...)
	}
	slices.SortFunc(problems, func(a, b manifest.Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), a.Line-b.Line, strings.Compare(a.Field, b.Field))
	})
	w.annotate(out)
	return out, problems
}

// said is what the file contributes while the conflicts are being settled.
func (f *file) said() []manifest.Item {
	if f.counts {
		return f.newest
	}
	return f.good
}

// fresh reports that the file contributes something that was not in force before.
func (f *file) fresh() bool {
	same := len(f.newest) == len(f.good) && (len(f.newest) == 0 || &f.newest[0] == &f.good[0])
	return f.counts && !same
}

// claim is what only one object may have.
type claim struct {
	f    *file
	name string
	item manifest.Item
}

// conflict finds one contradiction between files (or pods of one file) and says whose newest state must wait.
func (w *world) conflict(names []string) (*file, manifest.Problem) {
	keys := map[objects.Key]claim{}
	ips := map[netip.Addr]claim{}
	for _, name := range names {
		f := w.files[name]
		for _, it := range f.said() {
			c := claim{f, name, it}
			if other, ok := keys[it.Key]; ok {
				return lose(c, other, netip.Addr{})
			}
			keys[it.Key] = c
			for _, ip := range ownAddresses(it.Object) {
				if other, ok := ips[ip]; ok {
					return lose(c, other, ip)
				}
				ips[ip] = c
			}
		}
	}
	return nil, manifest.Problem{}
}

// lose picks which of two claims waits. The states in force never contradict each other, so at least one is new. ip is the
// address both claim; the zero one if they are the same object.
func lose(later, earlier claim, ip netip.Addr) (*file, manifest.Problem) {
	if !later.f.fresh() {
		later, earlier = earlier, later
	}
	p := manifest.Problem{File: later.name, Line: later.item.Line, Object: later.item.Key.String()}
	where := fmt.Sprintf("%s:%d", earlier.name, earlier.item.Line)
	if !ip.IsValid() {
		p.Field, p.Reason = "metadata.name", "same object in "+where
	} else {
		p.Field, p.Reason = "status.podIPs", fmt.Sprintf("address %s is that of %s in %s", ip, earlier.item.Key, where)
	}
	return later.f, p
}

// ownAddresses are those no other pod may have.
func ownAddresses(o objects.Object) []netip.Addr {
	if p, ok := o.(*objects.CompactPod); ok && !p.HostNetwork && !p.Ended() {
		return p.IPs
	}
	return nil
}

// annotate replaces pods by copies with what the agents noted, the same copy as long as neither changes.
func (w *world) annotate(out map[objects.Key]objects.Object) {
	kept := map[*objects.CompactPod]*objects.CompactPod{}
	for key, value := range w.notes {
		pod, ok := out[key].(*objects.CompactPod)
		if !ok || value == "" || pod.Annotations[redirection] == value {
			continue
		}
		patched := w.patched[pod]
		if patched == nil || patched.Annotations[redirection] != value {
			copied := *pod
			copied.Annotations = map[string]string{redirection: value}
			for k, v := range pod.Annotations {
				if k != redirection {
					copied.Annotations[k] = v
				}
			}
			patched = &copied
		}
		kept[pod], out[key] = patched, patched
	}
	w.patched = kept
}
