package partition

import (
	"bytes"
	"reflect"
	"testing"

	"google.golang.org/protobuf/proto"

	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/internal/golden"
)

// fileMap is a disk in memory.
type fileMap map[string][]byte

func (m fileMap) Read(name string) ([]byte, bool, error) { data, ok := m[name]; return data, ok, nil }

func (m fileMap) Write(name string, data []byte) error { m[name] = bytes.Clone(data); return nil }

// TestNodeFileFormats: a node starts from the files of older versions.
func TestNodeFileFormats(t *testing.T) {
	t.Parallel()
	files := fileMap{}
	id := identity{node: 7, instance: "i", cluster: "c"}
	if err := id.write(files); err != nil {
		t.Fatal(err)
	}
	assignment := &oncelogv1.HeartbeatResponse{
		Version:   5,
		Shards:    []*oncelogv1.ShardAssignment{{ShardId: 2, Replicas: []uint64{1, 2, 7}, Version: 4}},
		TokenKeys: []*oncelogv1.TokenKey{{KeyId: 1, Secret: bytes.Repeat([]byte{9}, 32)}},
		Nodes:     []*oncelogv1.Node{{NodeId: 1, PeerAddress: "p"}},
	}
	if err := saveAssignment(files, assignment); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "node-identity", identityVersion, []golden.Sample{{Name: "file", Bytes: files[identityFile.File]}})
	golden.Check(t, "node-assignment", assignmentVersion, []golden.Sample{{Name: "file", Bytes: files[assignmentFile.File]}})

	note := damageNote{damage: "entry 5 of group 2: wrong checksum", stage: stageReplace, lost: []LostReplica{{2, 0, "entry 5"}, {300, 7, "row 1"}}}
	if err := note.write(files); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "node-damage", damageVersion, []golden.Sample{{Name: "file", Bytes: files[damageFile.File]}})

	files[damageFile.File] = golden.Read(t, "node-damage", 1)[0].Bytes
	if got, err := loadDamage(files); err != nil || !reflect.DeepEqual(got, damageNote{damage: "entry 5 of group 2: wrong checksum"}) {
		t.Errorf("note of damage of version 1 is read as %+v: %v", got, err)
	}
	files[damageFile.File] = golden.Read(t, "node-damage", 2)[0].Bytes
	if got, err := loadDamage(files); err != nil || !reflect.DeepEqual(got, note) {
		t.Errorf("note of damage of version 2 is read as %+v: %v", got, err)
	}
	files[identityFile.File] = golden.Read(t, "node-identity", 1)[0].Bytes
	files[assignmentFile.File] = golden.Read(t, "node-assignment", 1)[0].Bytes
	if got, err := openIdentity(files, 7, ""); err != nil || got != id {
		t.Errorf("identity of version 1 is read as %+v: %v", got, err)
	}
	if got, err := loadAssignment(files); err != nil || !proto.Equal(got, assignment) {
		t.Errorf("assignment of version 1 is read as %v: %v", got, err)
	}
}
