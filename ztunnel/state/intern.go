package state

import (
	"hash/maphash"
	"slices"
)

// interner makes equal profiles, places, reference lists and strings one. It counts uses and forgets what nobody uses.
// It belongs to the Store's writer.
type interner struct {
	seed     maphash.Seed
	profiles map[uint64][]*profileUse
	users    map[*Profile]*profileUse
	places   map[Place]*placeUse
	refs     map[string]*refsUse
	strings  map[string]string
	swept    int // size of strings after the last sweep
}

type profileUse struct {
	profile *Profile
	hash    uint64
	refs    *refsUse
	count   int
}

type placeUse struct {
	place *Place
	count int
}

// refsUse is a list of policy references in use; the address of its first element names it in snapshots.
type refsUse struct {
	list  []Key
	key   string
	count int
}

func newInterner() *interner {
	return &interner{
		seed:     maphash.MakeSeed(),
		profiles: map[uint64][]*profileUse{},
		users:    map[*Profile]*profileUse{},
		places:   map[Place]*placeUse{},
		refs:     map[string]*refsUse{},
		strings:  map[string]string{},
	}
}

// profile returns the shared profile equal to p, and the list of references if this is its first use.
func (in *interner) profile(p *Profile) (shared *Profile, newRefs *refsUse) {
	h := in.hash(p)
	for _, u := range in.profiles[h] {
		if u.profile.equal(p) {
			u.count++
			return u.profile, nil
		}
	}
	c := in.copyProfile(p)
	u := &profileUse{profile: c, hash: h, count: 1}
	if len(p.Policies) > 0 {
		key := refsKey(p.Policies)
		u.refs = in.refs[key]
		if u.refs == nil {
			u.refs = &refsUse{list: in.keys(p.Policies), key: key}
			in.refs[key], newRefs = u.refs, u.refs
		}
		u.refs.count++
		c.Policies = u.refs.list
	}
	in.profiles[h] = append(in.profiles[h], u)
	in.users[c] = u
	return c, newRefs
}

// release ends one use of a profile that profile returned, and returns its references if nobody uses them any more.
func (in *interner) release(p *Profile) (oldRefs *refsUse) {
	u := in.users[p]
	if u.count--; u.count > 0 {
		return nil
	}
	delete(in.users, p)
	in.profiles[u.hash] = slices.DeleteFunc(in.profiles[u.hash], func(x *profileUse) bool { return x == u })
	if len(in.profiles[u.hash]) == 0 {
		delete(in.profiles, u.hash)
	}
	if u.refs == nil {
		return nil
	}
	if u.refs.count--; u.refs.count > 0 {
		return nil
	}
	delete(in.refs, u.refs.key)
	return u.refs
}

func (in *interner) place(p *Place) *Place {
	u := in.places[*p]
	if u == nil {
		c := Place{Node: in.str(p.Node), Region: in.str(p.Region), Zone: in.str(p.Zone), Subzone: in.str(p.Subzone)}
		u = &placeUse{place: &c}
		in.places[c] = u
	}
	u.count++
	return u.place
}

func (in *interner) releasePlace(p *Place) {
	u := in.places[*p]
	if u.count--; u.count == 0 {
		delete(in.places, *p)
	}
}

func (in *interner) copyProfile(p *Profile) *Profile {
	c := *p
	for _, s := range []*string{
		&c.Namespace, &c.TrustDomain, &c.ServiceAccount, &c.Network, &c.ClusterID, &c.CanonicalName,
		&c.CanonicalRevision, &c.Controller, &c.Hostname,
	} {
		*s = in.str(*s)
	}
	c.Policies = nil // the caller sets it
	c.Services = make([]Membership, len(p.Services))
	for i, m := range p.Services {
		c.Services[i] = Membership{Service: in.key(m.Service), Ports: slices.Clone(m.Ports)}
	}
	return &c
}

func (in *interner) key(k Key) Key { return Key{Namespace: in.str(k.Namespace), Name: in.str(k.Name)} }

func (in *interner) keys(list []Key) []Key {
	out := make([]Key, len(list))
	for i, k := range list {
		out[i] = in.key(k)
	}
	return out
}

func (in *interner) str(s string) string {
	if s == "" {
		return ""
	}
	if known, ok := in.strings[s]; ok {
		return known
	}
	in.strings[s] = s
	return s
}

// sweep forgets strings that no profile or place has, once there are twice as many as after the last sweep.
func (in *interner) sweep() {
	if len(in.strings) < 2*in.swept+1024 {
		return
	}
	in.strings = make(map[string]string, in.swept)
	keep := func(list ...string) {
		for _, s := range list {
			if s != "" {
				in.strings[s] = s
			}
		}
	}
	for p := range in.users {
		keep(p.Namespace, p.TrustDomain, p.ServiceAccount, p.Network, p.ClusterID, p.CanonicalName, p.CanonicalRevision,
			p.Controller, p.Hostname)
		for _, k := range p.Policies {
			keep(k.Namespace, k.Name)
		}
		for _, m := range p.Services {
			keep(m.Service.Namespace, m.Service.Name)
		}
	}
	for p := range in.places {
		keep(p.Node, p.Region, p.Zone, p.Subzone)
	}
	in.swept = len(in.strings)
}
