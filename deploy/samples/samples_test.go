// Package samples_test answers whether the samples are what a cluster would accept: it holds each against the schema and the
// rules of its real CRD, or the Kubernetes type, and against the controller's own reading.
package samples_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	kjson "sigs.k8s.io/json"

	"github.com/ambit-mesh/ambit/controller/objects"
	"github.com/ambit-mesh/ambit/controller/source/manifest"
	"github.com/ambit-mesh/ambit/controller/translate"
)

// crds are the schemas by "apiVersion kind".
func crds(t *testing.T) map[string]*apiextensions.CustomResourceValidation {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	if err != nil {
		t.Fatalf("the module istio.io/api brings the CRDs: %v", err)
	}
	file, err := os.Open(filepath.Join(strings.TrimSpace(string(dir)), "kubernetes", "customresourcedefinitions.gen.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	out := map[string]*apiextensions.CustomResourceValidation{}
	dec := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := dec.Decode(&crd); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		for _, v := range crd.Spec.Versions {
			internal := &apiextensions.CustomResourceValidation{}
			if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v.Schema, internal, nil); err != nil {
				t.Fatal(err)
			}
			out[crd.Spec.Group+"/"+v.Name+" "+crd.Spec.Names.Kind] = internal
		}
	}
}

func TestSamples(t *testing.T) {
	schemas := crds(t)
	seen := map[string]int{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
		for {
			var obj map[string]any
			if err := dec.Decode(&obj); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			kind, _ := obj["kind"].(string)
			seen[kind]++
			for _, problem := range check(t, schemas, obj) {
				t.Errorf("%s: %s: %v", path, kind, problem)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"PeerAuthentication", "AuthorizationPolicy", "VirtualService", "DestinationRule", "Deployment", "Service", "ServiceAccount", "Namespace"} {
		if seen[kind] == 0 {
			t.Errorf("no sample of kind %s", kind)
		}
	}
}

// check does what an API server does: unknown fields, schema, and the schema's rules.
func check(t *testing.T, schemas map[string]*apiextensions.CustomResourceValidation, obj map[string]any) []error {
	t.Helper()
	id := obj["apiVersion"].(string) + " " + obj["kind"].(string)
	crv, ok := schemas[id]
	if !ok {
		return checkBuiltIn(id, obj)
	}
	structural, err := schema.NewStructural(crv.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	var errs []error
	for _, path := range pruning.PruneWithOptions(obj, structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		errs = append(errs, errors.New("unknown field "+path))
	}
	validator, _, err := validation.NewSchemaValidator(crv.OpenAPIV3Schema)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range validation.ValidateCustomResource(field.NewPath(""), obj, validator) {
		errs = append(errs, e)
	}
	rules := cel.NewValidator(structural, true, celconfig.PerCallLimit)
	list, _ := rules.Validate(t.Context(), field.NewPath(""), structural, obj, nil, celconfig.RuntimeCELCostBudget)
	for _, e := range list {
		errs = append(errs, e)
	}
	return errs
}

func checkBuiltIn(id string, obj map[string]any) []error {
	var into any
	switch id {
	case "v1 Namespace":
		into = &corev1.Namespace{}
	case "v1 Service":
		into = &corev1.Service{}
	case "v1 ServiceAccount":
		into = &corev1.ServiceAccount{}
	case "apps/v1 Deployment":
		into = &appsv1.Deployment{}
	default:
		return []error{errors.New("no schema for " + id)}
	}
	data, err := json.Marshal(obj)
	if err != nil {
		return []error{err}
	}
	strict, err := kjson.UnmarshalStrict(data, into)
	if err != nil {
		return append(strict, err)
	}
	return strict
}

// TestCheckCanFail: a validator that lets everything pass would prove nothing.
func TestCheckCanFail(t *testing.T) {
	schemas := crds(t)
	for name, text := range map[string]string{
		"unknown field": `{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"x"},"spec":{"rule":[]}}`,
		"enum":          `{"apiVersion":"security.istio.io/v1","kind":"PeerAuthentication","metadata":{"name":"x"},"spec":{"mtls":{"mode":"STRIKT"}}}`,
		"rule":          `{"apiVersion":"security.istio.io/v1","kind":"PeerAuthentication","metadata":{"name":"x"},"spec":{"portLevelMtls":{"80":{"mode":"STRICT"}}}}`,
		"built in":      `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"spec":{"port":[]}}`,
	} {
		var obj map[string]any
		if err := kjson.UnmarshalCaseSensitivePreserveInts([]byte(text), &obj); err != nil {
			t.Fatal(err)
		}
		if errs := check(t, schemas, obj); len(errs) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
}

// TestControllerAccepts: no problem and no condition that says that something is not enforced.
func TestControllerAccepts(t *testing.T) {
	var changes []objects.Change
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		items, problems := manifest.Decode(path, data)
		for _, p := range problems {
			t.Error(p)
		}
		for _, it := range items {
			changes = append(changes, objects.Change{Key: it.Key, Object: it.Object})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	tr := translate.New(translate.Settings{})
	policies := map[string]bool{}
	statuses := tr.Update(changes, func(o translate.Output) {
		if o.Err != nil {
			t.Errorf("%s: %v", o.Name, o.Err)
		}
		if o.IsPolicy && o.Policy != nil {
			policies[o.Name] = true
		}
	})
	for key, status := range statuses {
		for _, c := range status.Conditions {
			if !c.Status || c.Reason != "Accepted" {
				t.Errorf("%s: %+v", key, c)
			}
		}
	}
	for _, name := range []string{
		"shop/allow-nothing", "shop/namespace-isolation", "shop/web", "shop/cart", "shop/payments", "shop/database",
		"shop/converted_peer_authentication_web-metrics", "istio-system/istio_converted_static_strict",
	} {
		if !policies[name] {
			t.Errorf("no policy %s", name)
		}
	}
}
