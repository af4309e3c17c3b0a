package main

import (
	"context"
	"path/filepath"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// oncelog is one partition with three replicas, behind three coordinators, and one
// idempotent producer without linger. Its replies count, so every append is
// deduplicated as well.
type oncelog struct {
	cluster  *cluster.Cluster
	client   *client.Client
	producer *client.IdempotentProducer
}

const topic = "rivals"

func (o *oncelog) name() string { return "oncelog" }
func (o *oncelog) version() string {
	return "this commit, idempotent producer, 1 partition of 3 replicas"
}

func (o *oncelog) start(ctx context.Context, binary, dir string) (err error) {
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	if o.cluster, err = cluster.Start(ctx, cluster.Config{Binary: binary, Dir: dir}); err != nil {
		return err
	}
	if o.client, err = client.Dial(ctx, o.cluster.Servers()); err != nil {
		return err
	}
	if _, err := o.client.Admin().CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: topic, Partitions: 1}); err != nil {
		return err
	}
	if o.producer, err = o.client.IdempotentProducer(context.WithoutCancel(ctx), client.WithLinger(0), client.WithCompression(client.CompressionNone)); err != nil {
		return err
	}
	return o.append(ctx, []byte("first"))
}

func (o *oncelog) append(ctx context.Context, value []byte) error {
	if err := o.producer.Send(ctx, &client.Record{Topic: topic, Value: value}); err != nil {
		return err
	}
	return o.producer.Flush(ctx)
}

func (o *oncelog) appenders(_ context.Context, n int) ([]func(context.Context, []byte) error, error) {
	out := make([]func(context.Context, []byte) error, n)
	for i := range out {
		out[i] = o.append
	}
	return out, nil
}

func (o *oncelog) stop() {
	if o.client != nil {
		_ = o.client.Close()
	}
	if o.cluster != nil {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		o.cluster.Stop(ctx)
	}
}
