package membership

import (
	"errors"

	"github.com/oncelog/oncelog/api/codec"
)

// ErrCorrupt reports bytes that no encoder of this package writes.
var ErrCorrupt = errors.New("membership: bytes are not what was written")

// commandVersion is the first byte of every encoded command, snapshotVersion that
// of every snapshot. Version 1 of those, the oldest that is read, has no level: it
// is written for as long as that is the first, for then there may be members that
// read no other.
const (
	commandVersion        = 1
	snapshotVersion       = 2
	oldestSnapshotVersion = 1
)

// The second byte of an encoded command. Never renumber.
const (
	kindFound    = 1
	kindAdd      = 2
	kindAnnounce = 3
	kindSettle   = 4
	kindRemove   = 5
	kindKeep     = 6
	kindForget   = 7
	kindRaise    = 8 // from level 2 on
)

// AppendCommand appends the encoded command to b. A nil command appends nothing.
func AppendCommand(b []byte, cmd Command) []byte {
	switch c := cmd.(type) {
	case Found:
		b = codec.AppendUvarint(append(b, commandVersion, kindFound), uint64(len(c.Members)))
		for _, m := range c.Members {
			b = codec.AppendUvarint(b, m.ID)
			b = codec.AppendString(codec.AppendString(b, m.ClientAddress), m.PeerAddress)
		}
		return b
	case Add:
		b = appendHead(b, kindAdd, c.ID)
		b = codec.AppendString(codec.AppendString(b, c.ClientAddress), c.PeerAddress)
		return codec.AppendUvarint(b, c.Replaces)
	case Announce:
		b = codec.AppendString(appendHead(b, kindAnnounce, c.ID), c.Instance)
		b = codec.AppendString(codec.AppendString(b, c.ClientAddress), c.PeerAddress)
		return codec.AppendBool(b, c.Joining)
	case Settle:
		return appendHead(b, kindSettle, c.ID)
	case Remove:
		return appendHead(b, kindRemove, c.ID)
	case Keep:
		return appendHead(b, kindKeep, c.ID)
	case Forget:
		return appendHead(b, kindForget, c.ID)
	case Raise:
		return appendHead(b, kindRaise, uint64(c.Level))
	default:
		return b
	}
}

// appendHead writes what all commands but Found begin with; id is the level in Raise.
func appendHead(b []byte, kind byte, id uint64) []byte {
	return codec.AppendUvarint(append(b, commandVersion, kind), id)
}

// DecodeCommand reads a command written by [AppendCommand]. What is too long for
// the state is left for [Membership.Apply] to refuse.
func DecodeCommand(b []byte) (Command, error) {
	if len(b) > MaxCommandBytes {
		return nil, codec.ErrTooLong
	}
	r := codec.NewReader(b)
	r.Version("membership command", commandVersion, commandVersion)
	kind := r.Byte()
	cmd := readBody(r, kind)
	if err := r.Close(); err != nil {
		return nil, err
	}
	return cmd, nil
}

func readBody(r *codec.Reader, kind byte) Command {
	if kind == kindFound {
		var c Found
		for range r.Count(MaxCommandBytes) {
			m := Member{ID: r.Uvarint()}
			m.ClientAddress, m.PeerAddress = r.String(MaxCommandBytes), r.String(MaxCommandBytes)
			c.Members = append(c.Members, m)
		}
		return c
	}
	id := r.Uvarint()
	switch kind {
	case kindAdd:
		c := Add{ID: id}
		c.ClientAddress, c.PeerAddress = r.String(MaxCommandBytes), r.String(MaxCommandBytes)
		c.Replaces = r.Uvarint()
		return c
	case kindAnnounce:
		c := Announce{ID: id, Instance: r.String(MaxCommandBytes)}
		c.ClientAddress, c.PeerAddress = r.String(MaxCommandBytes), r.String(MaxCommandBytes)
		c.Joining = r.Bool()
		return c
	case kindSettle:
		return Settle{id}
	case kindRemove:
		return Remove{id}
	case kindKeep:
		return Keep{id}
	case kindForget:
		return Forget{id}
	case kindRaise:
		return Raise{uint32(min(id, MaxLevel+1))}
	default:
		r.UnknownKind("membership command", commandVersion, kind)
		return nil
	}
}

// Snapshot returns the state as bytes. Equal states give equal bytes.
func (m *Membership) Snapshot() []byte {
	b := []byte{oldestSnapshotVersion}
	if m.level > 0 {
		b = codec.AppendUvarint([]byte{snapshotVersion}, uint64(m.level))
	}
	b = codec.AppendUvarint(b, m.version)
	b = codec.AppendUvarint(b, m.lastID)
	b = codec.AppendUvarint(b, uint64(len(m.members)))
	for _, x := range m.members {
		b = codec.AppendUvarint(b, x.ID)
		b = codec.AppendString(b, x.Instance)
		b = codec.AppendString(codec.AppendString(b, x.ClientAddress), x.PeerAddress)
		b = codec.AppendBool(codec.AppendBool(b, x.Voter), x.Leaving)
		b = codec.AppendUvarint(b, x.Replaces)
	}
	return b
}

// Restore replaces the state by the one that a snapshot holds. On an error the
// state is as before.
func (m *Membership) Restore(snapshot []byte) error {
	r := codec.NewReader(snapshot)
	version := r.Version("membership snapshot", oldestSnapshotVersion, snapshotVersion)
	n := &Membership{}
	if version > 1 {
		if n.level = uint32(min(r.Uvarint(), MaxLevel+1)); n.level <= firstLevel {
			r.Fail(ErrCorrupt)
		}
	}
	n.version, n.lastID = r.Uvarint(), r.Uvarint()
	for range r.Count(MaxMembers + 1) {
		x := Member{ID: r.Uvarint(), Instance: r.String(MaxInstanceBytes)}
		x.ClientAddress, x.PeerAddress = r.String(MaxAddressBytes), r.String(MaxAddressBytes)
		x.Voter, x.Leaving = r.Bool(), r.Bool()
		x.Replaces = r.Uvarint()
		n.members = append(n.members, x)
	}
	if err := r.Close(); err != nil {
		return err
	}
	if err := n.Check(); err != nil {
		return errors.Join(ErrCorrupt, err)
	}
	*m = *n
	return nil
}
