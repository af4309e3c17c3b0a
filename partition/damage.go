package partition

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/oncelog/oncelog/api/codec"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/datafile"
)

// All shards of a node share one log device. A node that finds any of it damaged ends
// before it votes or acknowledges with what is left, and writes down what it found. The
// next start does not open the log: it tells the coordinator that this directory is
// lost for good, which is refused where no majority of a shard would be left, puts the
// log aside, and begins again as a node with a new directory. Its replicas are then
// made anew from their peers, each as a member that never voted.

const (
	damageVersion = 1
	damageMagic   = "olpdmge"
	// maxDamage bounds what is told of damage, in bytes; the contract does.
	maxDamage = 300
)

var damageFile = datafile.Format{
	File: "damaged", What: "note of damage", Magic: damageMagic, First: damageVersion, Last: damageVersion,
}

// NoteDamage writes down that the node's log is not what was written, and why: the
// next start gives the directory up. Only for an error that wraps
// raftstore.ErrCorrupt.
func NoteDamage(files datafile.Files, why error) error {
	text := why.Error()
	return damageFile.Write(files, codec.AppendString(nil, strings.ToValidUTF8(text[:min(len(text), maxDamage)], "")))
}

// loadDamage returns what was written down; "": nothing.
func loadDamage(files datafile.Files) (string, error) {
	payload, _, ok, err := damageFile.Read(files)
	if err != nil || !ok {
		return "", err
	}
	r := codec.NewReader(payload)
	text := r.String(maxDamage)
	if err := r.Close(); err != nil {
		return "", damageFile.Damaged(files, err)
	}
	return text, nil
}

// giveUpDamaged makes a damaged directory a new one. Every step may have been done
// before, for the note goes last.
func (n *Node) giveUpDamaged(ctx context.Context) error {
	damage, err := loadDamage(n.cfg.Files)
	if errors.Is(err, datafile.ErrDamaged) {
		damage, err = "the note of damage is damaged itself", nil
	}
	if err != nil || damage == "" {
		return err
	}
	if n.cfg.DiscardLog == nil {
		return errors.New("partition: the log is damaged: " + damage)
	}
	if n.clusterID() != "" {
		n.log.Error("the log is damaged: the node gives its data directory up and has its replicas made anew", "damage", damage)
		if err := n.giveUpUntilDone(ctx, damage); err != nil {
			return fmt.Errorf("partition: the log is damaged (%s), and cannot be given up: %w", damage, err)
		}
	}
	if err := n.cfg.DiscardLog(); err != nil {
		return fmt.Errorf("partition: put the damaged log aside: %w", err)
	}
	empty := &oncelogv1.HeartbeatResponse{}
	if err := saveAssignment(n.cfg.Files, empty); err != nil {
		return err
	}
	id := identity{node: n.cfg.NodeID, instance: rand.Text()}
	if err := id.write(n.cfg.Files); err != nil {
		return err
	}
	n.mu.Lock()
	n.id, n.assignment = id, empty
	n.mu.Unlock()
	return damageFile.Write(n.cfg.Files, codec.AppendString(nil, ""))
}

// giveUpUntilDone repeats it until it is done, or repeating cannot help.
func (n *Node) giveUpUntilDone(ctx context.Context, damage string) error {
	ctx, cancel := n.run.WithCancel(ctx)
	defer cancel()
	n.goWork(func() {
		n.run.Wait(n.ctx.Done(), ctx.Done())
		cancel()
	})
	for told := ""; ; {
		err := n.giveUp(ctx, damage)
		switch code := apierrors.CodeOf(err); {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case code != oncelogv1.ErrorCode_ERROR_CODE_SHARD_WOULD_BE_LOST && apierrors.ClassOf(err) == apierrors.Fatal:
			return err
		}
		if text := err.Error(); text != told {
			told = text
			n.log.Warn("the damaged directory cannot be given up yet", "error", err)
		}
		n.run.Sleep(n.cfg.RetryDelay, ctx.Done())
	}
}

func (n *Node) giveUp(ctx context.Context, damage string) error {
	ctx, cancel := n.run.WithTimeout(ctx, n.cfg.CallTimeout)
	defer cancel()
	n.mu.RLock()
	id := n.id
	n.mu.RUnlock()
	_, err := n.cfg.Coordinator.GiveUpDisk(ctx, &oncelogv1.GiveUpDiskRequest{
		NodeId: id.node, InstanceId: id.instance, ClusterId: id.cluster, Damage: damage,
	})
	return err
}
