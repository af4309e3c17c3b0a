// Package scale measures what grows with what a cluster holds: how long a
// coordinator with many transactional ids takes to be back and how long nobody can
// commit when its leader is killed, what an idle id, producer and partition take of a
// node's memory, what all of them do to the time of a commit, and how long a
// partition node with a large log takes to be back, with its disk and without.
//
// Everything is measured on real processes on loopback. What is compared, a large
// cluster and a small one, takes turns on the same machine, so that what else goes
// on there meets both.
package scale
