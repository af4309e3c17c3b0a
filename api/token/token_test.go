package token_test

import (
	"bytes"
	"testing"

	"github.com/oncelog/oncelog/api/token"
	"github.com/oncelog/oncelog/internal/golden"
)

func ring(ids ...uint32) *token.Keyring {
	var r token.Keyring
	var keys []token.Key
	for _, id := range ids {
		keys = append(keys, token.Key{ID: id, Secret: bytes.Repeat([]byte{byte(id)}, token.MinSecret)})
	}
	r.Set(keys)
	return &r
}

func TestTokenProvesExactlyItsProducerAndEpoch(t *testing.T) {
	t.Parallel()
	r := ring(1)
	tok := r.Sign(7, 3)
	if len(tok) != token.Size || !r.Check(tok, 7, 3) {
		t.Fatal("a good token is refused")
	}
	if r.Check(tok, 7, 4) || r.Check(tok, 8, 3) || r.Check(nil, 7, 3) || r.Check(tok[:len(tok)-1], 7, 3) {
		t.Error("a token of another producer or epoch, or a short one, is accepted")
	}
	for i := range tok {
		bad := bytes.Clone(tok)
		bad[i] ^= 1
		if r.Check(bad, 7, 3) {
			t.Errorf("accepted with a flipped bit in byte %d", i)
		}
	}
}

func TestKeysRotate(t *testing.T) {
	t.Parallel()
	old := ring(1).Sign(7, 3)
	both := ring(1, 2)
	if !both.Check(old, 7, 3) {
		t.Error("the old key no longer checks")
	}
	if newer := both.Sign(7, 3); !ring(2).Check(newer, 7, 3) || ring(1).Check(newer, 7, 3) {
		t.Error("the newest key does not sign")
	}
	if ring(2).Check(old, 7, 3) {
		t.Error("a removed key still checks")
	}
}

// TestTokenIsItsOwners: whoever else learns producer id, epoch and token has nothing.
func TestTokenIsItsOwners(t *testing.T) {
	t.Parallel()
	r := ring(1)
	tok, anybodys := r.SignFor("alice", 7, 3), r.Sign(7, 3)
	if !r.CheckFor("alice", tok, 7, 3) {
		t.Fatal("the owner is refused")
	}
	for _, other := range []string{"", "alic", "alice2", "mallory"} {
		if r.CheckFor(other, tok, 7, 3) {
			t.Errorf("the token of alice is of use to %q", other)
		}
	}
	if r.Check(tok, 7, 3) || r.CheckFor("alice", anybodys, 7, 3) || r.CheckFor("", anybodys, 7, 3) {
		t.Error("a token that is somebody's and one that is anybody's are the same")
	}
	for i := range tok {
		bad := bytes.Clone(tok)
		bad[i] ^= 1
		if r.CheckFor("alice", bad, 7, 3) {
			t.Errorf("accepted with a flipped bit in byte %d", i)
		}
	}
}

func TestNoKeyAcceptsNothing(t *testing.T) {
	t.Parallel()
	var r token.Keyring
	if r.Ready() || r.Sign(1, 0) != nil || r.Check(ring(1).Sign(1, 0), 1, 0) {
		t.Error("an empty keyring signs or accepts")
	}
}

// TestFormat: tokens are kept by clients for as long as they live.
func TestFormat(t *testing.T) {
	t.Parallel()
	golden.Check(t, "producer-token", 1, []golden.Sample{
		{Name: "key-1", Bytes: ring(1).Sign(7, 3)},
		{Name: "key-2", Bytes: ring(1, 2).Sign(1<<40, 0)},
	})
	golden.Check(t, "producer-token", 2, []golden.Sample{
		{Name: "key-1", Bytes: ring(1).SignFor("alice", 7, 3)},
		{Name: "nobody", Bytes: ring(1, 2).SignFor("", 1<<40, 0)},
	})
	old := golden.Read(t, "producer-token", 1)
	if !ring(1).Check(old[0].Bytes, 7, 3) || !ring(1, 2).Check(old[1].Bytes, 1<<40, 0) {
		t.Error("a token of version 1 is refused")
	}
	owned := golden.Read(t, "producer-token", 2)
	if !ring(1).CheckFor("alice", owned[0].Bytes, 7, 3) || !ring(1, 2).CheckFor("", owned[1].Bytes, 1<<40, 0) {
		t.Error("a token of version 2 is refused")
	}
	newer := bytes.Clone(owned[0].Bytes)
	newer[0]++
	if ring(1).Check(newer, 7, 3) || ring(1).CheckFor("alice", newer, 7, 3) {
		t.Error("a token of an unknown version is accepted")
	}
}

// FuzzCheck: whatever is sent as a token, only what was signed is accepted.
func FuzzCheck(f *testing.F) {
	good := ring(1).Sign(7, 3)
	f.Add(good, uint64(7), uint32(3))
	f.Add([]byte{1, 0, 0, 0, 1}, uint64(7), uint32(3))
	f.Fuzz(func(t *testing.T, tok []byte, id uint64, epoch uint32) {
		r := ring(1)
		if r.Check(tok, id, epoch) != bytes.Equal(tok, r.Sign(id, epoch)) {
			t.Errorf("token %x for %d/%d", tok, id, epoch)
		}
	})
}
