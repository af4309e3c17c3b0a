// Package check holds the manifests of deploy/kubernetes to Kubernetes' own types, and
// to what its README.md promises. It is a module of its own, so that nothing of
// Kubernetes comes into the product.
package check

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	goyaml "go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// manifests is everything that the folder has, by name where there is one of a kind.
type manifests struct {
	sets     map[string]*appsv1.StatefulSet
	services map[string]*corev1.Service
	budgets  map[string]*policyv1.PodDisruptionBudget
	policies map[string]*networkingv1.NetworkPolicy
}

// kustomization is what is used of one; the types of kustomize itself are a large module.
type kustomization struct {
	APIVersion string                                   `json:"apiVersion"`
	Kind       string                                   `json:"kind"`
	Namespace  string                                   `json:"namespace"`
	Resources  []string                                 `json:"resources"`
	Images     []struct{ Name, NewName, NewTag string } `json:"images"`
}

// documents splits a file, as kubectl does.
func documents(t *testing.T, path string) (out [][]byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	decoder := goyaml.NewDecoder(bytes.NewReader(text))
	for {
		var node goyaml.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		document, err := goyaml.Marshal(&node)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, document)
	}
}

// strictly decodes a document into the type of its kind: a key that the type does not have,
// and one that is given twice, is an error.
func strictly[T any](t *testing.T, path string, document []byte, into map[string]*T, name func(*T) string) {
	t.Helper()
	object := new(T)
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if into[name(object)] != nil {
		t.Errorf("%s: %s is there twice", path, name(object))
	}
	into[name(object)] = object
}

func read(t *testing.T) manifests {
	t.Helper()
	m := manifests{
		map[string]*appsv1.StatefulSet{}, map[string]*corev1.Service{}, map[string]*policyv1.PodDisruptionBudget{}, map[string]*networkingv1.NetworkPolicy{},
	}
	var k kustomization
	text, err := os.ReadFile("../kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &k); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if base := filepath.Base(path); base != "kustomization.yaml" && !slices.Contains(k.Resources, base) {
			t.Errorf("%s is not among the resources of kustomization.yaml", base)
		}
	}
	for _, resource := range k.Resources {
		path := filepath.Join("..", resource)
		for _, document := range documents(t, path) {
			var kind struct{ APIVersion, Kind string }
			if err := yaml.Unmarshal(document, &kind); err != nil {
				t.Fatal(err)
			}
			switch kind.APIVersion + " " + kind.Kind {
			case "apps/v1 StatefulSet":
				strictly(t, path, document, m.sets, func(s *appsv1.StatefulSet) string { return s.Name })
			case "v1 Service":
				strictly(t, path, document, m.services, func(s *corev1.Service) string { return s.Name })
			case "policy/v1 PodDisruptionBudget":
				strictly(t, path, document, m.budgets, func(s *policyv1.PodDisruptionBudget) string { return s.Name })
			case "networking.k8s.io/v1 NetworkPolicy":
				strictly(t, path, document, m.policies, func(s *networkingv1.NetworkPolicy) string { return s.Name })
			default:
				t.Errorf("%s: nobody checks %s %s", path, kind.APIVersion, kind.Kind)
			}
		}
	}
	if len(m.sets) != 2 || len(m.services) != 3 || len(m.budgets) != 2 || len(m.policies) != 1 {
		t.Fatalf("%d StatefulSets, %d Services, %d budgets, %d policies", len(m.sets), len(m.services), len(m.budgets), len(m.policies))
	}
	return m
}

// TestStrictness: what the tests rely on. A key that Kubernetes does not know, or one that is
// given twice, does not pass.
func TestStrictness(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"spec: {replica: 3}", "spec: {replicas: three}", "spec: {replicas: 3, replicas: 4}", "spec: {template: {spec: {container: []}}}"} {
		if err := yaml.UnmarshalStrict([]byte(text), &appsv1.StatefulSet{}); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

func TestNodes(t *testing.T) {
	t.Parallel()
	m := read(t)
	for name, s := range m.sets {
		pod := s.Spec.Template
		labels := pod.Labels
		if !reflect.DeepEqual(s.Spec.Selector.MatchLabels, labels) {
			t.Errorf("%s: selects %v, its pods have %v", name, s.Spec.Selector.MatchLabels, labels)
		}
		// Numbers begin with 1, and are those of the pods.
		if s.Spec.Ordinals == nil || s.Spec.Ordinals.Start != 1 || variable(s, "ONCELOG_NODE_ID").ValueFrom.FieldRef.FieldPath != "metadata.labels['apps.kubernetes.io/pod-index']" {
			t.Errorf("%s: node ids are not the ordinals from 1", name)
		}
		if s.Spec.PodManagementPolicy != appsv1.ParallelPodManagement || s.Spec.MinReadySeconds == 0 || s.Spec.UpdateStrategy.Type != appsv1.RollingUpdateStatefulSetStrategyType {
			t.Errorf("%s: %+v", name, s.Spec)
		}
		if r := s.Spec.PersistentVolumeClaimRetentionPolicy; r == nil || r.WhenDeleted != appsv1.RetainPersistentVolumeClaimRetentionPolicyType || r.WhenScaled != appsv1.RetainPersistentVolumeClaimRetentionPolicyType {
			t.Errorf("%s: volumes do not stay", name)
		}
		// The service gives the pods their names, before they are ready.
		service := m.services[s.Spec.ServiceName]
		if service == nil || service.Spec.ClusterIP != corev1.ClusterIPNone || !service.Spec.PublishNotReadyAddresses || !reflect.DeepEqual(service.Spec.Selector, labels) {
			t.Errorf("%s: service %+v", name, service)
		}
		budget := m.budgets[name]
		if budget == nil || budget.Spec.MaxUnavailable.IntValue() != 1 || !reflect.DeepEqual(budget.Spec.Selector.MatchLabels, labels) {
			t.Errorf("%s: budget %+v", name, budget)
		}
		away := pod.Spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
		if len(away) != 1 || away[0].TopologyKey != corev1.LabelHostname || !selects(away[0].LabelSelector.MatchLabels, labels) {
			t.Errorf("%s: anti-affinity %+v", name, away)
		}
		if spread := pod.Spec.TopologySpreadConstraints; len(spread) != 1 || !selects(spread[0].LabelSelector.MatchLabels, labels) {
			t.Errorf("%s: spread %+v", name, spread)
		}
		// A node needs 8 s to hand over.
		if grace := pod.Spec.TerminationGracePeriodSeconds; grace == nil || *grace < 15 {
			t.Errorf("%s: a grace of %v", name, grace)
		}
		// Every pod is named where all are.
		for _, key := range []string{"ONCELOG_MEMBERS", "ONCELOG_COORDINATORS"} {
			v := variable(s, key)
			for i := range *m.sets["oncelog-coordinator"].Spec.Replicas {
				if host := fmt.Sprintf("oncelog-coordinator-%d.oncelog-coordinator.$(POD_NAMESPACE).svc:7101", i+1); v.Value != "" && !strings.Contains(v.Value, host) {
					t.Errorf("%s: %s does not name %s", name, key, host)
				}
			}
		}
	}
}

// selects reports whether a selector selects labels; an empty one selects everybody.
func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return len(selector) > 0
}

