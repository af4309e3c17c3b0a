package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	etcdversion "go.etcd.io/etcd/api/v3/version"
)

// etcd is puts of new keys by one client, to three members with default settings.
type etcd struct {
	nodes  nodes
	client *clientv3.Client
	lanes  int // ever handed out: each writes keys of its own
}

func (e *etcd) name() string    { return "etcd" }
func (e *etcd) version() string { return "etcd " + etcdversion.Version + ", put of a new key" }

func (e *etcd) start(ctx context.Context, _, dir string) error {
	members, err := plan(dir)
	if err != nil {
		return err
	}
	if err := e.nodes.start(e.name(), members); err != nil {
		return err
	}
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, m.client)
	}
	if e.client, err = clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()}); err != nil {
		return err
	}
	_, err = e.client.Put(ctx, "first", "value")
	return err
}

func (e *etcd) appenders(_ context.Context, n int) ([]func(context.Context, []byte) error, error) {
	out := make([]func(context.Context, []byte) error, n)
	for i := range out {
		e.lanes++
		lane, number := e.lanes, 0
		out[i] = func(ctx context.Context, value []byte) error {
			number++
			_, err := e.client.Put(ctx, fmt.Sprintf("%d/%d", lane, number), string(value))
			return err
		}
	}
	return out, nil
}

func (e *etcd) stop() {
	if e.client != nil {
		_ = e.client.Close()
	}
	e.nodes.stop()
}

// serveEtcd is a member of etcd in this process; it returns when that fails.
func serveEtcd(m member, peers []string) error {
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.LogLevel = m.name, m.dir, "warn"
	// Room for what minutes of appends bring: the default would end the run.
	cfg.QuotaBackendBytes = 16 << 30
	client, peer := url.URL{Scheme: "http", Host: m.client}, url.URL{Scheme: "http", Host: m.peer}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	cfg.InitialCluster = strings.ReplaceAll(strings.Join(peers, ","), "=", "=http://")
	s, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	return <-s.Err()
}
