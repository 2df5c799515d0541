package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/ambit-mesh/ambit/bpf"
)

// objects are the loaded programs and the one set of maps that all of them share.
type objects struct {
	maps  map[string]*ebpf.Map
	progs map[string]*ebpf.Program
}

// The maps by name. bpf/lib/maps.h says what each holds.
const (
	mapPods      = "ambit_pods"
	mapLocals    = "ambit_locals"
	mapOwn       = "ambit_own"
	mapSlots     = "ambit_slots"
	mapFlows     = "ambit_flows"
	mapSteers    = "ambit_steers"
	mapListeners = "ambit_listeners"
	mapProbes    = "ambit_probes"
	mapKubelet   = "ambit_kubelet"
	mapCounters  = "ambit_counters"
)

// Programs that are not attached to the cgroup root.
const (
	progLookup  = "ambit_sk_lookup"
	progEgress  = "ambit_egress"
	progStrict  = "ambit_strict"
	progOlder   = "ambit_older"
	progDestroy = "ambit_destroy"
)

// specs reads the objects of this build. Those that need what the kernel lacks are left out.
func specs(f Features) ([]*ebpf.CollectionSpec, error) {
	loaders := []func() (*ebpf.CollectionSpec, error){
		bpf.LoadConnect, bpf.LoadUdp, bpf.LoadBind, bpf.LoadNames, bpf.LoadRelease, bpf.LoadSockops,
		bpf.LoadLookup, bpf.LoadEgress, bpf.LoadOlder,
	}
	if f.SockDestroy {
		loaders = append(loaders, bpf.LoadDestroy)
	}
	var all []*ebpf.CollectionSpec
	for _, load := range loaders {
		spec, err := load()
		if err != nil {
			return nil, fmt.Errorf("kernel programs of this build: %w", err)
		}
		all = append(all, spec)
	}
	return all, nil
}

// loadObjects adopts or makes the maps under dir and loads the programs onto them.
func loadObjects(cfg Config, f Features, dir string) (_ *objects, err error) {
	all, err := specs(f)
	if err != nil {
		return nil, err
	}
	o := &objects{maps: map[string]*ebpf.Map{}, progs: map[string]*ebpf.Program{}}
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	sizes := map[string]uint32{
		mapPods: cfg.MaxPods, mapLocals: 2 * cfg.MaxPods, mapListeners: 8 * cfg.MaxPods,
		mapSlots: cfg.MaxHandshakes, mapFlows: cfg.MaxHandshakes, mapSteers: cfg.MaxHandshakes,
		mapProbes: cfg.MaxProbePorts,
	}
	for name, spec := range all[0].Maps {
		if !isOurs(name) {
			continue
		}
		if n, ok := sizes[name]; ok {
			spec.MaxEntries = n
		}
		if o.maps[name], err = openMap(spec, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
		if have := o.maps[name].MaxEntries(); spec.MaxEntries != 0 && have != spec.MaxEntries {
			cfg.Log.Warn("limit stays as it was until the datapath is removed", "map", name, "limit", have, "wanted", spec.MaxEntries)
		}
	}
	cache := btf.NewCache()
	for _, spec := range all {
		if err := o.load(cfg, f, spec, cache); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func isOurs(name string) bool { return len(name) > 6 && name[:6] == "ambit_" }

// openMap adopts the map pinned at path or makes and pins it.
func openMap(spec *ebpf.MapSpec, path string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if err == nil {
		if m.Type() != spec.Type || m.KeySize() != spec.KeySize || m.ValueSize() != spec.ValueSize {
			m.Close()
			return nil, fmt.Errorf("pinned map %s has another layout than this build's", path)
		}
		return m, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("pinned map %s: %w", path, err)
	}
	m, err = ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", spec.Name, err)
	}
	if err := m.Pin(path); err != nil {
		m.Close()
		return nil, fmt.Errorf("pin map %s: %w", spec.Name, err)
	}
	return m, nil
}

// load loads the programs of one object onto the shared maps.
func (o *objects) load(cfg Config, f Features, spec *ebpf.CollectionSpec, cache *btf.Cache) error {
	for name := range spec.Maps {
		if m, shared := o.maps[name]; shared {
			spec.Maps[name].MaxEntries = m.MaxEntries()
		}
	}
	settings := map[string]uint32{"dns_ports": cfg.DNSPorts}
	if f.SetRetval {
		settings["have_set_retval"] = 1
	}
	for name, value := range settings {
		if v, ok := spec.Variables[name]; ok {
			if err := v.Set(value); err != nil {
				return fmt.Errorf("setting %s: %w", name, err)
			}
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: o.maps, Cache: cache})
	if err != nil {
		return fmt.Errorf("load kernel programs: %w", err)
	}
	defer coll.Close()
	for name := range spec.Programs {
		o.progs[name] = coll.DetachProgram(name)
	}
	return nil
}

// Close closes every map and program; what is pinned or attached lives on.
func (o *objects) Close() error {
	var errs []error
	for _, m := range o.maps {
		errs = append(errs, m.Close())
	}
	for _, p := range o.progs {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
