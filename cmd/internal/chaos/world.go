package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oncelog/oncelog/cmd/internal/chaos/diskfault"
	"github.com/oncelog/oncelog/cmd/internal/chaos/netfault"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// world is a cluster with everything around it that can fail.
type world struct {
	cfg     *Config
	dir     string
	cluster *cluster.Cluster
	net     *netfault.Network
	procs   *netfault.Processes
	disks   map[*cluster.Node]*diskfault.Disk
	servers []string // the doors of the coordinators, for clients

	mu       sync.Mutex
	rules    map[int]netfault.Rules // of the faults that last
	lastRule int
	busy     map[*cluster.Node]bool // some fault has its hands on it
	nodes    map[string]*cluster.Node
}

// startLimit bounds the start of a cluster and of a node.
const startLimit = 30 * time.Second

// startAnyWorld starts a cluster, again if another program has taken one of its
// addresses, which are chosen before they are used.
func startAnyWorld(ctx context.Context, cfg *Config, dir string, withDisks bool) (w *world, err error) {
	for attempt := range 3 {
		folder := filepath.Join(dir, fmt.Sprintf("cluster-%d", attempt+1))
		if err := os.Mkdir(folder, 0o755); err != nil {
			return nil, err
		}
		if w, err = startWorld(ctx, cfg, folder, withDisks); err == nil || !strings.Contains(err.Error(), addressTaken) {
			break
		}
	}
	return w, err
}

// addressTaken is what a node says that cannot have its address.
const addressTaken = "address already in use"

// startWorld starts a cluster, with disks if withDisks says so.
func startWorld(ctx context.Context, cfg *Config, dir string, withDisks bool) (_ *world, err error) {
	w := &world{
		cfg: cfg, dir: dir, procs: netfault.NewProcesses(), disks: make(map[*cluster.Node]*diskfault.Disk),
		rules: make(map[int]netfault.Rules), busy: make(map[*cluster.Node]bool),
		nodes: make(map[string]*cluster.Node),
	}
	w.net = netfault.New(w.identify)
	w.procs.Enter(os.Getpid(), auditor)
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	w.cluster, err = cluster.Start(ctx, cluster.Config{
		Binary: cfg.Binary, Dir: dir, Env: append([]string{"ONCELOG_MIN_FREE_BYTES=64MiB"}, cfg.Env...),
		Wire:    func(nodes []*cluster.Node) (map[*cluster.Node][]string, error) { return w.wire(nodes, withDisks) },
		Started: func(n *cluster.Node, pid int) { w.procs.Enter(pid, n.String()) },
	})
	if err != nil {
		return nil, fmt.Errorf("start the cluster: %w", err)
	}
	return w, nil
}

// auditor is this process, in the network.
const auditor = "auditor"

