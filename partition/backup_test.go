package partition

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/partition/pstate"
	"github.com/oncelog/oncelog/raftstore"
)

// openBackup has a node keep the shard, and returns what it says of that.
func (c *cluster) openBackup(n *testNode, id string) (*oncelogv1.OpenedBackup, error) {
	c.t.Helper()
	res, err := n.peer.OpenBackup(c.ctx(), &oncelogv1.OpenBackupRequest{BackupId: id, ShardIds: []uint64{testShard}})
	if err != nil {
		return nil, err
	}
	return res.GetShards()[0], nil
}

// readBackup reads a part of a backup.
func (c *cluster) readBackup(n *testNode, id string, index uint64) (Contents, error) {
	c.t.Helper()
	stream, err := n.backup.ReadShardBackup(c.ctx(), &oncelogv1.ReadShardBackupRequest{BackupId: id, ShardId: testShard})
	if err != nil {
		return Contents{}, err
	}
	r := raftstore.BackupReader{Index: index}
	for {
		res, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Contents{}, err
		}
		if err := r.Add(res.GetData()); err != nil {
			return Contents{}, err
		}
	}
	checkpoint, err := r.Close()
	if err != nil {
		return Contents{}, err
	}
	return OpenCheckpoint(checkpoint)
}

// A leader keeps what there is when it is asked, for one reader.
func TestALeaderKeepsAShardForABackup(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	leader := c.leader()
	c.append(leader, pstate.TxnRef{ProducerID: 9}, pA, 0, "a", "b")
	opened, err := c.openBackup(leader, "one")
	if err != nil || opened.GetError() != nil {
		t.Fatal(err, opened)
	}
	c.append(leader, pstate.TxnRef{ProducerID: 9}, pA, 2, "c")
	got, err := c.readBackup(leader, "one", opened.GetIndex())
	if err != nil || len(got.Partitions) != 3 || got.Partitions[0].Applied != 2 || got.Producers != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.readBackup(leader, "one", opened.GetIndex()); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD {
		t.Errorf("read twice: %v", err)
	}
	for _, n := range c.nodes {
		if n == leader {
			continue
		}
		if opened, err := c.openBackup(n, "one"); err != nil || opened.GetError().GetCode() != oncelogv1.ErrorCode_ERROR_CODE_NOT_LEADER {
			t.Errorf("a follower: %v, %v", opened, err)
		}
	}
	for _, id := range []string{"", strings.Repeat("x", 65)} {
		if _, err := c.openBackup(leader, id); err == nil {
			t.Errorf("an id of %d bytes is taken", len(id))
		}
	}
}

// Nothing is kept for ever, nor without bound.
func TestABackupThatNobodyReadsIsLetGo(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, c *cluster) {
		leader := c.leader()
		c.append(leader, pstate.TxnRef{ProducerID: 9}, pA, 0, "a")
		var index uint64
		for i := range maxBackups {
			opened, err := c.openBackup(leader, fmt.Sprint(i))
			if err != nil || opened.GetError() != nil {
				t.Fatal(err, opened)
			}
			index = opened.GetIndex()
		}
		if _, err := c.openBackup(leader, "another"); code(err) != oncelogv1.ErrorCode_ERROR_CODE_OVERLOADED {
			t.Errorf("one too many: %v", err)
		}
		if _, err := leader.peer.OpenBackup(c.ctx(), &oncelogv1.OpenBackupRequest{BackupId: "0", Abandon: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.readBackup(leader, "0", index); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD {
			t.Errorf("abandoned: %v", err)
		}
		if opened, err := c.openBackup(leader, "another"); err != nil || opened.GetError() != nil {
			t.Errorf("%v, %v", opened, err)
		}
		pass(backupLease - time.Second)
		if _, err := c.readBackup(leader, "1", index); err != nil {
			t.Errorf("in time: %v", err)
		}
		pass(2 * time.Second)
		if _, err := c.readBackup(leader, "2", index); code(err) != oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD {
			t.Errorf("too late: %v", err)
		}
	})
}
