package group

import (
	"errors"
	"math"

	"github.com/oncelog/oncelog/api/codec"
)

// Errors of the decoders and of [Machine.Restore]; others come from package codec.
var (
	// ErrVersion reports bytes of a format version, or a command of a kind, that
	// this program does not know.
	ErrVersion = codec.ErrVersion
	// ErrCorrupt reports bytes that no encoder of this package writes.
	ErrCorrupt = errors.New("group: bytes are not what was written")
)

// commandVersion is the first byte of every encoded command, commitsVersion
// that of every encoded list of commits.
const (
	commandVersion = 1
	commitsVersion = 1
)

// The second byte of an encoded command. Never renumber.
const (
	kindAssignPartitions  = 1
	kindLeaveGroup        = 2
	kindCommitOffsets     = 3
	kindDeleteGroup       = 4
	kindDeleteOffsets     = 5
	kindResetOffsets      = 6
	kindRemovePartitions  = 7
	kindSubscribe         = 8
	kindReleasePartitions = 9
	kindExpireMembers     = 10
	kindTopicsChanged     = 11
)

// AppendCommand appends the encoded command to b. A nil command appends
// nothing. The result is longer than MaxCommandBytes only if the command's own
// strings and lists are; such a command must not be proposed.
func AppendCommand(b []byte, cmd Command) []byte {
	switch c := cmd.(type) {
	case AssignPartitions:
		b = codec.AppendString(appendHead(b, kindAssignPartitions, c.At), c.Group)
		b = codec.AppendString(b, c.Member)
		b = codec.AppendString(b, c.ClientID)
		b = codec.AppendString(b, c.Host)
		return appendIDs(b, c.Partitions)
	case LeaveGroup:
		b = codec.AppendString(appendHead(b, kindLeaveGroup, c.At), c.Group)
		return codec.AppendString(b, c.Member)
	case CommitOffsets:
		return appendCommit(appendHead(b, kindCommitOffsets, c.At), c.Commit)
	case DeleteGroup:
		return codec.AppendString(appendHead(b, kindDeleteGroup, c.At), c.Group)
	case DeleteOffsets:
		b = codec.AppendString(appendHead(b, kindDeleteOffsets, c.At), c.Group)
		return codec.AppendBool(appendIDs(b, c.Partitions), c.Force)
	case ResetOffsets:
		b = codec.AppendString(appendHead(b, kindResetOffsets, c.At), c.Group)
		return codec.AppendBool(appendEntries(b, c.Entries), c.Force)
	case RemovePartitions:
		return appendIDs(appendHead(b, kindRemovePartitions, c.At), c.Partitions)
	default:
		return appendMembership(b, cmd)
	}
}

func appendMembership(b []byte, cmd Command) []byte {
	switch c := cmd.(type) {
	case Subscribe:
		b = codec.AppendString(appendHead(b, kindSubscribe, c.At), c.Group)
		b = codec.AppendString(b, c.Member)
		b = codec.AppendString(b, c.Instance)
		b = codec.AppendString(b, c.ClientID)
		b = codec.AppendString(b, c.Host)
		b = appendTexts(b, c.Topics)
		b = codec.AppendVarint(b, c.SessionTimeout)
		b = codec.AppendVarint(b, c.RebalanceTimeout)
		return append(b, byte(c.Assignor))
	case ReleasePartitions:
		b = codec.AppendString(appendHead(b, kindReleasePartitions, c.At), c.Group)
		b = codec.AppendString(b, c.Member)
		return appendIDs(codec.AppendUvarint(b, c.Generation), c.Partitions)
	case ExpireMembers:
		b = codec.AppendUvarint(appendHead(b, kindExpireMembers, c.At), uint64(len(c.Members)))
		for _, lost := range c.Members {
			b = codec.AppendString(b, lost.Group)
			b = codec.AppendString(b, lost.Member)
			b = codec.AppendUvarint(b, lost.Joined)
		}
		return b
	case TopicsChanged:
		return appendTexts(appendHead(b, kindTopicsChanged, c.At), c.Topics)
	default:
		return b
	}
}

// DecodeCommand reads a command written by [AppendCommand]. The command does
// not refer to b.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) > MaxCommandBytes {
		return nil, codec.ErrTooLong
	}
	r := codec.NewReader(b)
	r.Version("group command", commandVersion, commandVersion)
	kind := r.Byte()
	cmd := readBody(r, kind, r.Varint())
	if err := r.Close(); err != nil {
		return nil, err
	}
	return cmd, nil
}

