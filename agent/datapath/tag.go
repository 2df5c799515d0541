package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
	"github.com/ambit-mesh/ambit/bpf"
)

// Role says what a socket of the mesh is for.
type Role = plan.Role

// The roles that sockets are tagged with.
const (
	RoleOutbound = plan.RoleOutbound // TCP listener, port 15001
	RoleInbound  = plan.RoleInbound  // TCP listener, port 15006
	RoleHBONE    = plan.RoleHBONE    // TCP listener, port 15008
	RoleDNS      = plan.RoleDNS      // TCP listener and UDP socket, port 15053
	RoleOutgoing = plan.RoleOutgoing // TCP or UDP socket that the ztunnel connects with
)

// Tag makes a socket the mesh's own: no hook captures it. Sockets that a tagged listener accepts are tagged too. It is to be
// tagged before it is bound, listens or connects.
//
// On a TCP socket of RoleOutgoing bind(2) binds nothing: it states the address that the application which is then connected
// to must see as its peer. A UDP socket of RoleOutgoing that connects to the pod's own address is connected to the nameserver
// that the pod's client at that port had asked; see bpf/README.md.
func (d *Datapath) Tag(fd int, role Role) error {
	if role < RoleOutbound || role > RoleOutgoing {
		return fmt.Errorf("tag socket: no role %d for sockets of the mesh", role)
	}
	if role == RoleOutgoing {
		// bind(2) to port 0, which is what is left of the stated address, would take a port of the pod's.
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("tag socket: IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
	}
	own := bpf.ConnectAmbitOwn{Role: bpf.ConnectAmbitRole(role)}
	if err := d.obj.maps[mapOwn].Put(uint32(fd), own); err != nil {
		return fmt.Errorf("tag socket: %w", err)
	}
	return nil
}

// Tagged reads a socket's role; plan.RoleNone if it has none.
func (d *Datapath) Tagged(fd int) (Role, error) {
	var own bpf.ConnectAmbitOwn
	err := d.obj.maps[mapOwn].Lookup(uint32(fd), &own)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return plan.RoleNone, nil
	}
	if err != nil {
		return plan.RoleNone, fmt.Errorf("socket's tag: %w", err)
	}
	return Role(own.Role), nil
}

// SetListener makes fd, which must be a listening TCP socket, the one that addr's new connections of that role go to, from one
// SYN to the next. addr is a pod's address; a dual-stack listener is set for each of them. The kernel forgets it when the
// socket is closed for the last time; until another is set, connections are
// dropped, which the kernel answers with a reset.
func (d *Datapath) SetListener(addr netip.Addr, role Role, fd int) error {
	if role < RoleOutbound || role > RoleDNS {
		return fmt.Errorf("listener of %s: role %d has none", addr, role)
	}
	if !addr.IsValid() {
		return errors.New("listener: no address")
	}
	key := bpf.ConnectAmbitListener{Addr: toAddr(addr), Role: bpf.ConnectAmbitRole(role)}
	if err := d.obj.maps[mapListeners].Put(key, uint64(fd)); err != nil {
		return fmt.Errorf("listener of %s: %w", addr, err)
	}
	return nil
}

// Listener reports whether a listener of the role is set, and its socket cookie (SO_COOKIE).
func (d *Datapath) Listener(addr netip.Addr, role Role) (cookie uint64, ok bool, err error) {
	key := bpf.ConnectAmbitListener{Addr: toAddr(addr), Role: bpf.ConnectAmbitRole(role)}
	err = d.obj.maps[mapListeners].Lookup(key, &cookie)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("listener of %s: %w", addr, err)
	}
	return cookie, true, nil
}

func (d *Datapath) dropListeners(addrs []netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		for role := RoleOutbound; role <= RoleDNS; role++ {
			key := bpf.ConnectAmbitListener{Addr: toAddr(a), Role: bpf.ConnectAmbitRole(role)}
			if err := d.obj.maps[mapListeners].Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				errs = append(errs, fmt.Errorf("listener of %s: %w", a, err))
			}
		}
	}
	return errors.Join(errs...)
}
