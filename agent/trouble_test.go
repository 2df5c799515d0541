package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ambit-mesh/ambit/agent/enroll"
	"github.com/ambit-mesh/ambit/agent/pods"
)

func TestTrouble(t *testing.T) {
	now := time.Now()
	long, short := now.Add(-troubleTime), now.Add(-troubleTime+time.Millisecond)
	in := enroll.Decision{Verdict: enroll.Enrolled}
	broken := errors.New("no such device")
	for name, test := range map[string]struct {
		m             member
		refusal, want string
		message       string
	}{
		"well":                     {m: member{decision: in}},
		"outside":                  {m: member{decision: enroll.Decision{Verdict: enroll.Outside, Reason: enroll.HasSidecar}}},
		"outside, and asked":       {m: member{decision: enroll.Decision{Verdict: enroll.Outside, Reason: enroll.OtherMesh, Asked: true, Detail: "istio"}}, want: "OtherMesh", message: "istio"},
		"refused":                  {m: member{decision: enroll.Decision{Reason: enroll.ForeignHooks, Detail: "cil_x"}, since: now}, want: "ForeignHooks", message: "cil_x"},
		"refused and deleted":      {m: member{decision: enroll.Decision{Reason: enroll.ForeignHooks}, deleted: true}},
		"refused and done":         {m: member{pod: pods.Pod{Phase: "Succeeded"}, decision: enroll.Decision{Reason: enroll.ForeignHooks}}},
		"namespace to come":        {m: member{decision: enroll.Decision{Reason: enroll.NamespaceUnknown}, since: short}},
		"namespace does not come":  {m: member{decision: enroll.Decision{Reason: enroll.NamespaceUnknown}, since: long}, want: "NamespaceUnknown"},
		"fails since a moment":     {m: member{decision: in, err: broken, failing: short}},
		"fails for long":           {m: member{decision: in, err: broken, failing: long}, want: reasonFailed, message: "no such device"},
		"waits for its runtime":    {m: member{decision: in, err: errNotMade}},
		"refused by the ztunnel":   {m: member{decision: in}, refusal: "bad address", want: reasonZtunnel, message: "bad address"},
		"fails, ztunnel refuses":   {m: member{decision: in, err: broken, failing: long}, refusal: "x", want: reasonFailed},
		"asks for more":            {m: member{decision: enroll.Decision{Verdict: enroll.Enrolled, Unheeded: "no such thing"}}, want: reasonUnheeded, message: "no such thing"},
		"asks for more, and fails": {m: member{decision: enroll.Decision{Verdict: enroll.Enrolled, Unheeded: "x"}, err: broken, failing: long}, want: reasonFailed},
		"outside, ztunnel refuses": {m: member{decision: enroll.Decision{Verdict: enroll.Outside}}, refusal: "x"},
	} {
		if got, message := test.m.trouble(test.refusal, now); got != test.want || !strings.Contains(message, test.message) || (got == "") != (message == "") {
			t.Errorf("%s: %q, %q; want %q with %q", name, got, message, test.want, test.message)
		}
	}
}
