package scale

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/cluster"
)

// What is written to the large log: as many partitions as a small topic has, records
// that no codec makes smaller.
const (
	logPartitions = 6
	recordBytes   = 16 << 10
	// logBuffer bounds what is under way, or little would be told of the progress.
	logBuffer = 16 << 20
)

// measureLog writes a large log, kills one of three nodes, has it come back, and then
// once more without its disk.
func measureLog(ctx context.Context, cfg *Config) (*LogResult, error) {
	c, stop, err := cfg.startCluster(ctx)
	if err != nil {
		return nil, err
	}
	defer stop()
	cl, err := client.Dial(ctx, c.Servers(), client.WithClientID("scale"))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	admin := cl.Admin()
	if _, err := admin.CreateTopic(ctx, &oncelogv1.CreateTopicRequest{Name: topicName, Partitions: logPartitions, ReplicationFactor: 3}); err != nil {
		return nil, err
	}
	r := &LogResult{LogBytes: cfg.LogBytes}
	begin := time.Now()
	if err := writeLog(ctx, cfg, cl); err != nil {
		return nil, err
	}
	r.Write = time.Since(begin).Seconds()
	cfg.tell("%d MiB written in %.1f s", cfg.LogBytes>>20, r.Write)

	node := c.Node(cluster.Partition, 1)
	if r.DiskBytes, err = diskUsage(node.DataDir()); err != nil {
		return nil, err
	}
	if err := node.Kill(); err != nil {
		return nil, err
	}
	begin = time.Now()
	if err := node.Start(); err != nil {
		return nil, err
	}
	if err := node.AwaitServing(ctx); err != nil {
		return nil, err
	}
	r.Serving = time.Since(begin).Seconds()
	if err := awaitGroups(ctx, c, node); err != nil {
		return nil, err
	}
	r.Recovered = time.Since(begin).Seconds()
	cfg.tell("killed, it serves %.2f s after its start and has caught up after %.2f s", r.Serving, r.Recovered)

	if err := node.Kill(); err != nil {
		return nil, err
	}
	if err := node.ReplaceDisk(); err != nil {
		return nil, err
	}
	err = until(ctx, func() (bool, error) {
		err := admin.ReplaceDisk(ctx, node.ID)
		if apierrors.CodeOf(err) == oncelogv1.ErrorCode_ERROR_CODE_NODE_ALIVE {
			return false, nil // the coordinator has heard of it a moment ago
		}
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	begin = time.Now()
	if err := node.Start(); err != nil {
		return nil, err
	}
	if err := awaitReplicas(ctx, admin, c, node); err != nil {
		return nil, err
	}
	r.Wiped = time.Since(begin).Seconds()
	cfg.tell("wiped, it has everything %.1f s after its start", r.Wiped)
	return r, nil
}

// writeLog writes records of cfg.LogBytes over all partitions.
func writeLog(ctx context.Context, cfg *Config, cl *client.Client) error {
	p, err := cl.IdempotentProducer(ctx, client.WithBufferMemory(logBuffer), client.WithCompression(client.CompressionNone))
	if err != nil {
		return err
	}
	value := make([]byte, recordBytes)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	told := time.Now()
	for sent, n := int64(0), 0; sent < cfg.LogBytes; n++ {
		r := &client.Record{Topic: topicName, Value: value}
		if err := p.Send(ctx, r.WithPartition(int32(n%logPartitions))); err != nil {
			return err
		}
		sent += recordBytes
		if time.Since(told) > tellEvery {
			told = time.Now()
			cfg.tell("log: %d of %d MiB", sent>>20, cfg.LogBytes>>20)
		}
	}
	return p.Flush(ctx)
}

// awaitReplicas returns when a node has its copies of all shards again, and votes.
func awaitReplicas(ctx context.Context, a *client.Admin, c *cluster.Cluster, node *cluster.Node) error {
	err := until(ctx, func() (bool, error) {
		if dead := node.Exited(); dead != nil {
			return false, fmt.Errorf("%s ended: %w\n%s", node, dead, node.LogTail())
		}
		d, err := a.DescribeCluster(ctx)
		if err != nil {
			return false, err
		}
		for _, s := range d.GetShards() {
			if s.GetMove() != nil || len(s.GetLost()) > 0 || len(s.GetReplicas()) < 3 {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return awaitGroups(ctx, c, node)
}

// diskUsage returns the bytes of all files below a folder. Files may go meanwhile.
func diskUsage(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				total += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return total, err
}
