// Package sinktest holds implementations of sink.Store to what the interface says, and
// has one in memory.
package sinktest
