package state_test

import (
	"testing"

	"github.com/oncelog/oncelog/client/streams/state"
	"github.com/oncelog/oncelog/client/streams/state/statetest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	statetest.Run(t, state.NewMemory(), nil)
}
