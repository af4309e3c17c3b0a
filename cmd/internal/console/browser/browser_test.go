package browser

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/oncelog/oncelog/cmd/internal/console/consoletest"
)

var pictures = flag.String("pictures", "", "folder to which the pictures of docs/CONSOLE.md are written; with -all-pictures those of all pages")

var allPictures = flag.Bool("all-pictures", false, "also write the pictures that docs do not show")

// shown are the pictures in docs/CONSOLE.md.
var shown = []string{"cluster", "live", "transaction", "records", "transactions-phone"}

// patience bounds the whole test.
const patience = 90 * time.Second

// tab is a page in a browser, with what the browser complained of.
type tab struct {
	*consoletest.Scene
	ctx context.Context

	mu         sync.Mutex
	complaints []string
}

// open starts a browser, which ends with the test.
func open(s *consoletest.Scene) *tab {
	s.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		s.Skip("there is no Chromium: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(s.TempDir()), chromedp.WindowSize(1100, 800), chromedp.Flag("disable-dev-shm-usage", true))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium refuses to sandbox what root starts
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	s.Cleanup(cancel)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	s.Cleanup(stop)
	b := &tab{Scene: s}
	b.ctx, cancel = chromedp.NewContext(ctx, chromedp.WithListener(b.listen))
	s.Cleanup(cancel)
	b.run(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err1 := chromedp.Call(ctx, cdplog.Enable, cdp.Empty{})
		_, err2 := chromedp.Call(ctx, runtime.Enable, cdp.Empty{})
		return errors.Join(err1, err2)
	}))
	// What is not heard cannot be complained of.
	evaluate[*int](b, `console.error("heard")`)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) != 1 || !strings.Contains(b.complaints[0], "heard") {
		s.Fatalf("the browser is not heard: %q", b.complaints)
	}
	b.complaints = nil
	return b
}

// listen keeps what the browser complains of.
func (b *tab) listen(event any) {
	text := ""
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Text + " at " + e.ExceptionDetails.URL
	case *runtime.EventConsoleAPICalled:
		if e.Type != runtime.ConsoleAPICalledTypeError && e.Type != runtime.ConsoleAPICalledTypeWarning {
			return
		}
		for _, a := range e.Args {
			text += fmt.Sprint(a.Value, " ")
		}
	case *cdplog.EventEntryAdded:
		if e.Entry.Level != cdplog.EntryLevelError && e.Entry.Level != cdplog.EntryLevelWarning {
			return
		}
		text = e.Entry.Text + " " + e.Entry.URL
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complaints = append(b.complaints, text)
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

func (b *tab) visit(path string) {
	b.Helper()
	b.run(chromedp.Navigate(b.Server.URL+path), chromedp.WaitReady(chromedp.CSS("main")))
}

// evaluate returns what an expression is on the page.
func evaluate[T any](b *tab, expression string) T {
	b.Helper()
	out, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	b.Must(err)
	return out
}

// until waits for an expression to be true on the page.
func (b *tab) until(expression string) {
	b.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Poll[bool](expression, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(20*time.Second))); err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
}

// views are all pages, by the name of their picture.
func views() [][2]string {
	return [][2]string{
		{"cluster", "/"},
		{"transactions", "/transactions"},
		{"transaction", "/transaction?id=" + consoletest.OpenID},
		{"topics", "/topics"},
		{"topic", "/topic?name=orders"},
		{"records", "/records?topic=orders&partition=0"},
		{"groups", "/groups"},
		{"group", "/group?id=" + consoletest.Group},
		{"confirm", "/confirm?action=fence&epoch=0&id=" + consoletest.OpenID},
		{"hostile", "/transactions?id=%3Cscript%3E"},
	}
}

func TestBrowser(t *testing.T) {
	b := open(consoletest.Start(t))
	for _, step := range []struct {
		name string
		test func(*tab)
	}{
		{"pages", testPages}, {"live", testLive}, {"keyboard", testKeyboard}, {"without script", testNoScript}, {"action", testAction},
	} {
		t.Run(step.name, func(t *testing.T) {
			b.T = t
			step.test(b)
		})
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.complaints) > 0 {
		t.Errorf("the browser complained:\n%s", strings.Join(b.complaints, "\n"))
	}
}

