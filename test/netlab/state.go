package netlab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// state is what a lab has made or is about to make. It is written before the thing itself is made and is the only truth:
// every process that uses the lab reads it anew.
type state struct {
	Name           string    `json:"name"`
	Created        time.Time `json:"created"`
	BinDir, CNIDir string
	Netns          []string  `json:"netns"` // names in /run/netns
	Nodes          []Node    `json:"nodes"`
	Pods           []Pod     `json:"pods"`
	Processes      []Process `json:"processes"`
	Services       int       `json:"services"` // virtual addresses given out so far
	DNS            string    `json:"dns"`      // address of the cluster's DNS server
}

func (l *Lab) stateFile() string { return filepath.Join(l.dir, "state.json") }

func (l *Lab) load() (s state, err error) {
	content, err := os.ReadFile(l.stateFile())
	if err != nil {
		return s, fmt.Errorf("lab state: %w", err)
	}
	if err := json.Unmarshal(content, &s); err != nil {
		return s, fmt.Errorf("lab state %s: %w", l.stateFile(), err)
	}
	return s, nil
}

func (l *Lab) save(s state) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeAtomic(l.stateFile(), content)
}

// writeAtomic replaces a file so that a reader or a crash sees the old or the new content, never a part.
func writeAtomic(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// update changes the state under a lock that other processes and goroutines respect.
func (l *Lab) update(change func(*state) error) error {
	lock, err := os.OpenFile(filepath.Join(l.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lab lock: %w", err)
	}
	defer lock.Close() // and with it the lock
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("lab lock: %w", err)
	}
	s, err := l.load()
	if err != nil {
		return err
	}
	if err := change(&s); err != nil {
		return err
	}
	return l.save(s)
}

// Nodes lists the lab's nodes.
func (l *Lab) Nodes() ([]Node, error) {
	s, err := l.load()
	return s.Nodes, err
}

// Node finds one node.
func (l *Lab) Node(name string) (Node, error) {
	s, err := l.load()
	if err != nil {
		return Node{}, err
	}
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, fmt.Errorf("lab %s has no node %q", l.name, name)
	}
	return s.Nodes[i], nil
}

// Pods lists the lab's pods in the order in which they were made.
func (l *Lab) Pods() ([]Pod, error) {
	s, err := l.load()
	return s.Pods, err
}

// Bin is the path of one of our own programs.
func (l *Lab) Bin(name string) (string, error) {
	s, err := l.load()
	return filepath.Join(s.BinDir, name), err
}

// CNIDir is the folder of the CNI plugins.
func (l *Lab) CNIDir() (string, error) {
	s, err := l.load()
	return s.CNIDir, err
}

// DNS is the address of the cluster's DNS server, the nameserver in every pod's resolv.conf.
func (l *Lab) DNS() (string, error) {
	s, err := l.load()
	return s.DNS, err
}
