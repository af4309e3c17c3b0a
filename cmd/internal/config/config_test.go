package config_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/oncelog/oncelog/cmd/internal/config"
)

const member = "1=10.0.0.1:7100/10.0.0.1:7101"

// load loads a coordinator from a file's text, variables and arguments.
func load(t *testing.T, file string, environ, args []string) (*config.Coordinator, error) {
	t.Helper()
	c := config.DefaultCoordinator()
	return c, loadInto(t, c, file, environ, args)
}

// loadInto lets a node that is given no certificate serve in plain text.
func loadInto(t *testing.T, s config.Section, file string, environ, args []string) error {
	t.Helper()
	path := ""
	if file != "" {
		path = writeFile(t, file)
	}
	given := strings.ToLower(file + strings.Join(slices.Concat(environ, args), " "))
	_, dev := s.(*config.Dev)
	if !dev && !strings.Contains(given, "tls") {
		environ = append(slices.Clone(environ), "ONCELOG_INSECURE=true")
	}
	return config.Load(s, config.Sources{File: path, Environ: environ, Flags: flags(t, s, args)})
}

func flags(t *testing.T, s config.Section, args []string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	config.AddFlags(fs, s)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "oncelog.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	const file = "coordinator:\n  node_id: 1\n  members: [" + member + "]\n  tick_interval: 30ms\n"
	for _, c := range []struct {
		name    string
		file    string
		environ []string
		args    []string
		want    time.Duration
	}{
		{"default", "coordinator:\n  node_id: 1\n  members: [" + member + "]\n", nil, nil, 50 * time.Millisecond},
		{"file over default", file, nil, nil, 30 * time.Millisecond},
		{"environment over file", file, []string{"ONCELOG_TICK_INTERVAL=40ms"}, nil, 40 * time.Millisecond},
		{"flag over environment", file, []string{"ONCELOG_TICK_INTERVAL=40ms"}, []string{"--tick-interval", "60ms"}, 60 * time.Millisecond},
		{"flag over file", file, nil, []string{"--tick-interval=60ms"}, 60 * time.Millisecond},
		{
			"a flag that equals the default is a flag", file, []string{"ONCELOG_TICK_INTERVAL=40ms"},
			[]string{"--tick-interval=50ms"}, 50 * time.Millisecond,
		},
		{"no file at all", "", []string{"ONCELOG_NODE_ID=1", "ONCELOG_MEMBERS=" + member}, nil, 50 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := load(t, c.file, c.environ, c.args)
			if err != nil {
				t.Fatal(err)
			}
			if got.Raft.TickInterval != c.want || got.NodeID != 1 || len(got.Members) != 1 {
				t.Errorf("got %+v, want a tick of %v", got, c.want)
			}
		})
	}
}

