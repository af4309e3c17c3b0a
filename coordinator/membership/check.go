package membership

import (
	"errors"
	"strconv"
)

// Check verifies the invariants of the state. An error is a bug of this package or
// a snapshot that was not written by it.
func (m *Membership) Check() error {
	if m.level == firstLevel || m.level > MaxLevel {
		return errors.New("membership: the level is " + strconv.FormatUint(uint64(m.level), 10))
	}
	if !m.Founded() {
		if len(m.members) > 0 || m.lastID != 0 || m.level != 0 {
			return errors.New("membership: members before the cluster was founded")
		}
		return nil
	}
	voters, changing, replaced := 0, 0, 0
	var last uint64
	for _, x := range m.members {
		switch {
		case x.ID <= last || x.ID > m.lastID:
			return broken("id out of order, or above the highest", x.ID)
		case len(x.ClientAddress) > MaxAddressBytes || len(x.PeerAddress) > MaxAddressBytes || len(x.Instance) > MaxInstanceBytes:
			return broken("breaks its limits", x.ID)
		case x.Voter && x.Replaces != 0:
			return broken("a voter that is still to take a place", x.ID)
		}
		last = x.ID
		if x.Voter {
			voters++
		}
		if !x.Voter || x.Leaving {
			changing++
		}
		if x.Replaces != 0 {
			replaced++
			if old, ok := m.Member(x.Replaces); !ok || !old.Voter || old.Leaving {
				return broken("is to take the place of one that is no voter", x.ID)
			}
		}
	}
	switch {
	case voters == 0:
		return errors.New("membership: nobody votes")
	case changing > 1:
		return errors.New("membership: two changes at a time")
	case len(m.members)-replaced > MaxMembers:
		return errors.New("membership: too many members")
	}
	return nil
}

func broken(what string, id uint64) error {
	return errors.New("membership: member " + strconv.FormatUint(id, 10) + ": " + what)
}
