// Package node turns a configuration into a running server process: it opens
// the log device, wires Raft transport, coordinator or partition node and gRPC
// listeners together, and takes them down in the right order.
package node
