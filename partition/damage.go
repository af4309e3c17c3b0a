package partition

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/oncelog/oncelog/api/codec"
	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/datafile"
	"github.com/oncelog/oncelog/raftstore"
)

// All shards of a node share one log device. A node that finds any of it damaged ends
// before it votes or acknowledges with what is left, and writes down what it found. What
// the next start does depends on what that was.
//
// If bytes could not be read (a checksum is wrong), what can be read is what was
// written. So the whole log is read, and the shards that are whole are copied to a new
// one. The others are lost, each for itself: see lost.go.
//
// If something is missing that was there, nobody knows what else is. Then, and where
// the damage cannot be confined to shards, the node does not open the log: it tells the
// coordinator that this directory is lost for good, which is refused where no majority
// of a shard would be left, puts the log aside, and begins again as a node with a new
// directory. Its replicas are then made anew from their peers, each as a member that
// never voted.

const (
	damageVersion = 2
	damageMagic   = "olpdmge"
	// maxDamage bounds what is told of damage, in bytes; the contract does.
	maxDamage = 300
	// maxLost bounds the list of lost replicas, one for each shard.
	maxLost = 1 << 20
)

var damageFile = datafile.Format{
	File: "damaged", What: "note of damage", Magic: damageMagic, First: 1, Last: damageVersion,
}

// stage says what is to be done about damage. The numbers are written to disk.
type stage uint8

const (
	stageGiveUp  stage = 0 // the directory is given up
	stageSalvage stage = 1 // what is whole of the log is copied
	stageReplace stage = 2 // it was copied, and the copy takes the log's place
)

// damageNote is what a node remembers of damage over a restart.
type damageNote struct {
	damage string // what was found, for people; "": nothing that is still to be dealt with
	stage  stage
	lost   []LostReplica // ascending by shard, the last life of each
}

func (d damageNote) write(files datafile.Files) error {
	b := codec.AppendString(nil, d.damage)
	b = append(b, byte(d.stage))
	b = codec.AppendUvarint(b, uint64(len(d.lost)))
	for _, l := range d.lost {
		b = codec.AppendUint32(codec.AppendUvarint(b, l.Shard), l.Life)
		b = codec.AppendString(b, l.Damage)
	}
	return damageFile.Write(files, b)
}

// loadDamage returns what was written down; the zero value: nothing.
func loadDamage(files datafile.Files) (damageNote, error) {
	payload, version, ok, err := damageFile.Read(files)
	if err != nil || !ok {
		return damageNote{}, err
	}
	r := codec.NewReader(payload)
	d := damageNote{damage: r.String(maxDamage)}
	if version > 1 {
		d.stage = stage(r.Byte())
		for range r.Count(maxLost) {
			d.lost = append(d.lost, LostReplica{Shard: r.Uvarint(), Life: r.Uint32(), Damage: r.String(maxDamage)})
		}
	}
	err = r.Close()
	if err == nil && d.stage > stageReplace {
		err = fmt.Errorf("there is no stage %d", d.stage)
	}
	if err != nil {
		return damageNote{}, damageFile.Damaged(files, err)
	}
	return d, nil
}

// noting is held to change a note: damage is noted from wherever it is met.
var noting sync.Mutex

// damageText is what is told of damage, as long as it may be.
func damageText(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxDamage)], "")
}

// NoteDamage writes down that the node's log is not what was written, and why: the
// next start deals with it. Only for an error that wraps raftstore.ErrCorrupt.
func NoteDamage(files datafile.Files, why error) error {
	noting.Lock()
	defer noting.Unlock()
	old, err := loadDamage(files)
	next := damageNote{damage: damageText(why.Error()), stage: stageGiveUp, lost: old.lost}
	pending := old.damage != "" && old.stage == stageGiveUp
	if err == nil && !pending && errors.Is(why, raftstore.ErrUnreadable) {
		next.stage = stageSalvage
	}
	return next.write(files)
}

// repairDamaged deals with the damage that was noted. Every step may have been done
// before, for the note goes last.
func (n *Node) repairDamaged(ctx context.Context) error {
	note, err := loadDamage(n.cfg.Files)
	if errors.Is(err, datafile.ErrDamaged) {
		note, err = damageNote{damage: "the note of damage is damaged itself"}, nil
	}
	if err != nil {
		return err
	}
	if note.damage != "" && note.stage == stageSalvage {
		if note, err = n.salvage(note); err != nil {
			return err
		}
	}
	if note.damage != "" && note.stage == stageReplace {
		if err := n.cfg.ReplaceLog(); err != nil {
			return fmt.Errorf("partition: put the copy of the log in its place: %w", err)
		}
		note = damageNote{lost: note.lost}
		if err := note.write(n.cfg.Files); err != nil {
			return err
		}
	}
	if note.damage == "" {
		n.setLost(note.lost)
		return nil
	}
	return n.giveUpDamaged(ctx, note.damage)
}

// salvage copies what is whole of the log, and notes what is not.
func (n *Node) salvage(note damageNote) (damageNote, error) {
	if n.cfg.SalvageLog == nil || n.cfg.ReplaceLog == nil || n.clusterID() == "" {
		note.stage = stageGiveUp
		return note, nil
	}
	n.log.Error("the log is damaged: it is read as a whole, and what is whole of it is copied", "damage", note.damage)
	lost, err := n.cfg.SalvageLog()
	switch {
	case errors.Is(err, raftstore.ErrCorrupt):
		n.log.Error("the damage cannot be confined to shards", "error", err)
		note.stage = stageGiveUp
		return note, note.write(n.cfg.Files)
	case err != nil:
		return note, fmt.Errorf("partition: the log is damaged (%s), and what is whole of it cannot be copied: %w", note.damage, err)
	}
	note.stage, note.lost = stageReplace, addLost(note.lost, lost)
	n.log.Info("what is whole of the log is copied", "lost_shards", len(lost))
	return note, note.write(n.cfg.Files)
}

// giveUpDamaged makes a damaged directory a new one.
func (n *Node) giveUpDamaged(ctx context.Context, damage string) error {
	if n.cfg.DiscardLog == nil {
		return errors.New("partition: the log is damaged: " + damage)
	}
	if n.clusterID() != "" {
		n.log.Error("the log is damaged: the node gives its data directory up and has its replicas made anew", "damage", damage)
		err := n.untilDone(ctx, "the damaged directory cannot be given up yet", func(ctx context.Context) error { return n.giveUp(ctx, damage) })
		if err != nil {
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
	return damageNote{}.write(n.cfg.Files)
}

// untilDone repeats a call until it succeeds, or repeating cannot help. problem says
// what the matter is meanwhile.
func (n *Node) untilDone(ctx context.Context, problem string, call func(context.Context) error, args ...any) error {
	ctx, cancel := n.run.WithCancel(ctx)
	defer cancel()
	n.goWork(func() {
		n.run.Wait(n.ctx.Done(), ctx.Done())
		cancel()
	})
	for told := ""; ; {
		err := call(ctx)
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
			n.log.Warn(problem, slices.Concat(args, []any{"error", err})...)
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