// TestEveryKeyFromEverySource sets every key of every section in each of the
// three places, so that no key is bound to the wrong field.
func TestEveryKeyFromEverySource(t *testing.T) {
	t.Parallel()
	given := map[string]string{
		"node_id": "7", "data_dir": "/d", "client_listen": "10.0.0.7:1", "peer_listen": "10.0.0.7:2",
		"members": "7=10.0.0.7:1/10.0.0.7:2,8=10.0.0.8:1/10.0.0.8:2", "tick_interval": "20ms", "election_ticks": "50", "heartbeat_ticks": "3",
		"min_free_bytes": "3MiB", "transaction_timeout_default": "2m", "transaction_timeout_max": "3m",
		"transactional_id_expiration": "48h", "shards_per_node": "4", "log_level": "debug", "log_format": "json",
		"advertise_client": "10.0.0.8:1", "advertise_peer": "10.0.0.8:2", "coordinators": "10.0.0.9:2",
		"enlist_delay": "30ms", "enlist_interval": "5s", "retention_check_interval": "2s", "replicas": "3", "host": "10.0.0.7", "base_port": "9000",
		"servers": "10.0.0.9:1", "timeout": "9s", "output": "json", "tls_cert": "/c", "tls_key": "/k", "tls_ca": "/a",
		"tls_client_ca": "/ca", "tls_client_auth": "none", "insecure": "true", "join": "true", "metrics_listen": "10.0.0.7:3", "metrics_tls": "server",
		"tracing_endpoint": "https://10.0.0.9:4317",
		"max_format_level": "1",
		"authorization":    "acl", "super_users": "ann,bob", "token_keys": "/j", "token_issuer": "us", "token_audience": "oncelog",
		"authorization_max_staleness": "1m", "max_connections": "20", "max_connections_per_address": "11", "token_file": "/t",
		"max_connections_per_principal": "12", "max_calls": "200", "max_calls_per_principal": "150", "max_inflight_bytes": "99MiB",
		"receive_timeout": "11s", "send_timeout": "12s", "max_transactional_ids_per_principal": "5", "max_inits_per_second": "6",
		"max_inits_per_second_per_id": "7", "max_partitions_created_per_minute": "8",
	}
	for i, name := range []string{"coordinator", "partition", "dev", "client"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []string
			var file strings.Builder
			file.WriteString(name + ":\n")
			var environ, args []string
			for _, k := range config.Keys(config.Sections()[i]) {
				text := given[k.Name]
				if k.Name == "insecure" && name != "dev" {
					continue // not with certificates: TestTLS
				}
				if text == "" || text == k.Value() {
					t.Fatalf("%s: give the test a value that is not the default %q", k.Name, k.Value())
				}
				want = append(want, k.Name+"="+text)
				file.WriteString("  " + k.Name + ": \"" + text + "\"\n")
				environ = append(environ, k.Env()+"="+text)
				args = append(args, "--"+k.Flag()+"="+text)
			}
			for source, load := range map[string]func(config.Section) error{
				"file":        func(s config.Section) error { return loadInto(t, s, file.String(), nil, nil) },
				"environment": func(s config.Section) error { return loadInto(t, s, "", environ, nil) },
				"flags":       func(s config.Section) error { return loadInto(t, s, "", nil, args) },
			} {
				s := config.Sections()[i]
				if err := load(s); err != nil {
					t.Errorf("%s: %v", source, err)
					continue
				}
				var got []string
				for _, k := range config.Keys(s) {
					if k.Name == "insecure" && name != "dev" {
						continue
					}
					got = append(got, k.Name+"="+k.Value())
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s:\n got %v\nwant %v", source, got, want)
				}
			}
		})
	}
}

