package ztunnelclient

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// field is one field of a message: a varint, or bytes.
type field struct {
	num    protowire.Number
	varint uint64
	bytes  []byte
}

func (f field) str() string { return string(f.bytes) }

// each reads a message's fields in order.
func each(data []byte, f func(field) error) error {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return fmt.Errorf("tag: %w", protowire.ParseError(n))
		}
		data = data[n:]
		x := field{num: num}
		switch typ {
		case protowire.VarintType:
			x.varint, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			x.bytes, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(num, typ, data)
		}
		if n < 0 {
			return fmt.Errorf("field %d: %w", num, protowire.ParseError(n))
		}
		data = data[n:]
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}

func putBytes(b []byte, num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
}

// put leaves out an empty string, as proto3 does.
func put(b []byte, num protowire.Number, v string) []byte {
	if v == "" {
		return b
	}
	return putBytes(b, num, []byte(v))
}

// textStruct is a google.protobuf.Struct of strings: fields=1 map of Value, of which string_value=3.
func textStruct(pairs ...[2]string) []byte {
	var out []byte
	for _, p := range pairs {
		entry := put(nil, 1, p[0])
		entry = putBytes(entry, 2, putBytes(nil, 3, []byte(p[1])))
		out = putBytes(out, 1, entry)
	}
	return out
}

// request is a DeltaDiscoveryRequest: node=1 type_url=2 resource_names_subscribe=3 resource_names_unsubscribe=4
// initial_resource_versions=5 response_nonce=6 error_detail=7.
type request struct {
	node        []byte
	typeURL     string
	subscribe   []string
	unsubscribe []string
	initial     map[string]string
	nonce       string
	complaint   string
}

func (r request) encode() []byte {
	var b []byte
	if r.node != nil {
		b = putBytes(b, 1, r.node)
	}
	b = put(b, 2, r.typeURL)
	for _, n := range r.subscribe {
		b = putBytes(b, 3, []byte(n))
	}
	for _, n := range r.unsubscribe {
		b = putBytes(b, 4, []byte(n))
	}
	for name, version := range r.initial {
		b = putBytes(b, 5, put(put(nil, 1, name), 2, version))
	}
	b = put(b, 6, r.nonce)
	if r.complaint != "" {
		b = putBytes(b, 7, put(nil, 2, r.complaint)) // the code stays 0: presence is what makes it a NACK
	}
	return b
}

// node is id=1 metadata=3.
func (c *Client) node() []byte {
	id := "ztunnel~" + c.cfg.InstanceIP + "~" + c.cfg.Pod + "." + c.cfg.Namespace + "~" + c.cfg.Namespace + ".svc.cluster.local"
	pairs := [][2]string{
		{"NAME", c.cfg.Pod}, {"NAMESPACE", c.cfg.Namespace}, {"INSTANCE_IPS", c.cfg.InstanceIP}, {"NODE_NAME", c.cfg.NodeName}, {"CLUSTER_ID", c.cfg.ClusterID},
	}
	for k, v := range c.cfg.Metadata {
		pairs = append(pairs, [2]string{k, v})
	}
	return putBytes(put(nil, 1, id), 3, textStruct(pairs...))
}

type resource struct {
	name, version string
	body          []byte // nil if there is none
}

type response struct {
	typeURL, nonce string
	resources      []resource
	removed        []string
}

// decodeResponse reads a DeltaDiscoveryResponse: resources=2 type_url=4 nonce=5 removed_resources=6; of a Resource version=1
// resource=2 (Any: value=2) name=3.
func decodeResponse(data []byte) (r response, err error) {
	err = each(data, func(f field) error {
		switch f.num {
		case 2:
			var x resource
			if err := each(f.bytes, func(f field) error {
				switch f.num {
				case 1:
					x.version = f.str()
				case 2:
					x.body = []byte{}
					return each(f.bytes, func(f field) error {
						if f.num == 2 {
							x.body = f.bytes
						}
						return nil
					})
				case 3:
					x.name = f.str()
				}
				return nil
			}); err != nil {
				return fmt.Errorf("resource: %w", err)
			}
			r.resources = append(r.resources, x)
		case 4:
			r.typeURL = f.str()
		case 5:
			r.nonce = f.str()
		case 6:
			r.removed = append(r.removed, f.str())
		}
		return nil
	})
	return r, err
}
