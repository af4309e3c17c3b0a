package console

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
)

// errForm refuses a form that was not made here for this browser.
var errForm = errors.New("console: the form's token is wrong")

// sessionCookie names a browser. It says nothing about who uses it, and gives no right:
// it ties forms to the browser that they were shown to.
const sessionCookie = "oncelog_console"

// sessionBytes is the length of a session.
const sessionBytes = 18

// forms signs forms and checks them.
type forms struct{ key [32]byte }

func newForms() *forms {
	f := &forms{}
	_, _ = rand.Read(f.key[:]) // never fails (crypto/rand)
	return f
}

// token belongs to a session, for as long as this process runs.
func (f *forms) token(session string) string {
	mac := hmac.New(sha256.New, f.key[:])
	mac.Write([]byte(session))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// check refuses a token that does not belong to the session.
func (f *forms) check(session, token string) error {
	if session == "" || !hmac.Equal([]byte(token), []byte(f.token(session))) {
		return errForm
	}
	return nil
}

type sessionKey struct{}

// withSession finds the browser's session. Only a page that shows a form gives it one.
func (h *Handler) withSession(ctx context.Context, w http.ResponseWriter, r *http.Request) context.Context {
	id := ""
	if c, err := r.Cookie(sessionCookie); err == nil && len(c.Value) == base64.RawURLEncoding.EncodedLen(sessionBytes) {
		id = c.Value
	}
	if id == "" && r.Method == http.MethodGet && r.URL.Path == "/confirm" {
		random := make([]byte, sessionBytes)
		_, _ = rand.Read(random) // never fails (crypto/rand)
		id = base64.RawURLEncoding.EncodeToString(random)
		http.SetCookie(w, &http.Cookie{
			Name: sessionCookie, Value: id, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
		})
	}
	return context.WithValue(ctx, sessionKey{}, id)
}

func sessionOf(ctx context.Context) string {
	id, _ := ctx.Value(sessionKey{}).(string)
	return id
}