func TestWrongSettingsSaySo(t *testing.T) {
	t.Parallel()
	ok := "  node_id: 1\n  members: [" + member + "]\n"
	for _, c := range []struct {
		name    string
		file    string
		environ []string
		args    []string
		want    []string // all of these in one message
	}{
		{
			"unknown key", "coordinator:\n" + ok + "  node_idd: 2\n", nil, nil,
			[]string{"oncelog.yaml:4:", `unknown key "coordinator.node_idd"`, `did you mean "coordinator.node_id"?`},
		},
		{"unknown section", "cordinator:\n" + ok, nil, nil, []string{"oncelog.yaml:1:", `unknown section "cordinator"`, `"coordinator"`}},
		{
			"a key of another section", "coordinator:\n" + ok + "client:\n  serverz: x\n", nil, nil,
			[]string{"oncelog.yaml:5:", `unknown key "client.serverz"`, `"client.servers"`},
		},
		{"key twice", "coordinator:\n" + ok + "  node_id: 2\n", nil, nil, []string{"node_id is given twice, first in line 2"}},
		{"no mapping", "coordinator: 1\n", nil, nil, []string{"coordinator must be a mapping"}},
		{"no YAML", "coordinator: [\n", nil, nil, []string{"is no YAML"}},
		{"two documents", "coordinator:\n" + ok + "---\nclient:\n", nil, nil, []string{"second document"}},
		{
			"unknown variable", "coordinator:\n" + ok, []string{"ONCELOG_DATADIR=/x"}, nil,
			[]string{`unknown variable "ONCELOG_DATADIR"`, `did you mean "ONCELOG_DATA_DIR"?`},
		},
		{
			"value in the file", "coordinator:\n" + ok + "  election_ticks: 3\n", nil, nil,
			[]string{"oncelog.yaml:4: election_ticks is \"3\": it must be a whole number from 5 to 1000"},
		},
		{
			"value in a variable", "coordinator:\n" + ok, []string{"ONCELOG_TICK_INTERVAL=50"}, nil,
			[]string{`ONCELOG_TICK_INTERVAL: tick_interval is "50": it has no unit: write 50ms`},
		},
		{
			"a word that is neither", "coordinator:\n" + ok + "  join: perhaps\n", nil, nil,
			[]string{`join is "perhaps": it must be one of true, false`},
		},
		{"nobody to join", "coordinator:\n" + ok, nil, []string{"--join"}, []string{"members has this node only, which is to join a cluster"}},
		{
			"value in a flag", "coordinator:\n" + ok, nil, []string{"--client-listen=7100"},
			[]string{`--client-listen: client_listen is "7100": it must be host:port`},
		},
		{
			"all at once", "coordinator:\n" + ok + "  log_level: loud\n  min_free_bytes: much\n", nil, []string{"--data-dir="},
			[]string{"log_level is \"loud\": it must be one of debug, info, warn, error", "min_free_bytes is \"much\"", "data_dir is \"\": it must not be empty"},
		},
		{
			"missing", "coordinator:\n", nil, nil,
			[]string{"node_id is missing: give --node-id, ONCELOG_NODE_ID", "members is missing: give --member, ONCELOG_MEMBERS"},
		},
		{"member without addresses", "", []string{"ONCELOG_NODE_ID=1", "ONCELOG_MEMBERS=1"}, nil, []string{`members is "1"`, "ID=CLIENT_ADDRESS/PEER_ADDRESS"}},
		{
			"member that nobody can reach", "", []string{"ONCELOG_NODE_ID=1"}, []string{"--member", "1=0.0.0.0:1/h:2"},
			[]string{`the address "0.0.0.0:1"`, "must name a host that others can reach"},
		},
		{
			"not a member", "coordinator:\n  node_id: 2\n  members: [" + member + "]\n", nil, nil,
			[]string{"node_id is 2, which is not among the members"},
		},
		{
			"member twice", "coordinator:\n  node_id: 1\n  members: [" + member + ", 1=h:1/h:2]\n", nil, nil,
			[]string{"members has the node id 1 twice"},
		},
		{
			"field of a member", "coordinator:\n  node_id: 1\n  members:\n    - {id: 1, client: h:1, peer_address: h:2}\n", nil, nil,
			[]string{`unknown field of members "client"`},
		},
		{
			"election and heartbeat", "coordinator:\n" + ok, nil, []string{"--heartbeat-ticks=3"},
			[]string{"election_ticks is 10, less than five times heartbeat_ticks (3)", "raise it to 15"},
		},
		{
			"timeouts", "coordinator:\n" + ok, nil, []string{"--transaction-timeout-max=30s"},
			[]string{"transaction_timeout_default is 1m, longer than transaction_timeout_max (30s)"},
		},
		{"one port for both", "coordinator:\n" + ok, nil, []string{"--peer-listen=127.0.0.1:7100"}, []string{"peer_listen is \"127.0.0.1:7100\", as client_listen is"}},
		{"a collector without a scheme", "coordinator:\n" + ok, nil, []string{"--tracing-endpoint=127.0.0.1:4317"}, []string{"tracing_endpoint", "must be http://host:port or https://host:port"}},
		{"a collector with a path", "coordinator:\n" + ok, nil, []string{"--tracing-endpoint=http://c:4318/v1/traces"}, []string{"must be http://host:port or https://host:port"}},
		{"one port for metrics", "coordinator:\n" + ok, nil, []string{"--metrics-listen=127.0.0.1:7101"}, []string{"metrics_listen is \"127.0.0.1:7101\", on which calls are served"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, c.file, c.environ, c.args)
			var wrong *config.Error
			if !errors.As(err, &wrong) {
				t.Fatalf("got %v, want an *Error", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got:\n%v\nwant in it: %s", err, want)
				}
			}
		})
	}
}

