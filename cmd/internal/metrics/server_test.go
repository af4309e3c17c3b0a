package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

func TestServerIsReadOnly(t *testing.T) {
	t.Parallel()
	_, url := serve(t, NewRegistry())
	for path, want := range map[string]int{"/metrics": http.StatusMethodNotAllowed, "/healthz": http.StatusMethodNotAllowed, "/": http.StatusNotFound} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("POST %s: %d, want %d", path, res.StatusCode, want)
		}
	}
	if status, body := get(t, url+"/metrics"); status != http.StatusOK || !strings.Contains(body, "go_goroutines") {
		t.Errorf("GET /metrics: %d", status)
	}
	if status, _ := get(t, url+"/debug/pprof/"); status != http.StatusNotFound {
		t.Errorf("GET /debug/pprof/: %d", status)
	}
}

func TestHealthFollowsTheNode(t *testing.T) {
	t.Parallel()
	s, url := serve(t, NewRegistry())
	if status, body := get(t, url+"/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("%d %q", status, body)
	}
	s.Drain()
	if status, _ := get(t, url+"/healthz"); status != http.StatusServiceUnavailable {
		t.Errorf("while it goes away: %d", status)
	}
	if status, _ := get(t, url+"/metrics"); status != http.StatusOK {
		t.Errorf("metrics while it goes away: %d", status)
	}
}

func TestAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	s, _ := serve(t, NewRegistry())
	if _, err := Listen(s.Address(), nil, NewRegistry(), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), s.Address()) {
		t.Errorf("it was opened twice: %v", err)
	}
}

// A node that fails while it starts closes a server that never served.
func TestCloseWithoutServe(t *testing.T) {
	t.Parallel()
	s, err := Listen("127.0.0.1:0", nil, NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Close(context.Background())
	again, err := Listen(s.Address(), nil, NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatalf("the address is still held: %v", err)
	}
	again.Close(context.Background())
}
