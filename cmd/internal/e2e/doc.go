// Package e2e holds the end-to-end tests: the SDK against clusters of real
// processes, with nodes that are killed, stopped and paused, and a network that
// loses, repeats and delays.
//
// There is no separate program to build: the test binary starts itself once more
// for every node, so that the race detector, if it is on, watches the nodes, too.
//
// Tests that leave the cluster as it was share one and run in parallel, with
// topics, ids and groups of their own. Those that end processes have clusters of
// their own and run alone; -short leaves them out.
package e2e
