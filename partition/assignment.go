package partition

import (
	"fmt"

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
// when nothing is new.
func mergeAssignment(old, got *oncelogv1.HeartbeatResponse) (merged *oncelogv1.HeartbeatResponse, changed bool) {
	merged = &oncelogv1.HeartbeatResponse{
		Version: old.GetVersion(), Shards: old.GetShards(),
		TokenKeys: old.GetTokenKeys(), Nodes: old.GetNodes(),
	}
	if got.GetVersion() > old.GetVersion() {
		merged.Version, merged.Shards = got.GetVersion(), got.GetShards()
	}
	// An answer without keys or nodes says nothing about them.
	if len(got.GetTokenKeys()) > 0 {
		merged.TokenKeys = got.GetTokenKeys()
	}
	if len(got.GetNodes()) > 0 {
		merged.Nodes = got.GetNodes()
	}
	return merged, old == nil || !proto.Equal(old, merged)
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
