package datapath

import (
	"encoding/binary"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/ambit-mesh/ambit/agent/datapath/plan"
	"github.com/ambit-mesh/ambit/bpf"
)

// The Go types of what the kernel and we share have the layout of the C types, field by field.
func TestLayoutsAgree(t *testing.T) {
	spec, err := bpf.LoadConnect()
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"ambit_addr": bpf.ConnectAmbitAddr{}, "ambit_end": bpf.ConnectAmbitEnd{}, "ambit_tuple": bpf.ConnectAmbitTuple{},
		"ambit_pod": bpf.ConnectAmbitPod{}, "ambit_local": bpf.ConnectAmbitLocal{}, "ambit_own": bpf.ConnectAmbitOwn{},
		"ambit_slot": bpf.ConnectAmbitSlot{}, "ambit_flow_key": bpf.ConnectAmbitFlowKey{}, "ambit_flow": bpf.ConnectAmbitFlow{},
		"ambit_steer": bpf.ConnectAmbitSteer{}, "ambit_listener": bpf.ConnectAmbitListener{}, "ambit_kubelet": bpf.ConnectAmbitKubelet{},
	} {
		var c *btf.Struct
		if err := spec.Types.TypeByName(name, &c); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		g := reflect.TypeOf(v)
		if int(c.Size) != int(g.Size()) || int(c.Size) != binary.Size(v) {
			t.Errorf("%s: %d bytes in C, %d in Go, %d encoded", name, c.Size, g.Size(), binary.Size(v))
		}
		i := 0
		for f := range g.Fields() {
			if f.Name == "_" {
				continue
			}
			m := c.Members[i]
			i++
			if f.Offset != uintptr(m.Offset.Bytes()) || !strings.EqualFold(f.Name, strings.ReplaceAll(m.Name, "_", "")) {
				t.Errorf("%s: %s at %d in C, %s at %d in Go", name, m.Name, m.Offset.Bytes(), f.Name, f.Offset)
			}
		}
		if i != len(c.Members) {
			t.Errorf("%s: %d fields in C, %d in Go", name, len(c.Members), i)
		}
	}
}

// plan may not import package bpf, so its encodings are written twice.
func TestEncodingsAgree(t *testing.T) {
	for name, pair := range map[string][2]uint32{
		"outbound": {uint32(plan.RoleOutbound), uint32(bpf.ConnectAmbitRoleAMBIT_ROLE_OUTBOUND)},
		"inbound":  {uint32(plan.RoleInbound), uint32(bpf.ConnectAmbitRoleAMBIT_ROLE_INBOUND)},
		"hbone":    {uint32(plan.RoleHBONE), uint32(bpf.ConnectAmbitRoleAMBIT_ROLE_HBONE)},
		"dns":      {uint32(plan.RoleDNS), uint32(bpf.ConnectAmbitRoleAMBIT_ROLE_DNS)},
		"outgoing": {uint32(plan.RoleOutgoing), uint32(bpf.ConnectAmbitRoleAMBIT_ROLE_OUTGOING)},
		"older":    {uint32(plan.RoleOlder), uint32(bpf.ConnectAmbitRoleAMBIT_ROLE_OLDER)},
		"bypassed": {uint32(plan.RoleBypassed), uint32(bpf.ConnectAmbitRoleAMBIT_ROLE_BYPASSED)},
		"captured": {uint32(plan.KindCaptured), uint32(bpf.ConnectAmbitKindAMBIT_KIND_CAPTURED)},
		"kind dns": {uint32(plan.KindDNS), uint32(bpf.ConnectAmbitKindAMBIT_KIND_DNS)},
		"present":  {uint32(plan.KindPresent), uint32(bpf.ConnectAmbitKindAMBIT_KIND_PRESENT)},
		"probe":    {uint32(plan.KindProbe), uint32(bpf.ConnectAmbitKindAMBIT_KIND_PROBE)},
		"15001":    {plan.PortOutbound, uint32(bpf.ConnectAmbitPortAMBIT_PORT_OUTBOUND)},
		"15006":    {plan.PortInbound, uint32(bpf.ConnectAmbitPortAMBIT_PORT_INBOUND)},
		"15008":    {plan.PortHBONE, uint32(bpf.ConnectAmbitPortAMBIT_PORT_HBONE)},
		"15053":    {plan.PortDNS, uint32(bpf.ConnectAmbitPortAMBIT_PORT_DNS)},
		"flag dns": {plan.FlagDNS, uint32(bpf.ConnectAmbitPodFlagAMBIT_POD_DNS)},
		"strict":   {plan.FlagStrict, uint32(bpf.ConnectAmbitPodFlagAMBIT_POD_STRICT)},
		"bypass":   {plan.FlagBypassInbound, uint32(bpf.ConnectAmbitPodFlagAMBIT_POD_BYPASS_INBOUND)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %d in plan, %d in the kernel", name, pair[0], pair[1])
		}
	}
	spec, err := bpf.LoadConnect()
	if err != nil {
		t.Fatal(err)
	}
	var abi uint32
	if err := spec.Variables["abi"].Get(&abi); err != nil || abi != ABI {
		t.Errorf("AMBIT_ABI is %d, ABI %d (%v)", abi, ABI, err)
	}
}

// Every outcome has the name that its constant in C has.
func TestOutcomesAreNamed(t *testing.T) {
	spec, err := bpf.LoadConnect()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("ambit_outcome", &enum); err != nil {
		t.Fatal(err)
	}
	for _, v := range enum.Values {
		name, ok := strings.CutPrefix(v.Name, "AMBIT_OUT_")
		if !ok || name == "NONE" {
			continue
		}
		if got := Outcome(v.Value).String(); got != strings.ToLower(name) {
			t.Errorf("outcome %d is %q, want %q", v.Value, got, strings.ToLower(name))
		}
	}
	if Outcome(outcomes).String() != "unknown" {
		t.Error("an outcome without a constant has a name")
	}
}
