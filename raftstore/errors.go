package raftstore

import (
	"errors"
	"fmt"
)

var (
	// ErrOverloaded refuses a proposal because the group's proposal queue or
	// its uncommitted log is full, or because the disk is below its low-water
	// mark. The proposal surely has no effect; try again later.
	ErrOverloaded = errors.New("raftstore: overloaded")
	// ErrDiskLow is ErrOverloaded because the disk is below its low-water mark.
	ErrDiskLow = fmt.Errorf("%w: the disk is below its low-water mark", ErrOverloaded)
	// ErrUnknownResult ends a proposal that was handed to Raft when this node
	// lost leadership and did not see it applied within half an election
	// timeout, or stopped. It may or may not take effect.
	ErrUnknownResult = errors.New("raftstore: result of the proposal is unknown")
	// ErrProposalTooLarge refuses a proposal above Config.MaxProposalBytes.
	ErrProposalTooLarge = errors.New("raftstore: proposal too large")
	// ErrProposalEmpty refuses a proposal without data: empty entries belong
	// to Raft itself and are never applied.
	ErrProposalEmpty = errors.New("raftstore: empty proposal")
	// ErrStopped is the answer of a store that was closed or failed. A
	// proposal answered with it surely has no effect.
	ErrStopped = errors.New("raftstore: stopped")
	// ErrGroupNotFound names a group that does not exist on this node, or that
	// was removed.
	ErrGroupNotFound = errors.New("raftstore: group not found")
	// ErrGroupExists refuses to create a group a second time.
	ErrGroupExists = errors.New("raftstore: group already exists")
	// ErrOtherLife refuses to open a group as a member whose life is before that of
	// which this node has the data.
	ErrOtherLife = errors.New("raftstore: the group was joined again in a later life")
	// ErrCompacted answers a read of a log index that was compacted away.
	ErrCompacted = errors.New("raftstore: log entry compacted")
	// ErrBadSnapshot refuses a part of a snapshot that is damaged, or not what the
	// parts before it announced.
	ErrBadSnapshot = errors.New("raftstore: bad snapshot")
	// ErrNotApplied answers a read of a log index above the applied index.
	ErrNotApplied = errors.New("raftstore: log entry not applied yet")
	// ErrTransferFailed ends a leadership transfer that did not happen within
	// two election timeouts. The old leader goes on.
	ErrTransferFailed = errors.New("raftstore: leadership transfer did not happen in time")
	// ErrCorrupt is wrapped by every error that means the stored bytes are not
	// what was written. The node must not start from them: rejoin as a new
	// node instead.
	ErrCorrupt = errors.New("raftstore: stored data is corrupt")
	// ErrUnreadable is ErrCorrupt of bytes that cannot be read at all: a checksum is
	// wrong, or a file is cut or gone. What can be read is what was written, so the
	// damage may be confined to some groups. Without it, something is missing that
	// was there, and nobody knows what else is.
	ErrUnreadable = fmt.Errorf("%w: it cannot be read", ErrCorrupt)
	// ErrDiskStalled is handed to Config.OnFatal when one write took longer
	// than Config.StallTimeout. After it Close and CreateGroup return it, too.
	ErrDiskStalled = errors.New("raftstore: write stalled")
)

// NotLeaderError refuses a request that only the leader of a group can serve.
// A proposal answered with it surely has no effect.
type NotLeaderError struct {
	Group GroupID
	// Leader is the node that leads as far as this node knows; 0 is unknown.
	Leader NodeID
}

func (e *NotLeaderError) Error() string {
	if e.Leader == 0 {
		return fmt.Sprintf("raftstore: group %d has no known leader", e.Group)
	}
	return fmt.Sprintf("raftstore: group %d is led by node %d", e.Group, e.Leader)
}
