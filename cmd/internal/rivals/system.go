package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// system is a cluster of three nodes that appends.
type system interface {
	name() string
	// version names what was measured.
	version() string
	// start starts the nodes with their data below dir and returns when an append
	// has succeeded.
	start(ctx context.Context, binary, dir string) error
	// appenders returns n functions that append one value each and return when it is
	// durable on a majority. Each is called by one goroutine; all share one client.
	appenders(ctx context.Context, n int) ([]func(ctx context.Context, value []byte) error, error)
	stop()
}

const startLimit = time.Minute

func systems() []system { return []system{&oncelog{}, &etcd{}, &nats{}} }

func systemNames() []string {
	var names []string
	for _, s := range systems() {
		names = append(names, s.name())
	}
	return names
}

// chosen returns the systems of a list of names; the first one is what the others
// are compared with.
func chosen(list string) ([]system, error) {
	var out []system
	for name := range strings.SplitSeq(list, ",") {
		i := slices.Index(systemNames(), name)
		if i < 0 {
			return nil, fmt.Errorf("no system %q: there are %s", name, strings.Join(systemNames(), ", "))
		}
		out = append(out, systems()[i])
	}
	return out, nil
}

func start(ctx context.Context, s system, binary, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	folder := filepath.Join(dir, s.name())
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	if err := s.start(ctx, binary, folder); err != nil {
		return fmt.Errorf("start %s: %w", s.name(), err)
	}
	return nil
}

// The nodes of other systems are this program under another command.

const nodeCommand = "node"

// member is one node of a rival: its name, folder, and two addresses.
type member struct{ name, dir, client, peer string }

// plan returns three members.
func plan(dir string) ([]member, error) {
	ports, err := freePorts(6)
	if err != nil {
		return nil, err
	}
	var members []member
	for i := range 3 {
		name := fmt.Sprintf("node%d", i+1)
		members = append(members, member{name, filepath.Join(dir, name), ports[2*i], ports[2*i+1]})
	}
	return members, nil
}

// freePorts returns addresses on loopback that nobody listens on.
func freePorts(n int) (out []string, err error) {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			err = errors.Join(err, l.Close())
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// nodes are processes of this program.
type nodes struct{ running []*exec.Cmd }

// start starts all members of a kind of node.
func (n *nodes) start(kind string, members []member) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var peers []string
	for _, m := range members {
		peers = append(peers, m.name+"="+m.peer)
	}
	for _, m := range members {
		if err := os.Mkdir(m.dir, 0o755); err != nil {
			return err
		}
		out, err := os.Create(m.dir + ".log")
		if err != nil {
			return err
		}
		cmd := exec.Command(self, nodeCommand, kind, m.name, m.dir, m.client, m.peer, strings.Join(peers, ","))
		cmd.Stdout, cmd.Stderr = out, out
		err = cmd.Start()
		_ = out.Close() // the process has its own
		if err != nil {
			return err
		}
		n.running = append(n.running, cmd)
	}
	return nil
}

// stop ends the processes; what they wrote is not wanted any more.
func (n *nodes) stop() {
	for _, cmd := range n.running {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	n.running = nil
}

// runNode is what the process of a node does: it serves until it is killed.
func runNode(args []string) error {
	if len(args) != 6 {
		return fmt.Errorf("a node takes kind, name, folder, two addresses and its peers")
	}
	m := member{name: args[1], dir: args[2], client: args[3], peer: args[4]}
	peers := strings.Split(args[5], ",")
	switch args[0] {
	case "etcd":
		return serveEtcd(m, peers)
	case "nats":
		return serveNATS(m, peers)
	default:
		return fmt.Errorf("no kind of node %q", args[0])
	}
}
