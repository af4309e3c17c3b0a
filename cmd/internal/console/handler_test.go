package console_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/oncelog/oncelog/client"
	"github.com/oncelog/oncelog/cmd/internal/console/consoletest"
)

// browser asks a console, and keeps its cookies.
type browser struct {
	*consoletest.Scene
	http.Client
}

func newBrowser(s *consoletest.Scene) *browser {
	jar, err := cookiejar.New(nil)
	s.Must(err)
	return &browser{s, http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *browser) do(method, path string, form url.Values, change func(*http.Request)) (*http.Response, string) {
	b.Helper()
	r, err := http.NewRequestWithContext(b.Context(), method, b.Server.URL+path, strings.NewReader(form.Encode()))
	b.Must(err)
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if change != nil {
		change(r)
	}
	resp, err := b.Do(r)
	b.Must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	b.Must(err)
	return resp, string(text)
}

func (b *browser) get(path string) (*http.Response, string) {
	b.Helper()
	return b.do(http.MethodGet, path, nil, nil)
}

var token = regexp.MustCompile(`name="token" value="([^"]+)"`)

// TestConsole shares one scene: nothing in it before the last parts changes what is
// there.
func TestConsole(t *testing.T) {
	t.Parallel()
	s := consoletest.Start(t)
	b := newBrowser(s)
	t.Run("pages", func(t *testing.T) { b.T = t; testPages(b) })
	t.Run("hostile names", func(t *testing.T) { b.T = t; testHostile(b) })
	t.Run("wrong parameters", func(t *testing.T) { b.T = t; testParameters(b) })
	t.Run("strangers", func(t *testing.T) { b.T = t; testStrangers(b) })
	t.Run("events", func(t *testing.T) { b.T = t; testEvents(b) })
	t.Run("actions", func(t *testing.T) { b.T = t; testActions(b) })
}

func testPages(b *browser) {
	for path, want := range map[string][]string{
		"/":                                     {"All nodes answer", "coordinator 1", "partition 3", "to node", "oncelog cluster status --servers 10.0.0.1:7100", "CatalogService/DescribeCluster"},
		"/transactions":                         {"checkout-1", consoletest.OpenID, "ongoing", "complete-commit", "billing@"},
		"/transactions?state=ongoing":           {consoletest.OpenID, "--state=ongoing", `{&#34;page_size&#34;:100,&#34;states&#34;:[&#34;TRANSACTION_STATE_ONGOING&#34;]}`},
		"/transactions?id=nobody":               {"No transactional id is like that."},
		"/transaction?id=" + consoletest.OpenID: {"Open:", "epoch 0 begins", "begun", "enlisted", "Where its records are", "wait for it", "Abort this transaction", "oncelog txn history --servers 10.0.0.1:7100 -- " + consoletest.OpenID},
		"/transaction?id=checkout-1":            {"decided: committed", "decided: aborted (client)", "marker applied by shard", "complete: visible"},
		"/topics":                               {"orders", "payments", "for ever"},
		"/topic?name=orders":                    {consoletest.OpenID, "billing@", "held back by"},
		"/groups":                               {consoletest.Group},
		"/group?id=" + consoletest.Group:        {"orders</a>/0", "Hidden is durable"},
		"/records?topic=orders&partition=0":     {`data-fate="committed"`, `data-fate="aborted"`, `data-fate="open"`, `data-fate="committed, not visible yet"`, "0xfffe00", "order 1"},
		"/records?topic=orders&offset=2&limit=1": {
			`data-fate="aborted"`, "order 3", "More", "--isolation=read_uncommitted",
		},
	} {
		resp, text := b.get(path)
		if resp.StatusCode != http.StatusOK {
			b.Errorf("%s: %d", path, resp.StatusCode)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				b.Errorf("%s lacks %q:\n%s", path, w, text)
			}
		}
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			b.Errorf("%s: %v", path, resp.Header)
		}
		noInline(b, path, text)
	}
	if resp, _ := b.get("/transactions?state=complete-abort"); resp.StatusCode != http.StatusOK {
		b.Error(resp.Status)
	}
	if _, text := b.get("/transactions?state=complete-abort"); strings.Contains(text, "checkout-1") {
		b.Error("the filter lets through what is in another state")
	}
}

// noInline fails the test if a page needs what its policy forbids, or is malformed in a
// way that leaves a label without its field.
func noInline(b *browser, path, text string) {
	b.Helper()
	doc, err := html.Parse(strings.NewReader(text))
	b.Must(err)
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		for _, a := range n.Attr {
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Val, "javascript:") {
				b.Errorf("%s: <%s %s=%q>", path, n.Data, a.Key, a.Val)
			}
		}
		if (n.Data == "script" || n.Data == "style") && n.FirstChild != nil {
			b.Errorf("%s: a <%s> with content", path, n.Data)
		}
	}
}

