package codec

import (
	"errors"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	for v, want := range map[byte]string{
		0: "shard snapshot: version 0 is unknown, this program reads version 1 to 2; a newer program wrote it, or it is damaged",
		1: "", 2: "",
		3: "shard snapshot: version 3 is unknown, this program reads version 1 to 2; a newer program wrote it, or it is damaged",
	} {
		r := NewReader([]byte{v, 7})
		got := r.Version("shard snapshot", 1, 2)
		if want == "" {
			if r.Err() != nil || got != v || r.Byte() != 7 {
				t.Errorf("version %d: %d, %v", v, got, r.Err())
			}
			continue
		}
		if err := r.Close(); !errors.Is(err, ErrVersion) || err.Error() != want {
			t.Errorf("version %d: %v", v, err)
		}
	}
	r := NewReader(nil)
	if r.Version("x", 1, 1); !errors.Is(r.Err(), ErrShort) {
		t.Errorf("nothing: %v", r.Err())
	}
	r = NewReader([]byte{2})
	if r.Version("x", 1, 1); r.Err().Error() != "x: version 2 is unknown, this program reads version 1; a newer program wrote it, or it is damaged" {
		t.Error(r.Err())
	}
	r = NewReader([]byte{1, 0})
	r.UnknownKind("x", r.Version("x", 1, 1), r.Byte())
	if r.Err().Error() != "x: kind 0 of version 1 is unknown; a newer program wrote it, or it is damaged" || !errors.Is(r.Err(), ErrVersion) {
		t.Error(r.Err())
	}
}