// testPages: every page has what it is for, is no wider than any screen, and asks for
// nothing that is elsewhere.
func testPages(b *tab) {
	for _, v := range views() {
		name, path := v[0], v[1]
		b.run(chromedp.EmulateViewport(1100, 800))
		b.visit(path)
		if got := evaluate[string](b, `document.querySelector("h1").innerText`); got == "" {
			b.Errorf("%s has no title", path)
		}
		if n := evaluate[int](b, `performance.getEntriesByType("resource").filter((r) => new URL(r.name).origin !== location.origin).length`); n != 0 {
			b.Errorf("%s loads %d things from elsewhere", path, n)
		}
		if n := evaluate[int](b, `[...document.querySelectorAll("input:not([type=hidden]), select")].filter((f) => !f.labels.length).length`); n != 0 {
			b.Errorf("%s has %d fields without a label", path, n)
		}
		b.picture(name)
		b.run(chromedp.EmulateViewport(390, 844))
		if wide := evaluate[int](b, `document.documentElement.scrollWidth`); wide > 390 {
			b.Errorf("%s is %d pixels wide on a screen of 390: %s", path, wide, evaluate[string](b,
				`[...document.querySelectorAll("main *")].filter((e) => !e.closest(".scroll") && e.getBoundingClientRect().right > 391).map((e) => e.outerHTML.slice(0, 200)).join("\n")`))
		}
		b.picture(name + "-phone")
	}
	b.run(chromedp.EmulateViewport(1100, 800))
	b.visit("/")
	if text := evaluate[string](b, `document.body.innerText`); !strings.Contains(text, "All nodes answer") || !strings.Contains(text, "coordinator 3") {
		b.Error(text)
	}
}

// testLive: what happens is on the page without loading it again.
func testLive(b *tab) {
	b.visit("/transactions")
	b.until(`document.getElementById("livestate").textContent === "live"`)
	b.Commit(b.Context(), "just-now")
	b.until(`document.getElementById("feed").textContent.includes("just-now")`)
	b.until(`document.querySelector("#fresh table").textContent.includes("just-now")`)
	b.until(`[...document.querySelectorAll("#fresh tr")].some((r) => r.textContent.includes("just-now") && r.textContent.includes("complete-commit"))`)
	b.picture("live")
}

// testKeyboard: the first key leads past the menu, all else is reached in order, and
// where one is can be seen.
func testKeyboard(b *tab) {
	b.visit("/topics")
	b.run(chromedp.KeyEvent(kb.Tab))
	if at := evaluate[string](b, `document.activeElement.className`); at != "skip" {
		b.Errorf("the first thing that is reached is %q", at)
	}
	if left := evaluate[float64](b, `document.activeElement.getBoundingClientRect().left`); left < 0 {
		b.Errorf("the skip link is not seen: it begins at %v", left)
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	b.until(`document.activeElement.id === "main"`)
	for range 10 {
		b.run(chromedp.KeyEvent(kb.Tab))
		if evaluate[string](b, `document.activeElement.textContent`) == "orders" {
			break
		}
	}
	if style := evaluate[string](b, `getComputedStyle(document.activeElement).outlineStyle`); style != "solid" {
		b.Errorf("the focus is not seen: %q", style)
	}
	b.run(chromedp.KeyEvent(kb.Enter))
	b.run(chromedp.WaitVisible(chromedp.CSS(`a[href^="/records?"]`)))
}

// testNoScript: the pages say the same without scripts.
func testNoScript(b *tab) {
	scripts := func(off bool) chromedp.Action[chromedp.Void] {
		return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
			_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: off})
			return err
		})
	}
	b.run(scripts(true))
	defer b.run(scripts(false))
	b.visit("/transactions")
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS("body")))
	b.Must(err)
	if !strings.Contains(text, consoletest.OpenID) || !strings.Contains(text, "load it again") || strings.Contains(text, "AS IT HAPPENS") {
		b.Error(text)
	}
}

// testAction: an abort is asked for, confirmed, and done.
func testAction(b *tab) {
	b.visit("/transaction?id=" + consoletest.OpenID)
	b.run(chromedp.Click(chromedp.CSS(`a.danger[href*="action=abort"]`)), chromedp.WaitVisible(chromedp.CSS(`form.confirm`)))
	b.run(chromedp.Click(chromedp.CSS(`form.confirm button`)), chromedp.WaitVisible(chromedp.CSS(`.timeline`)))
	b.until(`document.querySelector(".timeline").textContent.includes("aborted (admin)")`)
	b.picture("aborted")
	d, err := b.Client.Admin().DescribeTransaction(b.Context(), consoletest.OpenID)
	b.Must(err)
	if d.GetOpen() != nil {
		b.Error("it is open still")
	}
}

// picture writes what is on the screen, if pictures are wanted.
func (b *tab) picture(name string) {
	b.Helper()
	if *pictures == "" || !*allPictures && !slices.Contains(shown, name) {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	b.Must(err)
	b.Must(os.MkdirAll(*pictures, 0o755))
	b.Must(os.WriteFile(filepath.Join(*pictures, fmt.Sprintf("%s.png", name)), png, 0o644))
}