func TestMembersInEveryForm(t *testing.T) {
	t.Parallel()
	want := []config.Member{
		{ID: 1, ClientAddress: "a:1", PeerAddress: "a:2"},
		{ID: 2, ClientAddress: "[::1]:1", PeerAddress: "[::1]:2"},
		{ID: 3, ClientAddress: "c:1", PeerAddress: "c:2"},
	}
	id := []string{"ONCELOG_NODE_ID=1"}
	for name, c := range map[string]struct {
		file    string
		environ []string
		args    []string
	}{
		"mappings": {file: `
coordinator:
  members:
    - {id: 1, client_address: "a:1", peer_address: "a:2"}
    - id: 2
      client_address: "[::1]:1"
      peer_address: "[::1]:2"
    - {id: 3, client_address: "c:1", peer_address: "c:2"}
`, environ: id},
		"texts":           {file: "coordinator:\n  members: [1=a:1/a:2, \"2=[::1]:1/[::1]:2\", 3=c:1/c:2]\n", environ: id},
		"variable":        {environ: append(id, "ONCELOG_MEMBERS=1=a:1/a:2, 2=[::1]:1/[::1]:2,3=c:1/c:2")},
		"repeated flags":  {environ: id, args: []string{"--member=1=a:1/a:2", "--member=2=[::1]:1/[::1]:2", "--member=3=c:1/c:2"}},
		"flag with comma": {environ: id, args: []string{"--member=1=a:1/a:2,2=[::1]:1/[::1]:2", "--member=3=c:1/c:2"}},
	} {
		got, err := load(t, c.file, c.environ, c.args)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(got.Members, want) {
			t.Errorf("%s: %v", name, got.Members)
		}
	}
}

// TestForeignVariablesAreLeftAlone: another section's, Kubernetes', everybody
// else's.
func TestForeignVariablesAreLeftAlone(t *testing.T) {
	t.Parallel()
	_, err := load(t, "", []string{
		"ONCELOG_NODE_ID=1", "ONCELOG_MEMBERS=" + member, "PATH=/bin", "ONCELOG_SERVERS=a:1", "ONCELOG_BASE_PORT=9000",
		"ONCELOG_SERVICE_HOST=10.0.0.1", "ONCELOG_SERVICE_PORT=7100", "ONCELOG_SERVICE_PORT_CLIENT=7100", "ONCELOG_PORT=tcp://10.0.0.1:7100",
		"ONCELOG_PORT_7100_TCP=tcp://10.0.0.1:7100", "ONCELOG_PORT_7100_TCP_PROTO=tcp", "ONCELOG_COORDINATOR_PORT_7100_TCP_ADDR=10.0.0.1",
		"ONCELOG_COORDINATOR_SERVICE_HOST=10.0.0.1",
	}, nil)
	if err != nil {
		t.Error(err)
	}
}

func TestFileFromTheEnvironment(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "client:\n  servers: [a:1, b:2]\n")
	c := config.DefaultClient()
	if err := config.Load(c, config.Sources{Environ: []string{"ONCELOG_CONFIG=" + path}}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(c.Servers, " ") != "a:1 b:2" {
		t.Errorf("servers %v", c.Servers)
	}
	err := config.Load(config.DefaultClient(), config.Sources{File: filepath.Join(t.TempDir(), "none.yaml")})
	if err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a file that does not exist: %v", err)
	}
}