// identify names who has opened a connection to whom. A process that was only
// just started may not be known for a moment.
func (w *world) identify(c net.Conn, to string) string {
	if w.isDown(to) {
		return "" // whoever asks is refused soon, and asks again and again
	}
	for range 100 {
		name, err := w.procs.Name(c)
		if !errors.Is(err, netfault.ErrUnknown) {
			return name
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ""
}

// isDown reports whether a node does not run.
func (w *world) isDown(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.nodes[name]
	return n != nil && !n.Running()
}

// wire gives every node doors, by which alone others know it, and a disk.
func (w *world) wire(nodes []*cluster.Node, withDisks bool) (map[*cluster.Node][]string, error) {
	env := make(map[*cluster.Node][]string)
	var members, peers []string
	for _, n := range nodes {
		w.mu.Lock()
		w.nodes[n.String()] = n
		w.mu.Unlock()
		client, err := w.net.Door(n.String(), n.Client)
		if err != nil {
			return nil, err
		}
		peer, err := w.net.Door(n.String(), n.Peer)
		if err != nil {
			return nil, err
		}
		if n.Role == cluster.Coordinator {
			members = append(members, fmt.Sprintf("%d=%s/%s", n.ID, client, peer))
			peers = append(peers, peer)
			w.servers = append(w.servers, client)
		} else {
			env[n] = append(env[n], "ONCELOG_ADVERTISE_CLIENT="+client, "ONCELOG_ADVERTISE_PEER="+peer)
		}
		if !withDisks {
			continue
		}
		mountpoint, err := w.mount(n)
		if err != nil {
			return nil, err
		}
		env[n] = append(env[n], "ONCELOG_DATA_DIR="+filepath.Join(mountpoint, "data"))
	}
	for _, n := range nodes {
		if n.Role == cluster.Coordinator {
			env[n] = append(env[n], "ONCELOG_MEMBERS="+strings.Join(members, ","))
		} else {
			env[n] = append(env[n], "ONCELOG_COORDINATORS="+strings.Join(peers, ","))
		}
	}
	return env, nil
}

func (w *world) mountpoint(n *cluster.Node) string {
	return filepath.Join(w.dir, fmt.Sprintf("%s-%d.disk", n.Role, n.ID), "mnt")
}

// mount gives a node a disk and returns where that is.
func (w *world) mount(n *cluster.Node) (string, error) {
	mountpoint := w.mountpoint(n)
	cmd := w.cfg.command(w.cfg.DiskCommand, "--dir", filepath.Dir(mountpoint), "--mount", mountpoint)
	cmd.SysProcAttr = diskAttributes()
	d, err := diskfault.Start(cmd)
	if err != nil {
		return "", err
	}
	w.disks[n] = d
	return mountpoint, nil
}

// command returns a command of this program.
func (c *Config) command(words []string, args ...string) *exec.Cmd {
	cmd := exec.Command(c.Binary, append(slices.Clone(words), args...)...)
	cmd.Env, cmd.Stderr = append(os.Environ(), c.Env...), os.Stderr
	return cmd
}

// close ends everything that the world has started.
func (w *world) close() error {
	if w.cluster != nil {
		w.cluster.Kill()
	}
	errs := []error{w.net.Close()}
	for _, d := range w.disks {
		errs = append(errs, d.Close())
	}
	return errors.Join(errs...)
}

// bend adds a rule of the network and returns what takes it away.
func (w *world) bend(rules netfault.Rules) (straighten func()) {
	w.mu.Lock()
	w.lastRule++
	id := w.lastRule
	w.rules[id] = rules
	w.apply()
	w.mu.Unlock()
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.rules, id)
		w.apply()
	}
}

// apply makes the network follow the rules. w.mu is held.
func (w *world) apply() { w.net.Set(w.sum) }

// sum is what all rules together say.
func (w *world) sum(from, to string) netfault.Rule {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sum netfault.Rule
	for _, rules := range w.rules {
		r := rules(from, to)
		sum.Cut = sum.Cut || r.Cut
		sum.Delay, sum.Jitter = max(sum.Delay, r.Delay), max(sum.Jitter, r.Jitter)
	}
	return sum
}

// take reserves nodes for a fault; those that another fault has are left out.
func (w *world) take(nodes ...*cluster.Node) (taken []*cluster.Node, give func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range nodes {
		if !w.busy[n] {
			w.busy[n] = true
			taken = append(taken, n)
		}
	}
	return taken, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, n := range taken {
			w.busy[n] = false
		}
	}
}

// fallen returns the nodes that ended by themselves and had no reason to.
func (w *world) fallen() []*cluster.Node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.cluster.Nodes()), func(n *cluster.Node) bool {
		return w.busy[n] || !n.Running() || n.Exited() == nil
	})
}

// raise starts a node that does not run, or has ended.
func (w *world) raise(n *cluster.Node) error {
	if n.Running() {
		_ = n.Kill() // an error: it has ended
	}
	return n.Start()
}

// of returns the nodes of a role.
func (w *world) of(role cluster.Role) []*cluster.Node {
	return slices.DeleteFunc(slices.Clone(w.cluster.Nodes()), func(n *cluster.Node) bool { return n.Role != role })
}

// leaderLimit bounds the question who leads.
const leaderLimit = 3 * time.Second

// leader returns a node that leads something of a role; any node of the role if
// nobody does.
func (w *world) leader(ctx context.Context, rng *rand.Rand, role cluster.Role) *cluster.Node {
	ctx, cancel := context.WithTimeout(ctx, leaderLimit)
	defer cancel()
	var n *cluster.Node
	var err error
	if role == cluster.Coordinator {
		n, err = w.cluster.CoordinatorLeader(ctx)
	} else {
		n, err = w.cluster.ShardLeader(ctx, w.someShard(ctx, rng))
	}
	if err != nil {
		all := w.of(role)
		return all[rng.IntN(len(all))]
	}
	return n
}

// someShard returns the number of a shard that some node has.
func (w *world) someShard(ctx context.Context, rng *rand.Rand) uint64 {
	for _, n := range w.of(cluster.Partition) {
		if !n.Running() {
			continue
		}
		if st, err := n.Status(ctx); err == nil && len(st.GetGroups()) > 0 {
			return st.GetGroups()[rng.IntN(len(st.GetGroups()))].GetGroupId()
		}
	}
	return 1
}
