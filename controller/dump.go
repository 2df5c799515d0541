package controller

import (
	"bufio"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/ambit-mesh/ambit/controller/api/authz"
	"github.com/ambit-mesh/ambit/controller/api/plain"
	"github.com/ambit-mesh/ambit/controller/api/workload"
	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source/manifest"
	"github.com/ambit-mesh/ambit/controller/translate"
	"github.com/ambit-mesh/ambit/controller/xds"
)

// dumpWithin is how long a reader may take for a dump.
const dumpWithin = 2 * time.Minute

// dumps shows what the controller knows, for people: one resource at a time, so that a dump of 50,000 pods costs no memory.
type dumps struct {
	table        *xds.Table
	statuses     func() map[objects.Key]objects.Status
	problems     func() []manifest.Problem
	settings     func() translate.Settings
	nodeAccounts []string
}

func serveDump(w http.ResponseWriter, log *slog.Logger, dump func(*jsonStream)) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(dumpWithin)) // a reader that hangs must not hold the resources
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriter(w)
	j := &jsonStream{w: out}
	dump(j)
	if j.err == nil {
		j.err = out.Flush()
	}
	if j.err != nil {
		log.Warn("dump is incomplete", "err", j.err)
	}
}

// everything is /debug/config.
func (d dumps) everything(j *jsonStream) {
	j.open('{')
	j.field("settings", d.settings())
	j.field("nodeAccounts", d.nodeAccounts)
	for _, part := range addressParts {
		j.key(part.name)
		j.open('{')
		j.check(d.table.Addresses(func(name string, a *workload.Address) error {
			if v := part.show(a); v != nil {
				return j.field(name, v)
			}
			return nil
		}))
		j.close('}')
	}
	j.key("policies")
	j.open('{')
	j.check(d.table.Policies(func(name string, p *authz.Authorization) error { return j.field(name, plain.Value(p)) }))
	j.close('}')
	conditions := map[string]any{}
	statuses := map[string]any{}
	for key, st := range d.statuses() {
		statuses[key.String()], conditions[key.String()] = st, st.Conditions
	}
	j.field("conditions", conditions)
	j.field("statuses", statuses)
	j.field("problems", d.problems())
	j.close('}')
}

// addressParts are the two kinds of addresses; show is nil for the other.
var addressParts = []struct {
	name string
	show func(*workload.Address) any
}{
	{"workloads", func(a *workload.Address) any {
		if w := a.GetWorkload(); w != nil {
			return plain.Value(w)
		}
		return nil
	}},
	{"services", func(a *workload.Address) any {
		if s := a.GetService(); s != nil {
			return plain.Value(s)
		}
		return nil
	}},
}

// services is /debug/registryz: with the attributes that consoles look for.
func (d dumps) services(j *jsonStream) {
	j.open('[')
	j.check(d.table.Addresses(func(_ string, a *workload.Address) error {
		s := a.GetService()
		if s == nil {
			return nil
		}
		v := plain.Value(s)
		v["Attributes"] = map[string]string{"Name": s.Name, "Namespace": s.Namespace}
		return j.item(v)
	}))
	j.close(']')
}

// endpoints is /debug/endpointz: the workloads of every service that has any.
func (d dumps) endpoints(j *jsonStream) {
	j.open('[')
	j.check(d.table.Endpoints(func(service string, members []*workload.Workload) error {
		var list []any
		for _, w := range members {
			v := plain.Value(w)
			list = append(list, map[string]any{
				"uid": w.Uid, "addresses": v["addresses"], "node": w.Node, "network": w.Network, "status": w.Status.String(),
				"tunnelProtocol": w.TunnelProtocol.String(), "ports": plain.Value(w.Services[service])["ports"],
			})
		}
		return j.item(map[string]any{"service": service, "endpoints": list})
	}))
	j.close(']')
}

// policies is /debug/authorizationz: what is enforced, as node proxies are told.
func (d dumps) policies(j *jsonStream) {
	j.open('[')
	j.check(d.table.Policies(func(_ string, p *authz.Authorization) error { return j.item(plain.Value(p)) }))
	j.close(']')
}

// objects is /debug/configz: what the owners of objects are told about them.
func (d dumps) objects(j *jsonStream) {
	j.open('[')
	all := d.statuses()
	for _, key := range slices.SortedFunc(maps.Keys(all), objects.Key.Compare) {
		st := all[key]
		j.check(j.item(map[string]any{"kind": key.Kind, "namespace": key.Namespace, "name": key.Name, "status": st}))
	}
	j.close(']')
}

// resources is /debug/ambientz: all that node proxies are told.
func (d dumps) resources(j *jsonStream) {
	j.open('{')
	for _, part := range addressParts {
		j.key(part.name)
		j.open('[')
		j.check(d.table.Addresses(func(_ string, a *workload.Address) error {
			if v := part.show(a); v != nil {
				return j.item(v)
			}
			return nil
		}))
		j.close(']')
	}
	j.key("policies")
	d.policies(j)
	j.close('}')
}
