package coordinator

import (
	"strings"
	"testing"

	"github.com/oncelog/oncelog/internal/golden"
)

// TestPageTokenFormat: a client may be in the middle of a listing when the
// coordinator that it asks is replaced by a newer one.
func TestPageTokenFormat(t *testing.T) {
	t.Parallel()
	golden.Check(t, "page-token", pageTokenVersion, []golden.Sample{
		{Name: "name", Bytes: []byte(pageToken("orders"))}, {Name: "number", Bytes: []byte(pageToken("300"))},
	})
	for i, want := range []string{"orders", "300"} {
		if got, err := parsePageToken(string(golden.Read(t, "page-token", 1)[i].Bytes)); err != nil || got != want {
			t.Errorf("version 1 is read as %q: %v", got, err)
		}
	}
	if got, err := parsePageToken(""); got != "" || err != nil {
		t.Errorf("the first page is %q: %v", got, err)
	}
	if got, err := parsePageToken(pageToken(strings.Repeat("x", maxName))); len(got) != maxName || err != nil {
		t.Errorf("the longest: %v", err)
	}
	_, err := parsePageToken(pageToken(strings.Repeat("x", maxName+1)))
	wantEqual(t, "limit", wantCode(t, err, "LIMIT_EXCEEDED")["limit"], "250")
	_, err = parsePageToken("2orders")
	wantEqual(t, "field", wantCode(t, err, "INVALID_ARGUMENT")["field"], "page_token")
}