func variable(s *appsv1.StatefulSet, name string) corev1.EnvVar {
	for _, v := range s.Spec.Template.Spec.Containers[0].Env {
		if v.Name == name {
			return v
		}
	}
	return corev1.EnvVar{}
}

func TestPrivileges(t *testing.T) {
	t.Parallel()
	for name, s := range read(t).sets {
		pod := s.Spec.Template.Spec
		if len(pod.Containers) != 1 || len(pod.InitContainers) > 0 || pod.HostNetwork || pod.HostPID || pod.HostIPC {
			t.Fatalf("%s: %+v", name, pod)
		}
		all, c := pod.SecurityContext, pod.Containers[0]
		if !*all.RunAsNonRoot || *all.RunAsUser != 65532 || *all.FSGroup != 65532 || all.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: pod %+v", name, all)
		}
		own := c.SecurityContext
		if *own.AllowPrivilegeEscalation || !*own.ReadOnlyRootFilesystem || !slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
			own.Capabilities.Add != nil || own.Privileged != nil && *own.Privileged {
			t.Errorf("%s: container %+v", name, own)
		}
		if *pod.AutomountServiceAccountToken || *pod.EnableServiceLinks {
			t.Errorf("%s: a token or links that nobody needs", name)
		}
		if c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: resources %+v", name, c.Resources)
		}
		writable := 0
		for _, mount := range c.VolumeMounts {
			if !mount.ReadOnly {
				writable++
				if !strings.HasPrefix(variable(s, "ONCELOG_DATA_DIR").Value, mount.MountPath+"/") {
					t.Errorf("%s: %s may be written and holds no data", name, mount.MountPath)
				}
			}
		}
		if secret := pod.Volumes[0].Secret; writable != 1 || secret == nil || secret.DefaultMode == nil || *secret.DefaultMode != 0o440 {
			t.Errorf("%s: volumes %+v", name, pod.Volumes)
		}
		if variable(s, "ONCELOG_INSECURE").Name != "" || variable(s, "ONCELOG_TLS_CERT").Value == "" {
			t.Errorf("%s: not over TLS", name)
		}
	}
}

func TestProbesAndPorts(t *testing.T) {
	t.Parallel()
	m := read(t)
	for name, s := range m.sets {
		c := s.Spec.Template.Spec.Containers[0]
		ports := map[string]int32{}
		for _, p := range c.Ports {
			ports[p.Name] = p.ContainerPort
		}
		for port, key := range map[string]string{"client": "ONCELOG_CLIENT_LISTEN", "peer": "ONCELOG_PEER_LISTEN", "metrics": "ONCELOG_METRICS_LISTEN"} {
			if want := fmt.Sprintf("0.0.0.0:%d", ports[port]); variable(s, key).Value != want {
				t.Errorf("%s: %s is %q, want %s", name, key, variable(s, key).Value, want)
			}
		}
		if c.ReadinessProbe.Exec == nil || !slices.Equal(c.ReadinessProbe.Exec.Command[:3], []string{"/oncelog", "health", fmt.Sprintf(":%d", ports["client"])}) {
			t.Errorf("%s: readiness %+v", name, c.ReadinessProbe)
		}
		for _, probe := range []*corev1.Probe{c.LivenessProbe, c.StartupProbe} {
			// HTTPS without a certificate to show, which only this setting serves.
			if h := probe.HTTPGet; h == nil || h.Scheme != corev1.URISchemeHTTPS || ports[h.Port.StrVal] == 0 || h.Path != "/healthz" || variable(s, "ONCELOG_METRICS_TLS").Value != "server" {
				t.Errorf("%s: %+v", name, probe)
			}
		}
		for _, p := range m.services[name].Spec.Ports {
			if ports[p.TargetPort.StrVal] != p.Port {
				t.Errorf("%s: the service's port %+v", name, p)
			}
		}
	}
	rules := m.policies["oncelog"].Spec.Ingress
	for _, rule := range rules {
		for _, port := range rule.Ports {
			if open := len(rule.From) == 0; open == (port.Port.StrVal == "peer") {
				t.Errorf("who reaches port %s: %+v", port.Port.StrVal, rule.From)
			}
		}
	}
}
