package baggage

import (
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/ztunnel/hbone"
	"github.com/ambit-mesh/ambit/ztunnel/state"
)

func TestOf(t *testing.T) {
	if got := Of(nil); got != (hbone.Baggage{}) {
		t.Errorf("nobody is described as %+v", got)
	}
	w := &state.Workload{
		Profile: &state.Profile{ClusterID: "c1", Namespace: "shop", Controller: "cart", CanonicalName: "cart-svc", CanonicalRevision: "v2"},
		Place:   &state.Place{Region: "r", Zone: "z"},
	}
	for kind, word := range map[state.Kind]string{
		state.KindDeployment: "deployment", state.KindCronJob: "cronjob", state.KindPod: "pod", state.KindJob: "job",
	} {
		w.Kind = kind
		b := Of(w)
		want := "k8s.cluster.name=c1,k8s.namespace.name=shop,k8s." + word + ".name=cart,service.name=cart-svc,service.version=v2,cloud.region=r,cloud.availability_zone=z"
		if got := b.String(); got != want {
			t.Errorf("kind %d: %s", kind, got)
		}
	}
}

func TestEndIsBounded(t *testing.T) {
	e := End(&hbone.Baggage{Workload: strings.Repeat("x", 5000), Namespace: "shop", Service: "cart-svc"})
	if len(e.Workload) != maxValue || e.App != e.Workload || e.Namespace != "shop" || e.CanonicalService != "cart-svc" {
		t.Errorf("%+v", e)
	}
}