func testHostile(b *browser) {
	for _, path := range []string{"/transactions", "/transaction?" + url.Values{"id": {consoletest.Hostile}}.Encode(), "/records?topic=orders&partition=0"} {
		resp, text := b.get(path)
		if resp.StatusCode != http.StatusOK || strings.Contains(text, "<script>alert") || strings.Contains(text, "<b>bold") || strings.ContainsRune(text, '\u202e') {
			b.Errorf("%s: %d\n%s", path, resp.StatusCode, text)
		}
	}
	// The command that is shown means that id, to a shell, and nothing else.
	_, text := b.get("/transaction?" + url.Values{"id": {consoletest.Hostile}}.Encode())
	doc, err := html.Parse(strings.NewReader(text))
	b.Must(err)
	command := ""
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			if a.Key == "id" && a.Val == "cli" {
				command = n.FirstChild.Data
			}
		}
	}
	first, _, _ := strings.Cut(command, "\n")
	words := strings.TrimPrefix(first, "oncelog txn describe ")
	out, err := exec.CommandContext(b.Context(), "bash", "-c", "printf '%s\\0' "+words).Output()
	if err != nil {
		b.Skipf("there is no bash: %v", err)
	}
	if want := "--servers\x0010.0.0.1:7100\x00--\x00" + consoletest.Hostile + "\x00"; string(out) != want {
		b.Errorf("%s\nmeans %q", first, out)
	}
}