// TestDefaultsFileIsValid: what print-defaults prints can be used as it is, and
// says the same as the defaults.
func TestDefaultsFileIsValid(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	if err := config.WriteDefaults(&text, config.Sections()); err != nil {
		t.Fatal(err)
	}
	sections, notes, err := config.CheckFile(writeFile(t, text.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(sections) != 4 || len(notes) != 4 {
		t.Errorf("sections %v, notes %v", sections, notes)
	}
	c := config.DefaultCoordinator()
	want := config.DefaultCoordinator()
	want.TLS.Insecure = true
	want.NodeID, want.Members = 1, []config.Member{{ID: 1, ClientAddress: "10.0.0.1:7100", PeerAddress: "10.0.0.1:7101"}}
	if err := loadInto(t, c, text.String(), []string{"ONCELOG_NODE_ID=1", "ONCELOG_MEMBERS=" + member, "ONCELOG_INSECURE=true"}, nil); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got %+v\nwant %+v", c, want)
	}
	for line := range strings.Lines(text.String()) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") && len(line) > 80 {
			t.Errorf("long line: %s", line)
		}
	}
}

func TestPartitionAdvertises(t *testing.T) {
	t.Parallel()
	environ := []string{"ONCELOG_NODE_ID=1", "ONCELOG_COORDINATORS=a:1,b:1"}
	p := config.DefaultPartition()
	if err := loadInto(t, p, "", environ, nil); err != nil {
		t.Fatal(err)
	}
	if p.ClientAddress() != "127.0.0.1:7200" || p.PeerAddress() != "127.0.0.1:7201" {
		t.Errorf("addresses %s %s", p.ClientAddress(), p.PeerAddress())
	}
	err := loadInto(t, config.DefaultPartition(), "", environ, []string{"--client-listen=:7200", "--peer-listen=[::]:7201"})
	for _, want := range []string{"advertise_client is missing: client_listen is \":7200\"", "advertise_peer is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	p = config.DefaultPartition()
	err = loadInto(t, p, "", environ, []string{"--client-listen=:7200", "--advertise-client=h:1", "--advertise-peer=h:2"})
	if err != nil || p.ClientAddress() != "h:1" || p.PeerAddress() != "h:2" {
		t.Errorf("%v, addresses %s %s", err, p.ClientAddress(), p.PeerAddress())
	}
}

// TestDevClusterIsValid: the nodes of a development cluster pass the checks of
// real ones.
func TestDevClusterIsValid(t *testing.T) {
	t.Parallel()
	for _, replicas := range []string{"1", "3", "7"} {
		d := config.DefaultDev()
		if err := loadInto(t, d, "", nil, []string{"--replicas", replicas}); err != nil {
			t.Fatal(err)
		}
		coordinators, partitions := d.Cluster()
		used := map[string]bool{}
		for _, c := range coordinators {
			for _, a := range []string{c.ClientListen, c.PeerListen, c.DataDir} {
				if used[a] {
					t.Errorf("%s is used twice", a)
				}
				used[a] = true
			}
			args := []string{"--node-id", "1"}
			for _, m := range c.Members {
				args = append(args, "--member", m.String())
			}
			if err := loadInto(t, config.DefaultCoordinator(), "", nil, args); err != nil {
				t.Error(err)
			}
		}
		for _, p := range partitions {
			for _, a := range []string{p.ClientListen, p.PeerListen, p.DataDir} {
				if used[a] {
					t.Errorf("%s is used twice", a)
				}
				used[a] = true
			}
			if len(p.Coordinators) != len(coordinators) || p.Coordinators[0] != coordinators[0].PeerListen {
				t.Errorf("coordinators of a partition node: %v", p.Coordinators)
			}
		}
	}
	if err := loadInto(t, config.DefaultDev(), "", nil, []string{"--base-port=65000", "--host=0.0.0.0"}); err == nil {
		t.Error("all interfaces were accepted as an address to reach")
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	c := config.DefaultCoordinator()
	c.Members, c.TLS.Insecure = make([]config.Member, 3), true
	if w := config.Warnings(c); len(w) != 0 {
		t.Errorf("defaults warn: %v", w)
	}
	c.Members = make([]config.Member, 2)
	c.PeerListen = "10.0.0.1:7101"
	w := strings.Join(config.Warnings(c), "\n")
	if !strings.Contains(w, "2 coordinator nodes") || !strings.Contains(w, "peer_listen is 10.0.0.1:7101, which is not loopback") {
		t.Errorf("warnings: %s", w)
	}
	c.TLS = config.TLS{Cert: "c", Key: "k", CA: "a", ClientAuth: config.ClientAuthNone}
	c.Access.Authorization = config.AuthorizationNone
	if w := config.Warnings(c); len(w) != 2 || !strings.Contains(w[1], "tls_client_auth is none") {
		t.Errorf("with certificates: %q", w)
	}
	c.Access.Authorization = config.AuthorizationACL
	if w := config.Warnings(c); len(w) != 1 {
		t.Errorf("with permissions: %q", w)
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	environ := []string{"ONCELOG_NODE_ID=1", "ONCELOG_COORDINATORS=a:1"}
	for name, tt := range map[string]struct {
		args []string
		want []string // in the error; none: no error
	}{
		"nothing":              {[]string{"--tls-client-auth=require"}, []string{"tls_cert is missing", "--insecure"}},
		"everything":           {[]string{"--tls-cert=c", "--tls-key=k", "--tls-ca=a"}, nil},
		"plain text":           {[]string{"--insecure"}, nil},
		"both":                 {[]string{"--insecure", "--tls-cert=c", "--tls-key=k", "--tls-ca=a"}, []string{"insecure is true, and there are certificates"}},
		"a part":               {[]string{"--tls-cert=c"}, []string{"tls_ca is missing", "tls_key is missing"}},
		"a CA of clients only": {[]string{"--tls-client-ca=c"}, []string{"tls_ca is missing", "tls_cert is missing", "tls_key is missing"}},
		"no such word":         {[]string{"--insecure=perhaps"}, []string{"must be one of true, false"}},
		"permissions":          {[]string{"--tls-cert=c", "--tls-key=k", "--tls-ca=a", "--authorization=acl", "--super-users=ann"}, nil},
		"permissions in plain text": {
			[]string{"--insecure", "--authorization=acl", "--super-users=ann", "--token-keys=j", "--token-issuer=i", "--token-audience=a"},
			[]string{"authorization is acl, and the node is insecure", "token_keys is of no use"},
		},
		"permissions of nobody":  {[]string{"--tls-cert=c", "--tls-key=k", "--tls-ca=a", "--authorization=acl"}, []string{"super_users is empty"}},
		"everybody a super user": {[]string{"--insecure", "--super-users=ann,*"}, []string{"cannot be super users"}},
		"half of tokens":         {[]string{"--tls-cert=c", "--tls-key=k", "--tls-ca=a", "--token-keys=j"}, []string{"token_issuer is missing", "token_audience is missing"}},
		"metrics in plain text on a network": {
			[]string{"--tls-cert=c", "--tls-key=k", "--tls-ca=a", "--metrics-listen=10.0.0.1:7102", "--metrics-tls=off"},
			[]string{"metrics_tls is off", `"10.0.0.1:7102", which is not loopback`},
		},
		"metrics in plain text on loopback": {[]string{"--tls-cert=c", "--tls-key=k", "--tls-ca=a", "--metrics-listen=[::1]:7102", "--metrics-tls=off"}, nil},
		"metrics as clients":                {[]string{"--tls-cert=c", "--tls-key=k", "--tls-ca=a", "--metrics-listen=10.0.0.1:7102"}, nil},
		"metrics in plain text, insecure":   {[]string{"--insecure", "--metrics-listen=10.0.0.1:7102", "--metrics-tls=off"}, nil},
		"metrics over TLS, insecure":        {[]string{"--insecure", "--metrics-listen=10.0.0.1:7102", "--metrics-tls=mutual"}, []string{"metrics_tls is mutual, and the node has no certificate"}},
		"no such rule":                      {[]string{"--insecure", "--tls-client-auth=maybe"}, []string{"require", "none"}},
	} {
		p := config.DefaultPartition()
		err := config.Load(p, config.Sources{Environ: environ, Flags: flags(t, p, tt.args)})
		if err == nil && len(tt.want) > 0 || err != nil && len(tt.want) == 0 {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		for _, want := range tt.want {
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"CA only":             {[]string{"--tls-ca=a"}, ""},
		"all":                 {[]string{"--tls-ca=a", "--tls-cert=c", "--tls-key=k"}, ""},
		"a key alone":         {[]string{"--tls-ca=a", "--tls-key=k"}, "tls_cert is missing"},
		"a token":             {[]string{"--tls-ca=a", "--token-file=t"}, ""},
		"a token alone":       {[]string{"--token-file=t"}, "token_file needs tls_ca"},
		"a certificate alone": {[]string{"--tls-cert=c", "--tls-key=k"}, "tls_ca is missing"},
	} {
		c := config.DefaultClient()
		if err := loadInto(t, c, "", nil, tt.args); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("client, %s: %v, want %q", name, err, tt.want)
		}
	}
	for host, ok := range map[string]bool{"127.0.0.1": true, "10.0.0.7": false} {
		if err := loadInto(t, config.DefaultDev(), "", nil, []string{"--host", host}); (err == nil) != ok {
			t.Errorf("dev on %s: %v", host, err)
		}
	}
}

// TestFlagsNameTheirValues: help shows the kind of a value, and not a command that its
// documentation happens to quote.
func TestFlagsNameTheirValues(t *testing.T) {
	t.Parallel()
	for _, s := range config.Sections() {
		flags(t, s, nil).VisitAll(func(f *pflag.Flag) {
			if name, _ := pflag.UnquoteUsage(f); name != f.Value.Type() && f.Value.Type() != "bool" && f.Value.Type() != "string" {
				t.Errorf("%s: --%s is shown with %q", s.Name(), f.Name, name)
			}
			if strings.Contains(f.Usage, "`") {
				t.Errorf("%s: --%s: %s", s.Name(), f.Name, f.Usage)
			}
		})
	}
}

func TestLogger(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	config.Log{Level: slog.LevelWarn, Format: config.FormatJSON}.Logger(&out).Info("hidden")
	config.Log{Level: slog.LevelInfo, Format: config.FormatJSON}.Logger(&out).Info("shown")
	config.Log{Format: config.FormatText}.Logger(&out).Info("text")
	if got := out.String(); strings.Contains(got, "hidden") || !strings.Contains(got, `"msg":"shown"`) || !strings.Contains(got, "msg=text") {
		t.Errorf("got %s", got)
	}
}

// FuzzFile: no file makes the loader panic or accept what is out of bounds.
func FuzzFile(f *testing.F) {
	f.Add("coordinator:\n  node_id: 1\n  members: [" + member + "]\n")
	f.Add("coordinator: &a\n  node_id: 1\nclient: *a\n")
	f.Add("{coordinator: {members: [{id: 1}, [2]]}}")
	f.Add("? [a]\n: b\n")
	f.Fuzz(func(t *testing.T, text string) {
		path := writeFile(t, text)
		_, _, _ = config.CheckFile(path, nil)
		c := config.DefaultCoordinator()
		if config.Load(c, config.Sources{File: path}) == nil && (c.NodeID == 0 || len(c.Members) == 0 || c.Raft.ElectionTicks < 5) {
			t.Errorf("accepted %+v", c)
		}
	})
}
