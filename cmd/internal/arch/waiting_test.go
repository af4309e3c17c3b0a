package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// steppable are the folders whose code the simulator runs, with what is below
// them.
var steppable = []string{"raftstore/...", "coordinator/...", "partition/...", "client/..."}

// machineOnly are folders below those whose code runs on a machine only.
var machineOnly = map[string]string{
	"raftstore/rafttransport": "the real network",
	"raftstore/pebblelog":     "the real disk",
	"raftstore/memtransport":  "tests that run stores on goroutines",
	"raftstore/logtest":       "a suite of tests",
	"client/clienttest":       "a cluster for tests, on goroutines",

	"client/streams/state/statetest": "a suite of tests",
	"client/sink/sinktest":           "a suite of tests",
	"client/sink/postgres":           "a real database",
	"client/metrics":                 "called by scrapes, on goroutines",
}

// whyRuntime is printed with every violation.
const whyRuntime = "the simulator runs this code, one task at a time and by its own clock: whatever starts, waits, tells the " +
	"time or draws otherwise than through internal/task cannot be simulated, and no seed reproduces it"

// machineNames are names of the standard library that go around internal/task,
// and what to write instead.
var machineNames = map[string]map[string]string{
	"context": {
		"AfterFunc": "Runtime.Go and Runtime.Wait", "WithCancel": "Runtime.WithCancel",
		"WithCancelCause": "Runtime.WithCancelCause", "WithDeadline": "Runtime.WithDeadline",
		"WithDeadlineCause": "Runtime.WithDeadline", "WithTimeout": "Runtime.WithTimeout",
		"WithTimeoutCause": "Runtime.WithTimeout",
	},
	"runtime": {"Gosched": "Runtime.Yield"},
	"sync": {
		"Cond": "a channel that is closed, and Runtime.Wait", "NewCond": "a channel that is closed, and Runtime.Wait",
		"WaitGroup": "task.Group",
	},
	"time": {
		"After": "Runtime.WaitFor", "AfterFunc": "Runtime.AfterFunc", "NewTicker": "Runtime.Sleep in a loop",
		"NewTimer": "Runtime.WaitFor", "Now": "Runtime.Now, or Runtime.Wall for a time of day", "Since": "Runtime.Since", "Sleep": "Runtime.Sleep",
		"Tick": "Runtime.Sleep in a loop", "Until": "Runtime.Now", "Ticker": "Runtime.Sleep in a loop",
		"Timer": "task.Timer",
	},
}

// randTypes are the names of math/rand/v2 that draw nothing by themselves.
var randTypes = []string{"New", "NewPCG", "NewChaCha8", "NewZipf", "Rand", "Source", "PCG", "ChaCha8", "Zipf"}

// TestSteppableCodeWaitsThroughItsRuntime: shipping code starts goroutines,
// waits, tells the time and draws through internal/task and nowhere else.
func TestSteppableCodeWaitsThroughItsRuntime(t *testing.T) {
	t.Parallel()
	dirs := map[string]bool{}
	for _, f := range tree(t) {
		_, excepted := machineOnly[f.dir]
		if !f.test && !excepted && slices.ContainsFunc(steppable, func(s string) bool { return covers(s, f.dir) }) {
			dirs[f.dir] = true
		}
	}
	packages := newTolerantImporter(tree(t))
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		for _, finding := range packages.waitings(dir) {
			t.Errorf("%s: %s", finding, whyRuntime)
		}
	}
	for _, dir := range []string{"raftstore", "raftstore/memlog", "coordinator", "coordinator/txn", "partition", "client"} {
		if !dirs[dir] {
			t.Errorf("%s has not been looked at", dir)
		}
	}
}

