package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	apierrors "github.com/oncelog/oncelog/api/errors"
	oncelogv1 "github.com/oncelog/oncelog/api/oncelog/v1"
	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/output"
)

// Limits of the server.
const (
	// pageTimeout bounds what a page asks of the cluster.
	pageTimeout = 10 * time.Second
	// nodeTimeout bounds the question to one node, of which one may be down.
	nodeTimeout = 2 * time.Second
	// maxStreams bounds the live views at a time.
	maxStreams = 32
	// maxForm bounds what a form may send, in bytes.
	maxForm = 16 << 10
	// maxHeaders bounds the headers of a request, in bytes.
	maxHeaders = 16 << 10
)

// Config is what a console needs.
type Config struct {
	// Client talks to the cluster. The caller closes it, after the server has stopped.
	Client *client.Client
	// Flags are what commands shown to people need besides their own, such as
	// --servers; GRPCFlags the same for grpcurl.
	Flags, GRPCFlags []string
	// Principal is who the cluster takes the console for, for the log.
	Principal string
	// Hosts are the names under which browsers may ask, besides localhost and
	// addresses: any other is refused, for it may be a stranger's that leads here.
	Hosts []string
	// Logger gets a line for everything that was asked to change.
	Logger *slog.Logger
	// Now is the clock; nil: the machine's.
	Now func() time.Time
}

// Handler serves the console.
type Handler struct {
	cfg     Config
	admin   *client.Admin
	mux     *http.ServeMux
	pages   *template.Template
	forms   *forms
	foreign *http.CrossOriginProtection
	streams atomic.Int32
	closing chan struct{}
}

//go:embed templates/*.html
var templates embed.FS

//go:embed static
var static embed.FS

// New returns a console. [Handler.Close] ends its live views.
func New(cfg Config) (*Handler, error) {
	if cfg.Client == nil || cfg.Logger == nil {
		return nil, errors.New("console: Client and Logger are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h := &Handler{
		cfg: cfg, admin: cfg.Client.Admin(), mux: http.NewServeMux(), forms: newForms(),
		foreign: http.NewCrossOriginProtection(), closing: make(chan struct{}),
	}
	var err error
	if h.pages, err = template.New("").Funcs(h.functions()).ParseFS(templates, "templates/*.html"); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	h.page("GET /{$}", h.cluster)
	h.page("GET /transactions", h.transactions)
	h.page("GET /transaction", h.transaction)
	h.page("GET /topics", h.topics)
	h.page("GET /topic", h.topic)
	h.page("GET /records", h.records)
	h.page("GET /groups", h.groups)
	h.page("GET /group", h.group)
	h.page("GET /confirm", h.confirm)
	h.page("POST /do", h.do)
	h.mux.HandleFunc("GET /transactions/events", h.events)
	files, err := fs.Sub(static, "static")
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	h.mux.Handle("GET /static/", http.StripPrefix("/static/", http.FileServerFS(files)))
	h.page("/", func(context.Context, *http.Request) (*view, error) { return nil, errNoPage })
	return h, nil
}

// Close ends the live views, so that a server can stop.
func (h *Handler) Close() { close(h.closing) }

// Server returns an HTTP server for the handler, with limits on everything that comes
// from outside. Live views set their own limit for each write.
func (h *Handler) Server() *http.Server {
	return &http.Server{
		Handler: h, MaxHeaderBytes: maxHeaders, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 2 * pageTimeout, IdleTimeout: 2 * time.Minute,
		ErrorLog: slog.NewLogLogger(h.cfg.Logger.Handler(), slog.LevelDebug),
	}
}

// policy allows what comes from here, and no script or style within a page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if !h.knownHost(r.Host) {
		h.show(w, r, errorView(http.StatusForbidden, "This is not the name of this console",
			"The browser asked for a host that this console does not serve. Use the address that it printed when it started, or name the host with --host."))
		return
	}
	if err := h.foreign.Check(r); err != nil {
		h.show(w, r, errorView(http.StatusForbidden, "The request came from another site", "Nothing was done."))
		return
	}
	h.mux.ServeHTTP(w, r)
}

