package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	natsclient "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// nats is a JetStream stream of three replicas on files that are synced before the
// answer (sync_interval: always), and asynchronous publishing with message ids, so
// that every append is deduplicated.
type nats struct {
	nodes  nodes
	conn   *natsclient.Conn
	stream jetstream.JetStream
	lanes  int // ever handed out: each has message ids of its own
}

const subject = "rivals.values"

func (n *nats) name() string { return "nats" }
func (n *nats) version() string {
	return "NATS JetStream " + natsserver.VERSION + ", R3, sync_interval: always, asynchronous publish with message ids"
}

func (n *nats) start(ctx context.Context, _, dir string) error {
	members, err := plan(dir)
	if err != nil {
		return err
	}
	if err := n.nodes.start(n.name(), members); err != nil {
		return err
	}
	var servers []string
	for _, m := range members {
		servers = append(servers, "nats://"+m.client)
	}
	for n.conn == nil {
		if n.conn, err = natsclient.Connect(strings.Join(servers, ",")); err != nil && !pause(ctx) {
			return err
		}
	}
	if n.stream, err = jetstream.New(n.conn, jetstream.WithPublishAsyncMaxPending(maxPending)); err != nil {
		return err
	}
	for {
		err := n.create(ctx)
		if err == nil || !pause(ctx) {
			return err
		}
	}
}

// maxPending is above every load's appends under way.
const maxPending = 4096

func (n *nats) create(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := n.stream.CreateOrUpdateStream(call, jetstream.StreamConfig{
		Name: "rivals", Subjects: []string{subject}, Replicas: 3, Storage: jetstream.FileStorage,
	})
	if err != nil {
		return err
	}
	_, err = n.stream.Publish(call, subject, []byte("first"))
	return err
}

// pause waits for a moment; false: there is no time left.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(200 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

func (n *nats) appenders(_ context.Context, count int) ([]func(context.Context, []byte) error, error) {
	out := make([]func(context.Context, []byte) error, count)
	for i := range out {
		n.lanes++
		lane, number := strconv.Itoa(n.lanes)+"/", 0
		out[i] = func(ctx context.Context, value []byte) error {
			number++
			answer, err := n.stream.PublishAsync(subject, value, jetstream.WithMsgID(lane+strconv.Itoa(number)))
			if err != nil {
				return err
			}
			select {
			case <-answer.Ok():
				return nil
			case err := <-answer.Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return out, nil
}

func (n *nats) stop() {
	if n.conn != nil {
		n.conn.Close()
	}
	n.nodes.stop()
}

// serveNATS is a server of NATS in this process; it returns when that fails.
func serveNATS(m member, peers []string) error {
	clientHost, clientPort, err := split(m.client)
	if err != nil {
		return err
	}
	peerHost, peerPort, err := split(m.peer)
	if err != nil {
		return err
	}
	o := &natsserver.Options{
		ServerName: m.name, Host: clientHost, Port: clientPort, NoSigs: true,
		JetStream: true, StoreDir: m.dir, SyncAlways: true,
		Cluster: natsserver.ClusterOpts{Name: "rivals", Host: peerHost, Port: peerPort},
	}
	for _, p := range peers {
		_, address, _ := strings.Cut(p, "=")
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: address})
	}
	s, err := natsserver.NewServer(o)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
	return errors.New("the server has shut down")
}

func split(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	if port, err = strconv.Atoi(text); err != nil {
		return "", 0, fmt.Errorf("port of %s: %w", address, err)
	}
	return host, port, nil
}
