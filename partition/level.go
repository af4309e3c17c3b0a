package partition

import (
	"fmt"

	"github.com/oncelog/oncelog/api/level"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
)

// checkLevel refuses to go on in a cluster that writes what this program does not
// read. The level is kept on disk, with the assignment: an older program that is
// started there says so before it opens the log.
func (n *Node) checkLevel(a *oncelogv1.HeartbeatResponse) error {
	if cluster := level.Of(a.GetFormatLevel()); cluster > n.cfg.MaxFormatLevel {
		return fmt.Errorf("partition node %d: %s", n.cfg.NodeID, level.TooOld(n.cfg.MaxFormatLevel, cluster))
	}
	return nil
}

// FormatLevel is the level of formats that the node writes: the cluster's, as far as
// it knows.
func (n *Node) FormatLevel() uint32 {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return level.Of(n.assignment.GetFormatLevel())
}