// TestWaitingFindsViolations: a check that finds nothing might be a check that
// looks at nothing.
func TestWaitingFindsViolations(t *testing.T) {
	t.Parallel()
	const source = `package server

import (
	"context"
	r "math/rand/v2"
	"sync"
	"time"
)

type server struct {
	done chan struct{}
	wg   sync.WaitGroup                       // 12
	mu   sync.Mutex
	last time.Time
}

func (s *server) run(ctx context.Context, in <-chan int) {
	go s.run(ctx, in)                         // 18
	<-s.done                                  // 19
	select { case <-ctx.Done(): case <-in: }  // 20
	select { case <-in: <-s.done; default: }  // 21
	for range in {}                           // 22
	s.done <- struct{}{}                      // 23
	s.last = time.Now()                       // 24
	now := time.Since                         // 25
	ctx, stop := context.WithCancel(ctx)      // 26
	r.Shuffle(int(now(s.last)), func(int, int) { stop() }) // 27
	select {}                                 // 28
	answer := make(chan int, 0)
	answer <- 1                               // 30
	select { case answer <- 2: }              // 31
	f := func() { v, ok := <-in; _, _ = v, ok } // 32
	f()
}

type clock struct{}

func (clock) Now() time.Time { return time.UnixMilli(1) }

func (s *server) fine(ctx context.Context, time clock, seed uint64) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := make(chan int, 1)
	answer <- r.New(r.NewPCG(seed, seed)).IntN(3)
	func() { answer <- 2 }()
	select {
	case v := <-answer:
		close(s.done)
		return v
	case s.done <- struct{}{}:
	default:
	}
	for i := range 3 { _ = i }
	s.last = time.Now()
	return len(context.WithoutCancel(ctx).Err().Error())
}
`
	positions := token.NewFileSet()
	syntax, err := parser.ParseFile(positions, "server.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	packages := newTolerantImporter([]*file{{path: "server.go", dir: "server", syntax: syntax, positions: positions}})
	var lines []string
	for _, finding := range packages.waitings("server") {
		lines = append(lines, strings.Split(finding, ":")[1])
	}
	if got, want := strings.Join(lines, " "), "12 18 19 20 21 22 23 24 25 26 27 28 30 31 32"; got != want {
		t.Errorf("findings in lines %s, want %s", got, want)
	}
}

// tolerantImporter type-checks the module's own packages without any other:
// what comes from those has no type. That is enough to know channels, and which
// package a name belongs to, and takes no time.
type tolerantImporter struct {
	files []*file
	done  map[string]*types.Package
}

func newTolerantImporter(files []*file) *tolerantImporter {
	return &tolerantImporter{files: files, done: map[string]*types.Package{}}
}

// Import implements types.Importer.
func (p *tolerantImporter) Import(name string) (*types.Package, error) {
	dir, own := strings.CutPrefix(name, module+"/")
	if !own {
		return nil, errors.New("not looked at")
	}
	if p.done[dir] == nil {
		p.check(dir, nil)
	}
	return p.done[dir], nil
}

func (p *tolerantImporter) check(dir string, info *types.Info) []*file {
	pkg := types.NewPackage(module+"/"+dir, path.Base(dir))
	p.done[dir] = pkg
	var files []*file
	var syntax []*ast.File
	for _, f := range p.files {
		if f.dir == dir && !f.test {
			files = append(files, f)
			syntax = append(syntax, f.syntax)
		}
	}
	if len(files) > 0 {
		conf := types.Config{Importer: p, Error: func(error) {}}
		_ = types.NewChecker(&conf, files[0].positions, pkg, info).Files(syntax) // what other packages say is not known
	}
	return files
}

// waitings returns what in a package goes around internal/task.
func (p *tolerantImporter) waitings(dir string) []string {
	info := newInfo()
	var findings []string
	for _, f := range p.check(dir, info) {
		w := &waiting{f: f, info: info, free: map[ast.Node]bool{}, roomy: map[types.Object]bool{}}
		ast.Inspect(f.syntax, w.prepare)
		ast.Inspect(f.syntax, w.visit)
		findings = append(findings, w.findings...)
	}
	return findings
}

// waiting walks one file.
type waiting struct {
	f        *file
	info     *types.Info
	findings []string
	// free are the sends and receives that a select with a default makes, or
	// that are reported with their select.
	free map[ast.Node]bool
	// roomy are the variables that hold a channel which was made with room.
	roomy map[types.Object]bool
}

func (w *waiting) errorf(at token.Pos, format string, args ...any) {
	w.findings = append(w.findings, fmt.Sprintf("%s:%d: "+format, append([]any{w.f.path, w.f.line(at)}, args...)...))
}

// prepare notes the operations that never block.
func (w *waiting) prepare(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.SelectStmt:
		for _, c := range n.Body.List {
			w.free[operation(c.(*ast.CommClause).Comm)] = true
		}
	case *ast.AssignStmt:
		for i, right := range n.Rhs {
			if left, ok := n.Lhs[i].(*ast.Ident); ok && makesRoom(right) {
				w.roomy[w.info.Defs[left]] = true
			}
		}
	}
	return true
}

// operation returns the send or receive of a case of a select; nil: a default.
func operation(s ast.Stmt) ast.Node {
	switch s := s.(type) {
	case *ast.ExprStmt:
		return ast.Unparen(s.X)
	case *ast.AssignStmt:
		return ast.Unparen(s.Rhs[0])
	case nil:
		return nil
	default:
		return s
	}
}

// makesRoom reports whether an expression is make(chan T, n) with a number n
// other than 0.
func makesRoom(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok || len(call.Args) != 2 {
		return false
	}
	_, isChan := call.Args[0].(*ast.ChanType)
	n, isNumber := call.Args[1].(*ast.BasicLit)
	return isChan && isNumber && n.Value != "0"
}

func (w *waiting) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GoStmt:
		w.errorf(n.Pos(), "a go statement: use Runtime.Go or task.Group")
	case *ast.SelectStmt:
		if !slices.ContainsFunc(n.Body.List, func(s ast.Stmt) bool { return s.(*ast.CommClause).Comm == nil }) {
			w.errorf(n.Pos(), "a select that can block: use Runtime.Wait, or task.Receive")
		}
	case *ast.UnaryExpr:
		if n.Op == token.ARROW && !w.free[n] {
			w.errorf(n.Pos(), "a receive that can block: use Runtime.Wait, or task.Receive")
		}
	case *ast.SendStmt:
		if to, ok := n.Chan.(*ast.Ident); !w.free[n] && (!ok || !w.roomy[w.info.Uses[to]]) {
			w.errorf(n.Pos(), "a send that can block: make the channel with room in this function, or use a select with a default")
		}
	case *ast.RangeStmt:
		if tv, ok := w.info.Types[n.X]; ok {
			if _, isChan := tv.Type.Underlying().(*types.Chan); isChan {
				w.errorf(n.Pos(), "a range over a channel: use task.Receive")
			}
		}
	case *ast.SelectorExpr:
		w.name(n)
	}
	return true
}

// name reports a name of the standard library that goes around internal/task.
func (w *waiting) name(n *ast.SelectorExpr) {
	x, ok := n.X.(*ast.Ident)
	if !ok {
		return
	}
	pkg, ok := w.info.Uses[x].(*types.PkgName)
	if !ok {
		return
	}
	from, name := pkg.Imported().Path(), n.Sel.Name
	if instead, bad := machineNames[from][name]; bad {
		w.errorf(n.Pos(), "%s.%s: use %s", from, name, instead)
	}
	if from == "math/rand/v2" && !slices.Contains(randTypes, name) {
		w.errorf(n.Pos(), "%s.%s: use Runtime.Rand or Runtime.Uint64", from, name)
	}
}
