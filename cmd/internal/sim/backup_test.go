package sim

import (
	crand "crypto/rand"
	"math/rand/v2"
	"testing"
	"time"
)

// TestBackupsOfAQuietWorld: where nothing goes wrong every backup is made, and a
// cluster can begin with each.
func TestBackupsOfAQuietWorld(t *testing.T) {
	p := Draw(3)
	p.Faults, p.Meddling, p.Operating, p.Weather = nil, meddling{}, operating{}, calm
	p.Backups = []time.Duration{2 * time.Second, 7 * time.Second, 12 * time.Second}
	v := Run(p, nil)
	for _, x := range v.Violations {
		t.Errorf("%s: %s", x.Invariant, x.Text)
	}
	if v.Reach[backupTaken] != 3 || v.Reach[backupRefused] != 0 {
		t.Errorf("%d backups were taken, and %d given up", v.Reach[backupTaken], v.Reach[backupRefused])
	}
}

// TestABackupThatLacksSomething: what cannot begin a cluster is told.
func TestABackupThatLacksSomething(t *testing.T) {
	p := Draw(3)
	p.Faults, p.Meddling, p.Operating, p.Weather = nil, meddling{}, operating{}, calm
	p.Backups = []time.Duration{2 * time.Second}
	reader := crand.Reader
	defer func() { crand.Reader = reader }()
	for name, spoil := range map[string]func(state []byte, shards []keptShard) ([]byte, []keptShard){
		"a shard":          func(state []byte, shards []keptShard) ([]byte, []keptShard) { return state, shards[1:] },
		"the coordinators": func(_ []byte, shards []keptShard) ([]byte, []keptShard) { return nil, shards },
		"a piece": func(state []byte, shards []keptShard) ([]byte, []keptShard) {
			shards[0].pieces = shards[0].pieces[1:]
			return state, shards
		},
	} {
		crand.Reader = rand.NewChaCha8(chachaSeed(p.Seed)) // as in Run
		s := newSimulation(p, nil)
		s.spoil = spoil
		s.run()
		if len(s.found) != 1 || s.found[0].Invariant != "backup" {
			t.Errorf("without %s: %v", name, s.found)
		}
	}
}