func readBody(r *codec.Reader, kind byte, at int64) Command {
	switch kind {
	case kindAssignPartitions:
		return AssignPartitions{
			At: at, Group: readText(r), Member: readText(r),
			ClientID: readText(r), Host: readText(r), Partitions: readIDs(r),
		}
	case kindLeaveGroup:
		return LeaveGroup{At: at, Group: readText(r), Member: readText(r)}
	case kindCommitOffsets:
		return CommitOffsets{At: at, Commit: readCommit(r)}
	case kindDeleteGroup:
		return DeleteGroup{At: at, Group: readText(r)}
	case kindDeleteOffsets:
		return DeleteOffsets{At: at, Group: readText(r), Partitions: readIDs(r), Force: r.Bool()}
	case kindResetOffsets:
		return ResetOffsets{At: at, Group: readText(r), Entries: readEntries(r), Force: r.Bool()}
	case kindRemovePartitions:
		return RemovePartitions{At: at, Partitions: readIDs(r)}
	case kindSubscribe:
		return Subscribe{
			At: at, Group: readText(r), Member: readText(r), Instance: readText(r), ClientID: readText(r), Host: readText(r),
			Topics: readTexts(r), SessionTimeout: r.Varint(), RebalanceTimeout: r.Varint(), Assignor: Assignor(r.Byte()),
		}
	case kindReleasePartitions:
		return ReleasePartitions{At: at, Group: readText(r), Member: readText(r), Generation: r.Uvarint(), Partitions: readIDs(r)}
	case kindExpireMembers:
		return ExpireMembers{At: at, Members: readLost(r)}
	case kindTopicsChanged:
		return TopicsChanged{At: at, Topics: readTexts(r)}
	default:
		r.UnknownKind("group command", commandVersion, kind)
		return nil
	}
}

// AppendCommits appends the encoded commits to b: the opaque payload of a
// transaction's end.
func AppendCommits(b []byte, commits []Commit) []byte {
	b = append(b, commitsVersion)
	b = codec.AppendUvarint(b, uint64(len(commits)))
	for _, c := range commits {
		b = appendCommit(b, c)
	}
	return b
}

// DecodeCommits reads commits written by [AppendCommits]. They do not refer to b.
func DecodeCommits(b []byte) ([]Commit, error) {
	if len(b) > MaxCommandBytes {
		return nil, codec.ErrTooLong
	}
	r := codec.NewReader(b)
	r.Version("group commits", commitsVersion, commitsVersion)
	var commits []Commit
	for range r.Count(math.MaxInt32) {
		if r.Err() != nil {
			break
		}
		commits = append(commits, readCommit(r))
	}
	if err := r.Close(); err != nil {
		return nil, err
	}
	return commits, nil
}

func appendHead(b []byte, kind byte, at int64) []byte {
	return codec.AppendVarint(append(b, commandVersion, kind), at)
}

func appendCommit(b []byte, c Commit) []byte {
	b = codec.AppendString(b, c.Group)
	b = codec.AppendString(b, c.Member)
	b = codec.AppendUvarint(b, c.Generation)
	return appendEntries(b, c.Entries)
}

func readCommit(r *codec.Reader) Commit {
	return Commit{Group: readText(r), Member: readText(r), Generation: r.Uvarint(), Entries: readEntries(r)}
}

func appendEntries(b []byte, entries []Entry) []byte {
	b = codec.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		e := &entries[i]
		b = codec.AppendUvarint(b, e.Partition)
		b = codec.AppendUvarint(b, e.Offset)
		b = codec.AppendBool(b, e.HasExpected)
		b = codec.AppendUvarint(b, e.Expected)
		b = codec.AppendString(b, e.Metadata)
	}
	return b
}

func readEntries(r *codec.Reader) []Entry {
	var entries []Entry
	for range r.Count(math.MaxInt32) {
		if r.Err() != nil {
			return nil
		}
		entries = append(entries, Entry{
			Partition: r.Uvarint(), Offset: r.Uvarint(),
			HasExpected: r.Bool(), Expected: r.Uvarint(), Metadata: readText(r),
		})
	}
	return entries
}

func appendIDs(b []byte, ids []uint64) []byte {
	b = codec.AppendUvarint(b, uint64(len(ids)))
	for _, id := range ids {
		b = codec.AppendUvarint(b, id)
	}
	return b
}

func readIDs(r *codec.Reader) []uint64 {
	n := r.Count(math.MaxInt32)
	if n == 0 {
		return nil
	}
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = r.Uvarint()
	}
	return ids
}

func readLost(r *codec.Reader) []LostMember {
	var lost []LostMember
	for range r.Count(math.MaxInt32) {
		if r.Err() != nil {
			return nil
		}
		lost = append(lost, LostMember{Group: readText(r), Member: readText(r), Joined: r.Uvarint()})
	}
	return lost
}

func appendTexts(b []byte, texts []string) []byte {
	b = codec.AppendUvarint(b, uint64(len(texts)))
	for _, s := range texts {
		b = codec.AppendString(b, s)
	}
	return b
}

func readTexts(r *codec.Reader) []string {
	var texts []string
	for range r.Count(math.MaxInt32) {
		if r.Err() != nil {
			return nil
		}
		texts = append(texts, readText(r))
	}
	return texts
}

// readText bounds a string by the input alone, which the caller bounds: what
// is too long for a group must reach Apply, for an entry of the log that cannot
// be decoded would stop every replica.
func readText(r *codec.Reader) string { return r.String(math.MaxInt32) }
