package source

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/ambit-mesh/ambit/agent/pods"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// decode reads the Pods that are bound to node, and the Namespaces, of a file of YAML or JSON documents. Other kinds are
// somebody else's business; what is wrong with them the controller says.
func decode(text []byte, node string) ([]pods.Pod, []pods.Namespace, error) {
	var list []pods.Pod
	var namespaces []pods.Namespace
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 1; ; n++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return list, namespaces, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("document %d: %w", n, err)
		}
		var kind metav1.TypeMeta
		if err := sigsyaml.Unmarshal(document, &kind); err != nil {
			return nil, nil, fmt.Errorf("document %d: %w", n, err)
		}
		if kind.APIVersion != "v1" {
			continue
		}
		switch kind.Kind {
		case "Pod":
			var p corev1.Pod
			if err := sigsyaml.UnmarshalStrict(document, &p); err != nil {
				return nil, nil, fmt.Errorf("document %d: pod: %w", n, err)
			}
			if p.Name == "" {
				return nil, nil, fmt.Errorf("document %d: a pod without a name", n)
			}
			if p.Namespace == "" {
				p.Namespace = "default"
			}
			if p.Spec.NodeName == node {
				list = append(list, fromPod(&p))
			}
		case "Namespace":
			var ns corev1.Namespace
			if err := sigsyaml.UnmarshalStrict(document, &ns); err != nil {
				return nil, nil, fmt.Errorf("document %d: namespace: %w", n, err)
			}
			if ns.Name == "" {
				return nil, nil, fmt.Errorf("document %d: a namespace without a name", n)
			}
			namespaces = append(namespaces, fromNamespace(&ns))
		}
	}
}
