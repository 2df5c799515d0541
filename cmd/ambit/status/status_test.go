package status

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/controller/xds"
)

var now = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

func clients() []xds.Client {
	address, policies := columns[0].url, columns[1].url
	return []xds.Client{
		{
			Proxy: "ztunnel~10.0.0.1~zt-a.ambit-system~x", Node: "n1", ProxyVersion: "1.0", ClusterID: "Kubernetes", Connected: now.Add(-3 * time.Hour),
			Resources: map[string]xds.Sync{address: {Sent: "7", Acked: "7", SentTime: now.Add(-5 * time.Minute)}, policies: {Sent: "7", Acked: "6", InFlight: true, SentTime: now.Add(-30 * time.Second)}},
		},
		{
			Proxy: "ztunnel~10.0.0.2~zt-b.ambit-system~x", Node: "n2", Connected: now.Add(-90 * time.Second),
			Resources: map[string]xds.Sync{address: {}, policies: {Sent: "7", Acked: "7", SentTime: now, Rejects: 2, LastError: "x", Rejected: map[string]string{"shop/p": "bad\x1b[2J rule"}}},
		},
		{Proxy: "odd", Connected: now.Add(-72 * time.Hour)},
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := table(&out, clients(), now); err != nil {
		t.Fatal(err)
	}
	want := `CLIENT             NODE  CLUSTER     VERSION  CONNECTED  WORKLOADS       POLICIES
zt-a.ambit-system  n1    Kubernetes  1.0      3h         SYNCED (5m)     STALE (30s)
zt-b.ambit-system  n2    -           -        90s        NOT SENT        REJECTED (0s)
odd                -     -           -        3d         NOT SUBSCRIBED  NOT SUBSCRIBED

zt-b.ambit-system rejected Authorization shop/p: bad [2J rule (2 in all)
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
}

func TestCommand(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/debug/syncz" {
			http.NotFound(w, r)
			return
		}
		if err := json.NewEncoder(w).Encode(clients()); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	for _, tc := range []struct {
		args       []string
		says, fail string
	}{
		{[]string{"--address", srv.URL}, "zt-a.ambit-system", ""},
		{[]string{"--address", srv.URL, "zt-b"}, "REJECTED", ""},
		{[]string{"--address", srv.URL, "-o", "json", "n1"}, `"acked": "6"`, ""},
		{[]string{"--address", srv.URL, "zt-c"}, "", "no client"},
		{[]string{"--address", srv.URL + "/nothing"}, "", "404"},
		{[]string{"--address", "http://127.0.0.1:1"}, "", "controller status"},
	} {
		var out bytes.Buffer
		cmd := Command()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(tc.args)
		err := cmd.Execute()
		if !strings.Contains(out.String(), tc.says) || (err != nil) != (tc.fail != "") || err != nil && !strings.Contains(err.Error(), tc.fail) {
			t.Errorf("%v: %v\n%s", tc.args, err, &out)
		}
	}
}
