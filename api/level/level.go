// Package level numbers what the members of a cluster may write to each other.
//
// A level stands for a set of format versions; FORMATS.md lists them. The members
// of a cluster write by the cluster's level, which is replicated state and only
// goes up: once every coordinator and every partition node has said that it reads
// the next one. So programs of two neighbouring levels can run side by side, and
// until the last one is new everybody can go back. It is what etcd's cluster
// version and Kafka's metadata.version are.
package level

import "strconv"

const (
	// First is the level of a cluster that was never raised, and of whoever names none.
	// It stands for what the first release reads.
	First = 1
	// Newest is the highest level that this program reads and writes.
	Newest = 3
)

// Of returns the level in a message or a snapshot, where 0 stands for [First]:
// whoever left it out knows nothing of levels.
func Of(told uint32) uint32 { return max(told, First) }

// Cap returns the level up to which a node takes part whose settings allow at most
// limit; 0: no limit.
func Cap(limit uint32) uint32 {
	if limit == 0 {
		return Newest
	}
	return min(limit, Newest)
}

// TooOld is what a program that reads up to readable is told by a cluster of a
// higher level.
func TooOld(readable, cluster uint32) string {
	return "the cluster writes formats of level " + number(cluster) + ", and this program reads up to level " + number(readable) +
		": start the node with the program that the other nodes run, and without max_format_level; its data stay as they are"
}

func number(v uint32) string { return strconv.FormatUint(uint64(v), 10) }
