package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ambit-mesh/ambit/agent/handoff"
	"github.com/ambit-mesh/ambit/agent/netns"
	"github.com/ambit-mesh/ambit/agent/podnet"
	"github.com/ambit-mesh/ambit/agent/pods"
	"github.com/ambit-mesh/ambit/agent/sockets"
	"golang.org/x/sys/unix"
)

// annotationNetns names a pod's network namespace below the runtime's folder. It is only a hint: whoever may write on a pod
// could point at another's, so the namespace must hold the pod's address.
const annotationNetns = "ambit.io/netns"

// errNotFound: the pod's network namespace is not to be found; when its runtime has made it, it will be.
var errNotFound = errors.New("the pod's network namespace is not found")

// errNotMade: there is nothing to look for yet. Most pods are so for a moment, until their runtime calls CNI ADD.
var errNotMade = errors.New("the pod has no address yet")

// locate finds the network namespace of a pod that no CNI request brought: the one of the listeners that a ztunnel returned,
// the one that an earlier agent enrolled, the one that the pod names, or the only one that holds the pod's address.
func (f *fleet) locate(m *member) error {
	if m.ns != nil {
		return nil
	}
	ns := f.ofReturned(m.pod.UID)
	if ns == nil {
		if len(m.pod.IPs) == 0 {
			return errNotMade
		}
		ns = f.ofAdopted(m.pod.IPs)
	}
	if ns == nil {
		var err error
		if ns, err = f.finder.byAddress(m.pod.Annotations[annotationNetns], m.pod.IPs); err != nil {
			return err
		}
	}
	cookie, err := ns.Cookie()
	if err != nil {
		ns.Close()
		return err
	}
	m.ns, m.cookie = ns, cookie
	return nil
}

func (f *fleet) ofReturned(uid pods.UID) (ns *netns.Handle) {
	f.handoff.Peek(uid, func(r *handoff.Returned) {
		if len(r.Fds) > 0 {
			found, err := sockets.Namespace(r.Fds[0])
			if err != nil {
				f.log.Warn("returned listener has no namespace", "uid", uid, "err", err)
				return
			}
			ns = found
		}
	})
	if ns == nil || f.finder.foreign(ns) {
		return ns
	}
	f.log.Warn("returned listener lives in the node's own namespace", "uid", uid)
	ns.Close()
	return nil
}

func (f *fleet) ofAdopted(ips []netip.Addr) *netns.Handle {
	for cookie, p := range f.adopted {
		for _, a := range ips {
			if a == p.IPv4 || a == p.IPv6 {
				return f.finder.byCookie(cookie)
			}
		}
	}
	return nil
}

// finder looks for network namespaces by what is in them. One goroutine uses it; what it found is forgotten with each pass.
type finder struct {
	dir, proc string
	home      netns.ID // the agent's own, which is no pod's
	log       *slog.Logger
	seen      []seenNamespace
	scanned   bool
}

type seenNamespace struct {
	ns     *netns.Handle
	path   string
	cookie uint64
	facts  podnet.Facts
}

// foreign tells whether a namespace is another than the agent's own.
func (f *finder) foreign(ns *netns.Handle) bool { return ns.ID() != f.home }

func (f *finder) forget() {
	for _, s := range f.seen {
		s.ns.Close()
	}
	f.seen, f.scanned = nil, false
}

// byAddress finds the namespace that holds one of ips: the named one if it does, else the only one.
func (f *finder) byAddress(name string, ips []netip.Addr) (*netns.Handle, error) {
	if name != "" && name == filepath.Base(name) && name != ".." && name != "." {
		if s, err := f.look(filepath.Join(f.dir, name)); err == nil {
			if s.facts.Holds(ips) {
				return s.ns, nil
			}
			s.ns.Close()
		}
	}
	var found *seenNamespace
	f.scan()
	for i, s := range f.seen {
		if !s.facts.Holds(ips) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w: %s and %s both hold its address %v; annotate the pod with %s", errNotFound, found.path, s.path, ips, annotationNetns)
		}
		found = &f.seen[i]
	}
	if found == nil {
		return nil, fmt.Errorf("%w: none holds %v", errNotFound, ips)
	}
	return duplicate(found.ns)
}

// byCookie finds a namespace by the kernel's number; nil if there is none.
func (f *finder) byCookie(cookie uint64) *netns.Handle {
	f.scan()
	for _, s := range f.seen {
		if s.cookie == cookie {
			if ns, err := duplicate(s.ns); err == nil {
				return ns
			}
		}
	}
	return nil
}

func duplicate(ns *netns.Handle) (*netns.Handle, error) {
	fd, err := unix.FcntlInt(uintptr(ns.Fd()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return netns.FromFile(os.NewFile(uintptr(fd), "network namespace"))
}

// scan opens every namespace that has a name or a process, once.
func (f *finder) scan() {
	if f.scanned {
		return
	}
	f.scanned = true
	known := map[uint64]bool{f.home.Ino: true}
	for _, pattern := range []string{filepath.Join(f.dir, "*"), filepath.Join(f.proc, "[0-9]*", "ns", "net")} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.log.Error("network namespaces cannot be listed", "err", err)
			continue
		}
		for _, path := range paths {
			var st unix.Stat_t
			if unix.Stat(path, &st) != nil || known[st.Ino] {
				continue // gone, or seen
			}
			known[st.Ino] = true
			if s, err := f.look(path); err == nil {
				f.seen = append(f.seen, s)
			} else if strings.HasPrefix(path, f.dir) {
				f.log.Debug("not a pod's network namespace", "path", path, "err", err)
			}
		}
	}
}

func (f *finder) look(path string) (s seenNamespace, err error) {
	ns, err := netns.Open(path)
	if err != nil {
		return s, err
	}
	if !f.foreign(ns) {
		return s, errors.Join(errors.New("the node's own network namespace"), ns.Close())
	}
	cookie, err := ns.Cookie()
	if err != nil {
		return s, errors.Join(err, ns.Close())
	}
	facts, err := podnet.Look(ns)
	if err != nil {
		return s, errors.Join(err, ns.Close())
	}
	return seenNamespace{ns: ns, path: path, cookie: cookie, facts: facts}, nil
}

// namespaces lends the namespaces of enrolled pods to whoever makes sockets there.
type namespaces struct {
	mu    sync.RWMutex // held for reading while one is used
	byUID map[pods.UID]*netns.Handle
}

func (n *namespaces) put(uid pods.UID, ns *netns.Handle) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.byUID[uid] = ns
}

// remove returns when nobody uses the namespace any more.
func (n *namespaces) remove(uid pods.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.byUID, uid)
}

func (n *namespaces) with(uid pods.UID, use func(*netns.Handle) error) error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	ns, ok := n.byUID[uid]
	if !ok {
		return errors.New("the pod is not in the mesh on this node")
	}
	return use(ns)
}
