package handoff

import (
	"slices"
	"time"

	"github.com/ambit-mesh/ambit/agent/api"
	"github.com/ambit-mesh/ambit/agent/pods"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Set serves a pod with these listeners, whose descriptors the server owns from now on. Listeners of a nil kinds stay as they
// are, if the pod is served already: only what is said of the pod changes.
func (s *Server) Set(pod *api.Pod, kinds []api.ListenerKind, fds api.Fds) {
	s.mu.Lock()
	defer s.mu.Unlock()
	uid := pods.UID(pod.GetUid())
	old := s.pods[uid]
	if kinds == nil && old != nil {
		kinds, fds, old.fds = old.kinds, old.fds, nil
	}
	if old != nil {
		old.fds.Close()
	}
	s.gen++
	s.pods[uid] = &served{wire: pod, kinds: kinds, fds: fds, cookies: cookies(fds), gen: s.gen}
	s.wakeLocked()
}

// Served answers what is said of a pod and how it is listened for, if it is served.
func (s *Server) Served(uid pods.UID) (pod *api.Pod, kinds []api.ListenerKind, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pods[uid]
	if !ok {
		return nil, nil, false
	}
	return p.wire, p.kinds, true
}

// Remove stops serving a pod, closes its listeners here and tells every ztunnel why.
func (s *Server) Remove(uid pods.UID, reason api.DelPod_Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p, ok := s.pods[uid]; ok {
		p.fds.Close()
		delete(s.pods, uid)
	}
	s.discardLocked(uid)
	for c := range s.conns {
		if _, told := c.known[uid]; told {
			c.leaving[uid] = reason
		}
	}
	s.wakeLocked()
}

// Status is how far a pod's hand-over is.
type Status struct {
	Acked bool   // a ztunnel that accepts has taken the pod as it is now
	Error string // why the newest one has not, in its words
}

// Status answers for a pod that is served.
func (s *Server) Status(uid pods.UID) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pods[uid]
	if !ok {
		return Status{}
	}
	var st Status
	for c := range s.conns {
		if k := c.known[uid]; k != nil && !c.draining {
			st.Acked = st.Acked || k.acked == p.gen
			if k.refusal != "" {
				st.Error = k.refusal
			}
		}
	}
	return st
}

// Returned are listeners that a ztunnel kept while the agent was away.
type Returned struct {
	Pod   *api.Pod
	Kinds []api.ListenerKind
	Fds   api.Fds
}

// ReturnedPods lists the pods whose listeners were returned and are neither taken nor discarded.
func (s *Server) ReturnedPods() []pods.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]pods.UID, 0, len(s.returned))
	for uid := range s.returned {
		list = append(list, uid)
	}
	slices.Sort(list)
	return list
}

// Peek lends the returned listeners of a pod to look, which runs while the server waits: it must be quick.
func (s *Server) Peek(uid pods.UID, look func(*Returned)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.returned[uid]
	if ok {
		look(r)
	}
	return ok
}

// Take hands the returned listeners of a pod to the caller, who owns them.
func (s *Server) Take(uid pods.UID) (*Returned, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.returned[uid]
	delete(s.returned, uid)
	return r, ok
}

func (s *Server) discardLocked(uid pods.UID) {
	if r, ok := s.returned[uid]; ok {
		r.Fds.Close()
		delete(s.returned, uid)
	}
}

// Begin says that the reconcile loop begins a pass; End, with its number, that the pass has dealt with every pod. A ztunnel
// gets its snapshot when a pass is complete that began after it returned its listeners: earlier, pods would be missing.
func (s *Server) Begin() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begun++
	return s.begun
}

// End completes a pass.
func (s *Server) End(pass uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = max(s.ended, pass)
	s.wakeLocked()
}

// Ztunnel describes a connected ztunnel for people.
type Ztunnel struct {
	Instance string    `json:"instance"`
	Build    string    `json:"build"`
	PID      int32     `json:"pid"`
	State    string    `json:"state"`
	Since    time.Time `json:"since"`
	Pods     int       `json:"pods"`
}

// Ztunnels lists the connected ones, oldest process first.
func (s *Server) Ztunnels() []Ztunnel {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *conn) int {
		if b.newerThan(a) {
			return -1
		}
		return 1
	})
	out := []Ztunnel{}
	for _, c := range list {
		out = append(out, Ztunnel{c.instance, c.build, c.peer.PID, c.stateLocked(), c.since, len(c.known)})
	}
	return out
}

func (s *Server) wakeLocked() {
	for c := range s.conns {
		c.wakeUp()
	}
}

// cookies name sockets: two descriptors with one cookie are one socket.
func cookies(fds api.Fds) []uint64 {
	list := make([]uint64, 0, len(fds))
	for _, fd := range fds {
		cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		if err != nil {
			cookie = 0 // equals nothing, see sameSockets
		}
		list = append(list, cookie)
	}
	return list
}

func sameSockets(a, b []uint64) bool {
	return slices.Equal(a, b) && !slices.Contains(a, 0)
}

func samePod(a, b *api.Pod) bool { return proto.Equal(a, b) }

// Listeners are duplicates of a served pod's, in the order of its kinds; the caller owns them.
func (s *Server) Listeners(uid pods.UID) (api.Fds, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pods[uid]
	if !ok {
		return nil, false, nil
	}
	fds, err := p.fds.Dup()
	return fds, err == nil, err
}