func testParameters(b *browser) {
	long := strings.Repeat("x", 250)
	for path, want := range map[string]string{
		"/transactions?state=x":                                 "state is",
		"/transactions?id=" + long:                              "id has 250 bytes: at most 249",
		"/transactions?older=soon":                              "older is",
		"/transactions?older=-1s":                               "older is",
		"/transactions?id=a&id=b":                               "id is given 2 times",
		"/transaction":                                          "id or producer_id is missing",
		"/transaction?producer_id=x":                            "producer_id is",
		"/topic":                                                "name is missing",
		"/records?topic=orders&partition=x":                     "partition is",
		"/records?topic=orders&partition=7":                     "partition is 7: the topic has 2",
		"/records?topic=orders&offset=99999":                    "offset is 99999: the partition ends at",
		"/records?topic=orders&limit=201":                       "limit is",
		"/group":                                                "id is missing",
		"/confirm?action=drop":                                  "action is",
		"/confirm?action=abort&id=x":                            "txn is missing",
		"/confirm?action=abort&id=x&txn=1/2":                    "txn is",
		"/confirm?action=fence&id=x":                            "epoch is missing",
		"/confirm?action=move-leader&to=1":                      "shard is missing",
		"/confirm?action=move-leader&shard=2&to=99999999999999": "to is",
		"/transactions/events?only=" + long:                     "only has 250 bytes",
	} {
		resp, text := b.get(path)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(text, want) {
			b.Errorf("%s: %d, want %q in\n%s", path, resp.StatusCode, want, text)
		}
	}
	for _, path := range []string{"/nothing", "/transaction?id=nobody", "/topic?name=nothing", "/group?id=nobody", "/static/handler.go"} {
		if resp, _ := b.get(path); resp.StatusCode != http.StatusNotFound {
			b.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

// testStrangers: what another site, or another name for this address, can have a
// browser do.
func testStrangers(b *browser) {
	confirm := fmt.Sprintf("/confirm?action=fence&epoch=0&id=%s", consoletest.OpenID)
	_, page := b.get(confirm)
	if want := "oncelog producer fence --epoch 0 --servers 10.0.0.1:7100 -- " + consoletest.OpenID; !strings.Contains(page, want) {
		b.Errorf("the page of a fence does not show %q", want)
	}
	right := token.FindStringSubmatch(page)[1]
	form := func(token string) url.Values {
		return url.Values{"action": {"fence"}, "id": {consoletest.OpenID}, "epoch": {"0"}, "token": {token}}
	}
	for name, c := range map[string]struct {
		form   url.Values
		change func(*http.Request)
		other  bool
	}{
		"no token":           {form: form("")},
		"a wrong token":      {form: form("A" + right[1:] + "x")},
		"no cookie":          {form: form(right), other: true},
		"from another site":  {form: form(right), change: func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }},
		"an origin":          {form: form(right), change: func(r *http.Request) { r.Header.Set("Origin", "https://example.com") }},
		"another host":       {form: form(right), change: func(r *http.Request) { r.Host = "example.com" }},
		"a form without end": {form: url.Values{"token": {strings.Repeat("x", 17<<10)}}},
	} {
		who := b
		if c.other {
			who = newBrowser(b.Scene)
		}
		resp, text := who.do(http.MethodPost, "/do", c.form, c.change)
		if resp.StatusCode != http.StatusForbidden && resp.StatusCode != http.StatusRequestEntityTooLarge {
			b.Errorf("%s: %d\n%s", name, resp.StatusCode, text)
		}
	}
	if resp, _ := b.do(http.MethodGet, "/", nil, func(r *http.Request) { r.Host = "attacker.example:7400" }); resp.StatusCode != http.StatusForbidden {
		b.Errorf("a name that leads here: %d", resp.StatusCode)
	}
	if resp, _ := b.get("/do"); resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusSeeOther {
		b.Errorf("an action by GET: %d", resp.StatusCode)
	}
	d, err := b.Scene.Client.Admin().DescribeTransaction(b.Context(), consoletest.OpenID)
	b.Must(err)
	if d.GetEpoch() != 0 || d.GetOpen() == nil {
		b.Error("something was done")
	}
	resp, _ := newBrowser(b.Scene).get(confirm)
	cookie := resp.Header.Get("Set-Cookie")
	if !strings.Contains(cookie, "SameSite=Strict") || !strings.Contains(cookie, "HttpOnly") {
		b.Errorf("cookie %q", cookie)
	}
}

func testEvents(b *browser) {
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, b.Server.URL+"/transactions/events?id=live", http.NoBody)
	b.Must(err)
	resp, err := b.Do(r)
	b.Must(err)
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		b.Fatal(resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Scan() // the first answer: from now on nothing is left out
	b.Commit(b.Context(), "not-this-one")
	b.Commit(b.Context(), "live-1")
	for lines.Scan() {
		if strings.Contains(lines.Text(), "not-this-one") {
			b.Error("the filter lets others through")
		}
		if strings.Contains(lines.Text(), "live-1") && strings.Contains(lines.Text(), "decided: committed") {
			return
		}
	}
	b.Fatalf("the stream ended: %v", lines.Err())
}

func testActions(b *browser) {
	d, err := b.Scene.Client.Admin().DescribeTransaction(b.Context(), consoletest.OpenID)
	b.Must(err)
	txn := fmt.Sprintf("%d/0/1", d.GetProducerId())
	query := url.Values{"action": {"abort"}, "id": {consoletest.OpenID}, "txn": {txn}}
	_, page := b.get("/confirm?" + query.Encode())
	if !strings.Contains(page, "cannot be undone") || !strings.Contains(page, "oncelog txn abort --txn "+txn) {
		b.Error(page)
	}
	query.Set("token", token.FindStringSubmatch(page)[1])
	resp, text := b.do(http.MethodPost, "/do", query, nil)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/transaction?id="+consoletest.OpenID {
		b.Fatal(resp.Status, resp.Header, text)
	}
	if err := b.Open.Commit(b.Context()); client.ClassOf(err) == client.ClassRetriable || err == nil {
		b.Errorf("the commit after it: %v", err)
	}
	if log := b.Log.String(); !strings.Contains(log, "action done") || !strings.Contains(log, "principal=alice") || !strings.Contains(log, "txn="+txn) {
		b.Error(log)
	}
	// A fence that was confirmed for an epoch that is over hits nobody.
	b.Commit(b.Context(), "turns")
	_, page = b.get("/confirm?action=fence&id=turns&epoch=0")
	b.Commit(b.Context(), "turns")
	form := url.Values{"action": {"fence"}, "id": {"turns"}, "epoch": {"0"}, "token": {token.FindStringSubmatch(page)[1]}}
	if resp, text := b.do(http.MethodPost, "/do", form, nil); resp.StatusCode != http.StatusConflict || !strings.Contains(text, "was not touched") {
		b.Error(resp.Status, text)
	}
	form.Set("epoch", "1")
	if resp, text := b.do(http.MethodPost, "/do", form, nil); resp.StatusCode != http.StatusSeeOther {
		b.Error(resp.Status, text)
	}
	if d, err := b.Scene.Client.Admin().DescribeTransaction(b.Context(), "turns"); err != nil || d.GetEpoch() != 2 {
		b.Error(d, err)
	}
	moveLeader(b)
}

func moveLeader(b *browser) {
	before, err := b.Scene.Client.Admin().DescribeCluster(b.Context())
	b.Must(err)
	to := before.GetCoordinatorLeader()%3 + 1
	path := fmt.Sprintf("/confirm?action=move-leader&shard=1&to=%d", to)
	_, page := b.get(path)
	form := url.Values{"action": {"move-leader"}, "shard": {"1"}, "to": {fmt.Sprint(to)}, "token": {token.FindStringSubmatch(page)[1]}}
	if resp, text := b.do(http.MethodPost, "/do", form, nil); resp.StatusCode != http.StatusSeeOther {
		b.Fatal(resp.Status, text)
	}
	after, err := b.Scene.Client.Admin().DescribeCluster(b.Context())
	b.Must(err)
	if after.GetCoordinatorLeader() != to {
		b.Errorf("coordinator %d leads, not %d", after.GetCoordinatorLeader(), to)
	}
}
