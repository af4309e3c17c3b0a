package metrics

import (
	"bytes"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Text returns all metrics as a scrape gets them.
func (r *Registry) Text() (string, error) {
	request, err := http.NewRequest(http.MethodGet, "/metrics", http.NoBody)
	if err != nil {
		return "", err
	}
	answer := &buffered{header: http.Header{}, status: http.StatusOK}
	promhttp.HandlerFor(r.all, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(answer, request)
	if answer.status != http.StatusOK {
		return "", fmt.Errorf("metrics: %s", bytes.TrimSpace(answer.body.Bytes()))
	}
	return answer.body.String(), nil
}

// buffered is an http.ResponseWriter that keeps the answer.
type buffered struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (b *buffered) Header() http.Header { return b.header }

// Write implements http.ResponseWriter.
func (b *buffered) Write(p []byte) (int, error) { return b.body.Write(p) }

// WriteHeader implements http.ResponseWriter.
func (b *buffered) WriteHeader(status int) { b.status = status }
