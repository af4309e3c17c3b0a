package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/oncelog/oncelog/cmd/internal/config"
)

// root is the top of the tree, seen from this package.
var root = filepath.Join("..", "..", "..")

func readText(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, filepath.Join(path...)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// section returns the defaults of a kind of node.
func section(t *testing.T, kind string) config.Section {
	t.Helper()
	for _, s := range config.Sections() {
		if s.Name() == kind {
			return s
		}
	}
	t.Fatalf("%q is no kind of node", kind)
	return nil
}

// loads fails unless a node of this kind takes these variables, and the health check of
// its container as well, which is a client in the same environment.
func loads(t *testing.T, name, kind string, environ map[string]string) config.Section {
	t.Helper()
	var list []string
	for k, v := range environ {
		list = append(list, k+"="+v)
	}
	s := section(t, kind)
	for _, s := range []config.Section{s, config.DefaultClient()} {
		if err := config.Load(s, config.Sources{Environ: list}); err != nil {
			t.Errorf("%s: the settings of a %s: %v", name, s.Name(), err)
		}
	}
	return s
}

// security returns the settings of TLS, and those of metrics.
func security(s config.Section) (tls config.TLS, metrics, metricsListen string) {
	switch s := s.(type) {
	case *config.Coordinator:
		return s.TLS, s.MetricsTLS, s.MetricsListen
	case *config.Partition:
		return s.TLS, s.MetricsTLS, s.MetricsListen
	}
	return config.TLS{}, "", ""
}

// TestImage: the image is an empty one with a static binary, which does not run as root
// and writes nowhere but to its volume.
func TestImage(t *testing.T) {
	t.Parallel()
	var stages [][]string
	for line := range strings.Lines(readText(t, "deploy", "Dockerfile")) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "FROM ") {
			stages = append(stages, nil)
		}
		if len(stages) > 0 && line != "" && !strings.HasPrefix(line, "#") {
			stages[len(stages)-1] = append(stages[len(stages)-1], line)
		}
	}
	if len(stages) != 2 {
		t.Fatalf("%d stages", len(stages))
	}
	last := map[string]string{}
	for _, line := range stages[1] {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "FROM", "COPY", "USER", "VOLUME", "ENTRYPOINT", "CMD":
			last[word] += rest
		default:
			t.Errorf("what is the image's is copied, and nothing is run or fetched in it: %s", line)
		}
	}
	for word, want := range map[string]string{"FROM": "scratch", "USER": "65532:65532", "VOLUME": "/data", "ENTRYPOINT": `["/oncelog"]`} {
		if last[word] != want {
			t.Errorf("%s is %q, want %q", word, last[word], want)
		}
	}
	for _, line := range stages[1] {
		if strings.HasPrefix(line, "COPY") && strings.Contains(line, "/data") && !strings.Contains(line, "--chown=65532:65532") {
			t.Errorf("the user cannot write there: %s", line)
		}
	}
	build := strings.Join(stages[0], "\n")
	if !strings.Contains(build, "CGO_ENABLED=0") || strings.Contains(build, "\nADD ") {
		t.Errorf("the build stage: %s", build)
	}
}

// manifest is what is looked at of a document for Kubernetes.
type manifest struct {
	Kind string
	Spec struct {
		Replicas int
		Template struct {
			Spec struct {
				Containers []struct {
					Args []string
					Env  []struct {
						Name, Value string
						ValueFrom   struct {
							FieldRef struct {
								FieldPath string `yaml:"fieldPath"`
							} `yaml:"fieldRef"`
						} `yaml:"valueFrom"`
					}
				}
			}
		}
	}
}

// TestKubernetesSettings: each pod's environment, as Kubernetes makes it, is what a node
// starts with, over TLS.
func TestKubernetesSettings(t *testing.T) {
	t.Parallel()
	pods := 0
	for _, kind := range []string{"coordinator", "partition"} {
		for text := range strings.SplitSeq(readText(t, "deploy", "kubernetes", kind+".yaml"), "\n---\n") {
			var m manifest
			if decode(t, text, &m); m.Kind != "StatefulSet" {
				continue
			}
			c := m.Spec.Template.Spec.Containers[0]
			if len(c.Args) != 1 || c.Args[0] != kind {
				t.Errorf("%s: arguments %q", kind, c.Args)
			}
			for pod := range m.Spec.Replicas {
				pods++
				id := string(rune('1' + pod))
				fields := map[string]string{
					"metadata.namespace": "oncelog", "metadata.name": "oncelog-" + kind + "-" + id,
					"metadata.labels['apps.kubernetes.io/pod-index']": id,
				}
				environ := map[string]string{}
				for _, e := range c.Env {
					value := e.Value
					if path := e.ValueFrom.FieldRef.FieldPath; path != "" {
						if value = fields[path]; value == "" {
							t.Errorf("%s: nobody knows the field %s", kind, path)
						}
					}
					for name, before := range environ { // only of those above it
						value = strings.ReplaceAll(value, "$("+name+")", before)
					}
					environ[e.Name] = value
				}
				s := loads(t, kind, kind, environ)
				if tls, metrics, _ := security(s); !tls.Enabled() || metrics != config.MetricsTLSServer {
					t.Errorf("%s: in plain text: %+v, %s", kind, tls, metrics)
				}
				switch s := s.(type) {
				case *config.Coordinator:
					if want := "oncelog-coordinator-" + id + ".oncelog-coordinator.oncelog.svc:7101"; s.Members[pod].PeerAddress != want {
						t.Errorf("member %d is at %s, want %s", pod+1, s.Members[pod].PeerAddress, want)
					}
				case *config.Partition:
					if want := "oncelog-partition-" + id + ".oncelog-partition.oncelog.svc:7200"; s.ClientAddress() != want {
						t.Errorf("node %d tells clients %s, want %s", pod+1, s.ClientAddress(), want)
					}
				}
			}
		}
	}
	if pods != 6 {
		t.Errorf("%d pods were looked at", pods)
	}
}
