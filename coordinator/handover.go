package coordinator

import (
	"fmt"
	"slices"

	"github.com/oncelog/oncelog/coordinator/group"
)

// ownedPart is a partition as a group reads it.
type ownedPart struct {
	group     string
	partition uint64
}

// owners returns who owns what, of all members that are given their partitions.
func (o *Offline) owners() map[ownedPart]string {
	out := map[ownedPart]string{}
	list, _ := o.r.groups.List("", group.MaxGroups)
	for _, g := range list {
		for _, m := range o.r.groups.Members(g.ID) {
			if !m.Subscribed {
				break // nor does any other
			}
			for _, p := range m.Partitions {
				out[ownedPart{g.ID, p}] = m.ID
			}
		}
	}
	return out
}

// handedOver reports a partition that one entry took from a member which is one
// still and had not let go, and gave to another.
func (o *Offline) handedOver(entry []byte, before map[ownedPart]string) error {
	var release group.ReleasePartitions
	if len(entry) > 0 && entry[0] == entryGroup {
		if cmd, err := group.DecodeCommand(entry[1:]); err == nil {
			release, _ = cmd.(group.ReleasePartitions)
		}
	}
	for part, now := range o.owners() {
		was, owned := before[part]
		if !owned || was == now {
			continue
		}
		letGo := release.Group == part.group && release.Member == was && slices.Contains(release.Partitions, part.partition)
		if _, still := o.r.groups.Member(part.group, was); still && !letGo {
			return fmt.Errorf("partition %d of group %q was given to %q before %q had let go", part.partition, part.group, now, was)
		}
	}
	return nil
}
