// Package backup keeps backups of clusters in directories: it takes them, checks
// them, and makes the data directories of new clusters from them.
//
// # Format
//
// A backup has a file for the coordinators, one for each shard, and MANIFEST, which
// is written last and names the size and SHA-256 of each. A file of parts is
//
//	offset  bytes  content
//	     0      7  magic: olbackp
//	     7      1  version
//	     8      4  length of a piece, most significant byte first
//	    12      4  CRC-32C of the piece
//	    16         the piece; the next one follows
//
// The pieces of the coordinators' file are those of the format coordinator-snapshot,
// one after the other. Those of a shard's are, each by itself, in the format
// raft-snapshot: the manifest, then chunks. MANIFEST is framed as package datafile
// says.
package backup
