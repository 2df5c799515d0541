package datapath

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Foreign is a program of somebody else on a hook that we use: whichever runs first rewrites the address for the other.
type Foreign struct {
	Hook string // as in "cgroup/connect4"
	ID   uint32
	Name string // the kernel keeps 15 characters
	// After ours: the kernel runs programs in the order of attaching. Without one of ours there yet it is before.
	After bool
}

func (f Foreign) String() string {
	order := "before"
	if f.After {
		order = "after"
	}
	return fmt.Sprintf("%s (id %d) on %s, %s ours", f.Name, f.ID, f.Hook, order)
}

// balancers put a pod's address in the place of a Service's in our hooks, so that the mesh never sees the Service: known by how
// their programs' names begin (Cilium's bpf_sock.c, Calico's connect_balancer*.c).
var balancers = []struct{ prefix, who, advice string }{
	{"cil_", "Cilium's socket load balancing", "set its socketLB.hostNamespaceOnly=true and cni.exclusive=false, then start the agent with --allow-foreign-hooks (chart: agent.allowForeignHooks=true)"},
	{"calico_", "Calico's connect-time load balancing", "set bpfConnectTimeLoadBalancing: Disabled and bpfHostNetworkedNATWithoutCTLB: Enabled in its FelixConfiguration"},
}

// Balancer names what the program is part of, if that balances Services in our hooks, and what to do about it.
func (f Foreign) Balancer() (who, advice string, ok bool) {
	for _, b := range balancers {
		if strings.HasPrefix(f.Name, b.prefix) {
			return b.who, b.advice, true
		}
	}
	return "", "", false
}

var rewriting = []struct {
	name   string
	attach ebpf.AttachType
}{
	{"cgroup/connect4", ebpf.AttachCGroupInet4Connect},
	{"cgroup/connect6", ebpf.AttachCGroupInet6Connect},
	{"cgroup/sendmsg4", ebpf.AttachCGroupUDP4Sendmsg},
	{"cgroup/sendmsg6", ebpf.AttachCGroupUDP6Sendmsg},
	{"cgroup/recvmsg4", ebpf.AttachCGroupUDP4Recvmsg},
	{"cgroup/recvmsg6", ebpf.AttachCGroupUDP6Recvmsg},
	{"cgroup/bind4", ebpf.AttachCGroupInet4Bind},
	{"cgroup/bind6", ebpf.AttachCGroupInet6Bind},
	{"cgroup/getsockname4", ebpf.AttachCgroupInet4GetSockname},
	{"cgroup/getsockname6", ebpf.AttachCgroupInet6GetSockname},
	{"cgroup/getpeername4", ebpf.AttachCgroupInet4GetPeername},
	{"cgroup/getpeername6", ebpf.AttachCgroupInet6GetPeername},
}

// ForeignPrograms lists the programs on the cgroup root's address hooks that no Ambit agent put there.
func ForeignPrograms(cgroupRoot string) ([]Foreign, error) {
	dir, err := os.Open(cgroupRoot)
	if err != nil {
		return nil, fmt.Errorf("cgroup root: %w", err)
	}
	defer dir.Close()
	var found []Foreign
	for _, h := range rewriting {
		on, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: h.attach})
		if err != nil {
			return nil, fmt.Errorf("programs on %s: %w", h.name, err)
		}
		after := false
		for _, p := range on.Programs {
			name, err := programName(p.ID)
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("program %d on %s: %w", p.ID, h.name, err)
			}
			if isOurs(name) {
				after = true
				continue
			}
			found = append(found, Foreign{Hook: h.name, ID: uint32(p.ID), Name: name, After: after})
		}
	}
	return found, nil
}

func programName(id ebpf.ProgramID) (string, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return "", err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", err
	}
	return info.Name, nil
}

// Foreign lists the programs of others on our hooks.
func (d *Datapath) Foreign() ([]Foreign, error) { return ForeignPrograms(d.cfg.CgroupRoot) }
