package xds

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/ambit-mesh/ambit/controller/auth"
)

// asRequest takes a message the way the server does: off the wire.
func asRequest(t testing.TB, m *discovery.DeltaDiscoveryRequest) *request {
	t.Helper()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	r := &request{}
	if err := r.decode(cut(data, 1+len(data)/2)); err != nil {
		t.Fatal(err)
	}
	return r
}

// FuzzRequest holds our decoder against protobuf's: what that reads, ours reads the same, however it is cut into pieces. Ours does
// not look into fields that are of no concern here, so it may read more.
func FuzzRequest(f *testing.F) {
	full := &discovery.DeltaDiscoveryRequest{
		Node: &core.Node{Id: "ztunnel~10.0.0.1~z.sys~x"}, TypeUrl: "t", ResourceNamesSubscribe: []string{"*", "a"}, ResourceNamesUnsubscribe: []string{"b"},
		InitialResourceVersions: map[string]string{"c//Pod/ns/a": "1", "": ""}, ResponseNonce: "n", ErrorDetail: &status.Status{Message: "a: no"},
	}
	data, err := proto.Marshal(full)
	if err != nil {
		f.Fatal(err)
	}
	for i := range data {
		f.Add(data[:i])
	}
	f.Add(data)
	f.Add(append(slices.Clone(data), data...))         // merged
	f.Add([]byte{0x2a, 0x02, 0x0a, 0x05})              // a truncated map entry
	f.Add([]byte{0x42, 0x01, 0xda})                    // garbage in a field we do not read
	f.Add([]byte{0x12, 0x01, 0xff})                    // not UTF-8
	f.Add([]byte{0x0b, 0x0c, 0x10, 0x01})              // a group, and a wrong wire type
	for _, n := range []int{100, 120, 127, 128, 300} { // entries and names about the lengths that take another byte to say
		list := listOf(map[string]string{strings.Repeat("n", n): "0123456789abcdef", "é": "1"}, 1<<20)
		f.Add(list.Materialize())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want discovery.DeltaDiscoveryRequest
		wantErr := proto.Unmarshal(data, &want)
		var whole request
		wholeErr := whole.decode(cut(data, max(len(data), 1)))
		for _, piece := range []int{1, 2, 3, 7, 64, max(len(data), 1)} {
			var got request
			gotErr := got.decode(cut(data, piece))
			if (gotErr == nil) != (wholeErr == nil) || gotErr == nil && (got.held.sum != whole.held.sum || got.held.n != whole.held.n) {
				t.Fatalf("in pieces of %d: %v, as a whole: %v", piece, gotErr, wholeErr)
			}
			if wantErr != nil {
				continue
			}
			if gotErr != nil {
				t.Fatalf("protobuf reads it, ours says %v", gotErr)
			}
			if !proto.Equal(want.Node, got.node) || want.TypeUrl != got.typeURL || want.ResponseNonce != got.nonce || (want.ErrorDetail != nil) != got.rejects || want.ErrorDetail.GetMessage() != got.complaint ||
				!slices.Equal(want.ResourceNamesSubscribe, got.subscribe) || !slices.Equal(want.ResourceNamesUnsubscribe, got.unsubscribe) ||
				!maps.Equal(want.InitialResourceVersions, got.held.versions()) {
				t.Fatalf("want %v, got %+v", &want, got)
			}
		}
	})
}

// What is too much is told to the client, and costs no memory beyond the limit.
func TestRequestLimits(t *testing.T) {
	name := protowire.AppendString(protowire.AppendTag(nil, 3, protowire.BytesType), "x")
	entry := protowire.AppendBytes(protowire.AppendTag(nil, 5, protowire.BytesType), nil)
	usual := listOf(map[string]string{"n": "v"}, 16).Materialize()
	for what, data := range map[string][]byte{
		"names": slices.Repeat(name, maxNames+1), "held": slices.Repeat(entry, maxHeld+1), "usual entries": slices.Repeat(usual, maxHeld+1),
	} {
		var r request
		if err := r.decode(cut(data, 16<<10)); err != nil {
			t.Fatal(err)
		}
		if grpcstatus.Code(r.err) != codes.ResourceExhausted || len(r.subscribe) > maxNames {
			t.Errorf("%s: %v", what, r.err)
		}
	}
	// What is unpacked is a multiple of what was sent: a node is bounded, however often it comes, and a rejection's details are left alone.
	for what, tc := range map[string]struct {
		field, inner protowire.Number
		code         codes.Code
	}{"node": {1, 3, codes.ResourceExhausted}, "details": {7, 3, codes.OK}} {
		small := protowire.AppendBytes(protowire.AppendTag(nil, tc.inner, protowire.BytesType), nil)
		one := protowire.AppendBytes(protowire.AppendTag(nil, tc.field, protowire.BytesType), slices.Repeat(small, maxNode/4))
		var r request
		if err := r.decode(cut(slices.Repeat(one, 3), 16<<10)); err != nil {
			t.Fatal(err)
		}
		if grpcstatus.Code(r.err) != tc.code || r.rejects != (tc.field == 7) {
			t.Errorf("%s: %v", what, r.err)
		}
		if n := testing.AllocsPerRun(1, func() { _ = r.decode(cut(one, len(one))) }); n > 1000 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	where, err := structpb.NewStruct(map[string]any{"NODE_NAME": strings.Repeat("n", maxNodeName+1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseNode(&core.Node{Id: "ztunnel~10.0.0.1~z.sys~x", Metadata: where}, auth.Caller{Namespace: "sys"}); grpcstatus.Code(err) != codes.InvalidArgument {
		t.Errorf("an endless node name: %v", err)
	}
	if _, err := parseNode(&core.Node{Id: strings.Repeat("~", 64<<20)}, auth.Caller{}); grpcstatus.Code(err) != codes.InvalidArgument {
		t.Errorf("an endless id: %v", err)
	}
	var r request
	if err := r.decode(cut([]byte{0x12, 1, 0xff}, 3)); !errors.Is(err, errNotUTF8) {
		t.Errorf("not UTF-8: %v", err)
	}
}