// knownHost tells whether a Host header is one of this console's: an attacker's name
// that resolves to this machine (DNS rebinding) is not.
func (h *Handler) knownHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if host == "localhost" || net.ParseIP(host) != nil {
		return true
	}
	for _, name := range h.cfg.Hosts {
		if strings.EqualFold(host, name) {
			return true
		}
	}
	return false
}

// view is a page before it is HTML.
type view struct {
	// Status is 0 for 200.
	Status int
	Title  string
	// Section is the entry of the menu that it belongs to, Template what shows Data.
	Section, Template string
	Data              any
	// Commands are the same question for the command line.
	Commands commands
	// Redirect is where to go instead.
	Redirect string

	// Set for every page.
	Principal string
	Now       time.Time
	Cluster   string
	Self      string // path and query of the page
}

// page adds a route that answers with a page.
func (h *Handler) page(pattern string, answer func(context.Context, *http.Request) (*view, error)) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), pageTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		v, err := answer(h.withSession(ctx, w, r), r)
		if err != nil {
			v = h.failure(err)
		}
		if v.Redirect != "" {
			http.Redirect(w, r, v.Redirect, http.StatusSeeOther)
			return
		}
		h.show(w, r, v)
	})
}

// show writes a page. It is made before anything is sent, so that half a page is none.
func (h *Handler) show(w http.ResponseWriter, r *http.Request, v *view) {
	v.Principal, v.Now, v.Cluster, v.Self = h.cfg.Principal, h.cfg.Now(), h.cfg.Client.ClusterID(), r.URL.RequestURI()
	var out bytes.Buffer
	if err := h.pages.ExecuteTemplate(&out, "page", v); err != nil {
		h.cfg.Logger.Error("a page cannot be made", "template", v.Template, "error", err)
		http.Error(w, "the page cannot be made; the console's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if v.Status != 0 {
		w.WriteHeader(v.Status)
	}
	_, _ = out.WriteTo(w) // a browser that has gone
}

// problem is what an error page says.
type problem struct{ Text, Help string }

func errorView(status int, title, help string) *view {
	return &view{Status: status, Title: title, Template: "problem", Data: problem{Text: title, Help: help}}
}

var errNoPage = errors.New("there is no such page")

// failure makes a page of what went wrong.
func (h *Handler) failure(err error) *view {
	var wrong *paramError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &wrong):
		return errorView(http.StatusBadRequest, wrong.Error(), "Correct the address, or go back to the form.")
	case errors.As(err, &large):
		return errorView(http.StatusRequestEntityTooLarge, fmt.Sprintf("a form may send %d bytes", maxForm), "Nothing was done.")
	case errors.Is(err, errNoPage):
		return errorView(http.StatusNotFound, "There is no such page", "The menu has all that there are.")
	case errors.Is(err, errForm):
		return errorView(http.StatusForbidden, "The form is not from this console, or too old", "Nothing was done. Go back, load the page again, and confirm once more.")
	}
	e := apierrors.From(err)
	status := http.StatusBadGateway
	switch e.Code {
	case oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PRODUCER, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_TOPIC,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_GROUP, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_PARTITION,
		oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_SHARD, oncelogv1.ErrorCode_ERROR_CODE_UNKNOWN_NODE:
		status = http.StatusNotFound
	case oncelogv1.ErrorCode_ERROR_CODE_INVALID_ARGUMENT, oncelogv1.ErrorCode_ERROR_CODE_LIMIT_EXCEEDED:
		status = http.StatusBadRequest
	case oncelogv1.ErrorCode_ERROR_CODE_CONFLICT, oncelogv1.ErrorCode_ERROR_CODE_INVALID_TXN,
		oncelogv1.ErrorCode_ERROR_CODE_FENCED, oncelogv1.ErrorCode_ERROR_CODE_FORGOTTEN:
		status = http.StatusConflict
	case oncelogv1.ErrorCode_ERROR_CODE_DEADLINE, oncelogv1.ErrorCode_ERROR_CODE_UNAVAILABLE:
		status = http.StatusGatewayTimeout
	}
	return errorView(status, "The cluster says: "+output.Printable(err.Error()), "Code "+strings.TrimPrefix(e.Code.String(), "ERROR_CODE_")+"; docs/ERRORS.md says what to do about each.")
}
