package enroll

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ambit-mesh/ambit/agent/pods"
)

var update = flag.Bool("update", false, "rewrite the scenarios' decisions")

const scenarios = "testdata/enroll.txt"

// scenario is the facts of one block.
type scenario struct {
	node      Node
	namespace *pods.Namespace
	pod       *pods.Pod
}

func (s *scenario) fact(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "othermesh":
		s.node.OtherMeshes = append(s.node.OtherMeshes, rest)
	case "foreign":
		s.node.ForeignHooks = append(s.node.ForeignHooks, rest)
	case "namespace":
		fields := strings.Fields(rest)
		s.namespace = &pods.Namespace{Name: fields[0], Labels: map[string]string{}}
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(strings.TrimPrefix(f, "label="), "=")
			s.namespace.Labels[key] = value
		}
	case "pod":
		return s.readPod(strings.Fields(rest))
	}
	return nil
}

func (s *scenario) readPod(fields []string) error {
	namespace, name, _ := strings.Cut(fields[0], "/")
	p := &pods.Pod{Key: pods.Key{Namespace: namespace, Name: name}, Labels: map[string]string{}, Annotations: map[string]string{}}
	for _, f := range fields[1:] {
		what, rest, _ := strings.Cut(f, "=")
		key, value, _ := strings.Cut(rest, "=")
		switch what {
		case "label":
			p.Labels[key] = value
		case "annotation":
			p.Annotations[key] = value
		case "hostnetwork":
			p.HostNetwork = true
		case "deleting":
			p.Deleting = true
		case "phase":
			p.Phase = pods.Phase(rest)
		case "port":
			port, err := strconv.ParseUint(rest, 10, 16)
			if err != nil {
				return err
			}
			p.Ports = append(p.Ports, uint16(port))
		default:
			return fmt.Errorf("unknown word %q", f)
		}
	}
	s.pod = p
	return nil
}

func describe(d Decision) string {
	text := d.Verdict.String() + " reason=" + string(d.Reason)
	for _, flag := range []struct {
		on   bool
		name string
	}{{d.Asked, "asked"}, {d.DNS, "dns"}, {d.BypassInbound, "bypass-inbound"}, {d.Strict, "strict"}, {d.Unheeded != "", "unheeded"}} {
		if flag.on {
			text += " " + flag.name
		}
	}
	return text
}

func TestScenarios(t *testing.T) {
	file, err := os.ReadFile(scenarios)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Reason]bool{}
	lines := strings.Split(string(file), "\n")
	fresh := func() scenario {
		return scenario{node: Node{
			SystemNamespace: "ambit-system", ExcludedNamespaces: []string{"kube-system"},
			Selectors: DefaultSelectors(), CaptureDNS: true,
		}}
	}
	s := fresh()
	for i, line := range lines {
		switch {
		case line == "":
			s = fresh()
		case i > 0 && lines[i-1] == "----":
			d := Decide(s.pod, s.namespace, s.node)
			if got := describe(d); got != line && !*update {
				t.Errorf("%s:%d: got %q, want %q (%s)", scenarios, i+1, got, line, d.Detail)
			} else {
				lines[i] = got
			}
			if d.Detail == "" {
				t.Errorf("%s:%d: a decision without a detail", scenarios, i+1)
			}
			seen[d.Reason] = true
		case line != "----" && !strings.HasPrefix(line, "#"):
			if err := s.fact(line); err != nil {
				t.Fatalf("%s:%d: %v", scenarios, i+1, err)
			}
		}
	}
	for _, r := range Reasons() {
		if !seen[r] {
			t.Errorf("no scenario ends with %s", r)
		}
	}
	if *update {
		if err := os.WriteFile(scenarios, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestZeroDecisionRefuses(t *testing.T) {
	if v := (Decision{}).Verdict; v != Refused {
		t.Errorf("the zero verdict is %s", v)
	}
}

func TestRequirements(t *testing.T) {
	labels := map[string]string{"a": "1"}
	cases := []struct {
		r    Requirement
		want bool
	}{
		{Requirement{"a", In, []string{"0", "1"}}, true},
		{Requirement{"a", In, []string{"0"}}, false},
		{Requirement{"b", In, []string{""}}, false},
		{Requirement{"a", NotIn, []string{"1"}}, false},
		{Requirement{"b", NotIn, []string{"1"}}, true},
		{Requirement{"a", Exists, nil}, true},
		{Requirement{"b", Exists, nil}, false},
		{Requirement{"a", DoesNotExist, nil}, false},
		{Requirement{"b", DoesNotExist, nil}, true},
		{Requirement{"a", "Like", []string{"1"}}, false},
	}
	for _, c := range cases {
		if got := c.r.Matches(labels); got != c.want {
			t.Errorf("%+v: %v, want %v", c.r, got, c.want)
		}
	}
}

func TestParseSelectors(t *testing.T) {
	got, err := ParseSelectors([]byte(`[{"podSelector":{"matchLabels":{"mesh":"yes"}},
		"namespaceSelector":{"matchExpressions":[{"key":"team","operator":"NotIn","values":["x"]}]}}]`))
	if err != nil {
		t.Fatal(err)
	}
	if !got[0].Matches(map[string]string{"mesh": "yes"}, nil) || got[0].Matches(nil, nil) ||
		got[0].Matches(map[string]string{"mesh": "yes"}, map[string]string{"team": "x"}) {
		t.Errorf("%+v does not mean what was written", got)
	}
	for _, bad := range []string{
		``, `{}`, `[]`, `[{"podSelecter":{}}]`, `[{"podSelector":{"matchExpressions":[{"key":"a","operator":"Is"}]}}]`,
		`[{"podSelector":{"matchExpressions":[{"operator":"Exists"}]}}]`, `[{"podSelector":{"matchExpressions":[{"key":"a","operator":"In"}]}}]`,
		`[{"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"Exists","values":["x"]}]}}]`, `[{}] x`,
	} {
		if got, err := ParseSelectors([]byte(bad)); err == nil {
			t.Errorf("%s was read as %+v", bad, got)
		}
	}
}

func FuzzParseSelectors(f *testing.F) {
	f.Add([]byte(`[{"podSelector":{"matchLabels":{"a":"b"}}}]`), "a", "b")
	f.Fuzz(func(t *testing.T, text []byte, key, value string) {
		list, err := ParseSelectors(text)
		if err == nil && len(list) == 0 {
			t.Fatal("no selectors and no error")
		}
		for _, s := range list {
			s.Matches(map[string]string{key: value}, nil)
		}
		_ = slices.Clone(list)
	})
}
