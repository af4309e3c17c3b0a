package deploy

import (
	"bytes"
	"context"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/config"
)

// composition is what is looked at of a compose file.
type composition struct {
	Services map[string]service
	Volumes  map[string]any
}

type service struct {
	Image       string
	Command     []string
	Environment map[string]string
	Ports       []string
	Volumes     []string
	Profiles    []string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	CapAdd      []string `yaml:"cap_add"`
	SecurityOpt []string `yaml:"security_opt"`
	NetworkMode string   `yaml:"network_mode"`
	Privileged  bool
	User        string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
}

func readComposition(t *testing.T, name string) (c composition) {
	t.Helper()
	decode(t, readText(t, "deploy", name), &c)
	return c
}

// nodes are the names of the services that are nodes, with their kind.
func nodes(c composition) map[string]string {
	out := map[string]string{}
	for name := range c.Services {
		if kind, _, ok := strings.Cut(name, "-"); ok && (kind == "coordinator" || kind == "partition") {
			out[name] = kind
		}
	}
	return out
}

// TestComposeSettings: every node starts with its variables, in plain text and, with the
// second file over the first, over TLS.
func TestComposeSettings(t *testing.T) {
	t.Parallel()
	plain, secured := readComposition(t, "compose.yaml"), readComposition(t, "compose.tls.yaml")
	all := nodes(plain)
	if len(all) != 6 || !maps.Equal(all, nodes(secured)) {
		t.Fatalf("nodes %v, and over TLS %v", all, nodes(secured))
	}
	for name, kind := range all {
		s := loads(t, name, kind, plain.Services[name].Environment)
		if tls, _, _ := security(s); !tls.Insecure {
			t.Errorf("%s: %+v", name, tls)
		}
		environ := maps.Clone(plain.Services[name].Environment)
		maps.Copy(environ, secured.Services[name].Environment)
		tls, metrics, listen := security(loads(t, name+" over TLS", kind, environ))
		if !tls.Enabled() || tls.ClientAuth != config.ClientAuthRequire || metrics != config.MetricsTLSServer || listen == "" {
			t.Errorf("%s: over TLS %+v, metrics %s at %q", name, tls, metrics, listen)
		}
	}
}

// TestContainersHaveNoPrivileges, whoever they are.
func TestContainersHaveNoPrivileges(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"compose.yaml", "compose.tls.yaml"} {
		for name, s := range readComposition(t, file).Services {
			if s.Image == "" {
				continue // only what another file says differently
			}
			if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.CapAdd != nil || s.Privileged || s.User == "root" || s.User == "0" ||
				!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
				t.Errorf("%s: %s has privileges: %+v", file, name, s)
			}
			if strings.HasSuffix(s.Image, ":latest") || !strings.Contains(s.Image, ":") {
				t.Errorf("%s: the image of %s has no version: %s", file, name, s.Image)
			}
			for _, port := range s.Ports {
				if !strings.HasPrefix(port, "127.0.0.1:") {
					t.Errorf("%s: %s is reached from other machines: %s", file, name, port)
				}
			}
		}
	}
}

// TestCertificatesAreMade: who needs certificates waits for them, the key of the CA stays
// with those who sign, and the certificate names every node.
func TestCertificatesAreMade(t *testing.T) {
	t.Parallel()
	c := readComposition(t, "compose.tls.yaml")
	for name, s := range c.Services {
		signs := strings.HasPrefix(name, "cert-")
		for _, v := range s.Volumes {
			if strings.HasPrefix(v, "ca:") && !signs {
				t.Errorf("%s sees the key of the CA", name)
			}
			if volume, _, _ := strings.Cut(v, ":"); !strings.HasPrefix(v, ".") && !slices.Contains(slices.Collect(maps.Keys(c.Volumes)), volume) {
				t.Errorf("%s: there is no volume %s", name, volume)
			}
		}
		if signs && (!slices.Contains(s.Command, "--keep") || s.NetworkMode != "none") {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for name := range nodes(c) {
		if c.Services[name].DependsOn["cert-nodes"].Condition != "service_completed_successfully" {
			t.Errorf("%s does not wait for its certificate", name)
		}
		if !slices.Contains(c.Services["cert-nodes"].Command, name) {
			t.Errorf("the certificate does not name %s", name)
		}
	}
}

// TestMonitoringProfile: nothing of it starts by itself, and Prometheus reads every node in
// both ways.
func TestMonitoringProfile(t *testing.T) {
	t.Parallel()
	c := readComposition(t, "compose.yaml")
	for name, s := range c.Services {
		if monitors := nodes(c)[name] == ""; monitors != slices.Equal(s.Profiles, []string{"monitoring"}) {
			t.Errorf("%s has the profiles %v", name, s.Profiles)
		}
		for _, v := range s.Volumes {
			if from, _, _ := strings.Cut(v, ":"); strings.HasPrefix(from, "./") {
				if matches, err := filepath.Glob(filepath.Join(root, "deploy", from)); err != nil || len(matches) != 1 {
					t.Errorf("%s: there is no %s", name, from)
				}
			}
		}
	}
	for file, scheme := range map[string]string{"prometheus.yaml": "", "prometheus.tls.yaml": "https"} {
		var p struct {
			RuleFiles     []string `yaml:"rule_files"`
			ScrapeConfigs []struct {
				JobName       string `yaml:"job_name"`
				Scheme        string
				TLSConfig     map[string]string            `yaml:"tls_config"`
				StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
			} `yaml:"scrape_configs"`
		}
		decode(t, readText(t, "deploy", "monitoring", file), &p)
		var want []string
		for name := range nodes(c) {
			want = append(want, name+":7102")
		}
		slices.Sort(want)
		job := p.ScrapeConfigs[0]
		if job.Scheme != scheme || (scheme == "https") != (job.TLSConfig["ca_file"] == "/certs/ca.crt") || !slices.Equal(slices.Sorted(slices.Values(job.StaticConfigs[0].Targets)), want) {
			t.Errorf("%s: %+v", file, job)
		}
		for _, rules := range p.RuleFiles {
			if !slices.Contains(c.Services["prometheus"].Volumes, "./monitoring/"+rules+":/etc/prometheus/"+rules+":ro") {
				t.Errorf("%s: Prometheus is not given %s", file, rules)
			}
		}
	}
}

// TestComposeTakesTheFiles: docker-compose 1.29 and Compose v2 understand them, alone and
// together.
func TestComposeTakesTheFiles(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("docker-compose")
	if err != nil {
		t.Skip("there is no docker-compose here")
	}
	if testing.Short() {
		t.Skip("starts a program that takes its time")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-f", filepath.Join(root, "deploy", "compose.yaml"), "-f", filepath.Join(root, "deploy", "compose.tls.yaml"),
		"--profile", "monitoring", "config", "--services")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if n := len(strings.Fields(out.String())); n != 11 {
		t.Errorf("%d services: %s", n, out.String())
	}
}
