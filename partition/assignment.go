package partition

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/internal/datafile"
)

const (
	assignmentVersion = 1
	assignmentMagic   = "olpasgn"
)

var assignmentFile = datafile.Format{
	File: "assignment", What: "assignment of shards", Magic: assignmentMagic, First: assignmentVersion, Last: assignmentVersion,
}

// loadAssignment reads what the coordinator last told the node, so that it can
// serve before, and without, a coordinator. Nil: it never told anything.
func loadAssignment(files datafile.Files) (*oncelogv1.HeartbeatResponse, error) {
	payload, _, ok, err := assignmentFile.Read(files)
	if err != nil || !ok {
		return nil, err
	}
	a := &oncelogv1.HeartbeatResponse{}
	if err := proto.Unmarshal(payload, a); err != nil {
		return nil, assignmentFile.Damaged(files, err)
	}
	return a, nil
}

func saveAssignment(files datafile.Files, a *oncelogv1.HeartbeatResponse) error {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode assignment: %w", err)
	}
	return assignmentFile.Write(files, payload)
}

// mergeAssignment returns what the node must host after a heartbeat: the shards
// of the newer version, and keys and addresses as they came. changed is false
// when nothing is new. A copy that the coordinator names no more, or in another life,
// stays until it is released.
func mergeAssignment(old, got *oncelogv1.HeartbeatResponse) (merged *oncelogv1.HeartbeatResponse, changed bool) {
	merged = &oncelogv1.HeartbeatResponse{
		Version: old.GetVersion(), Shards: old.GetShards(),
		TokenKeys: old.GetTokenKeys(), Nodes: old.GetNodes(),
	}
	if got.GetVersion() > old.GetVersion() {
		merged.Version, merged.Shards = got.GetVersion(), keepUnreleased(old.GetShards(), got.GetShards())
	}
	// An answer without keys or nodes says nothing about them.
	if len(got.GetTokenKeys()) > 0 {
		merged.TokenKeys = got.GetTokenKeys()
	}
	if len(got.GetNodes()) > 0 {
		merged.Nodes = got.GetNodes()
	}
	merged.FormatLevel = max(old.GetFormatLevel(), got.GetFormatLevel())
	merged.Coordinators, merged.CoordinatorsVersion = newerCoordinators(old, got)
	merged.Acls = newerRules(old, got)
	return merged, old == nil || !proto.Equal(old, merged)
}

// keepUnreleased returns the shards that were assigned, and of those that were before
// the copies that are not among them.
func keepUnreleased(old, got []*oncelogv1.ShardAssignment) []*oncelogv1.ShardAssignment {
	out := slices.Clone(got)
	for _, o := range old {
		i := slices.IndexFunc(out, func(a *oncelogv1.ShardAssignment) bool { return a.GetShardId() == o.GetShardId() })
		if i >= 0 && out[i].GetLife() == o.GetLife() {
			continue
		}
		kept := proto.CloneOf(o)
		kept.Move = nil
		if i >= 0 {
			out[i] = kept
		} else {
			out = append(out, kept)
		}
	}
	return out
}

// without returns the assignment without some shards.
func without(a *oncelogv1.HeartbeatResponse, shards map[uint64]bool) *oncelogv1.HeartbeatResponse {
	out := proto.CloneOf(a)
	out.Shards = slices.DeleteFunc(out.GetShards(), func(s *oncelogv1.ShardAssignment) bool { return shards[s.GetShardId()] })
	return out
}

// newerCoordinators returns the newer of two lists of coordinators. It is kept on
// disk: those that the settings name may all be gone when the node starts again.
func newerCoordinators(old, got *oncelogv1.HeartbeatResponse) ([]*oncelogv1.Node, uint64) {
	if got.GetCoordinatorsVersion() > old.GetCoordinatorsVersion() && len(got.GetCoordinators()) > 0 {
		return got.GetCoordinators(), got.GetCoordinatorsVersion()
	}
	return old.GetCoordinators(), old.GetCoordinatorsVersion()
}

// newerRules returns the newer of two sets of rules about permissions. A coordinator that
// was deposed and does not know it may still send old ones.
func newerRules(old, got *oncelogv1.HeartbeatResponse) *oncelogv1.AclTable {
	if got.GetAcls() == nil || old.GetAcls() != nil && got.GetAcls().GetVersion() < old.GetAcls().GetVersion() {
		return old.GetAcls()
	}
	return got.GetAcls()
}

// tokenKeys returns the usable keys of an assignment.
func tokenKeys(a *oncelogv1.HeartbeatResponse) []token.Key {
	keys := make([]token.Key, 0, len(a.GetTokenKeys()))
	for _, k := range a.GetTokenKeys() {
		if len(k.GetSecret()) >= token.MinSecret {
			keys = append(keys, token.Key{ID: k.GetKeyId(), Secret: k.GetSecret()})
		}
	}
	return keys
}
