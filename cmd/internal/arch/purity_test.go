package arch

import (
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"
)

// cores are the pure state machines.
var cores = []string{"coordinator/txn", "coordinator/group", "coordinator/catalog", "coordinator/membership", "partition/pstate"}

// anyOrder marks a loop over a map whose result does not depend on the order,
// and says why: `// a sum: the order does not matter`.
const anyOrder = "the order does not matter"

// TestCoresArePure checks what the import rules cannot: that a core has no
// goroutine and no channel, never depends on the order of a map, and keeps no
// state outside of its object. (KAFKA-14417 and many others: state outside of
// the state machine is lost, or differs between replicas.)
func TestCoresArePure(t *testing.T) {
	t.Parallel()
	source := importer.ForCompiler(token.NewFileSet(), "source", nil)
	packages := &packageImporter{files: tree(t), std: source, done: map[string]*types.Package{}}
	for _, dir := range cores {
		info := newInfo()
		files, err := packages.check(dir, info)
		if err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		for _, f := range files {
			for _, finding := range findings(f, info) {
				t.Error(finding)
			}
		}
	}
}

// TestPurityFindsViolations: a check that finds nothing might be a check that
// looks at nothing.
func TestPurityFindsViolations(t *testing.T) {
	t.Parallel()
	const source = `package core

import ("maps"; "slices")

var table = map[int]int{1: 2}
var counter int

func f(m map[int]int) (n int) {
	go f(m)                             // 9
	_ = make(chan int)                  // 10
	for k := range m { n += k }         // 11
	for k := range maps.Keys(m) { n += k } // 12
	counter++                           // 13
	table[1] = 3                        // 14
	p := &counter                       // 15
	_ = p
	for range m { n++ }                 // a count: the order does not matter
	keys := slices.Collect(maps.Keys(m))
	slices.Sort(keys)
	for _, k := range slices.Sorted(maps.Values(m)) { n += k + keys[0] }
	return n + table[1] + counter
}
`
	positions := token.NewFileSet()
	syntax, err := parser.ParseFile(positions, "core.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	f := &file{path: "core.go", dir: "core", syntax: syntax, positions: positions}
	packages := &packageImporter{
		files: []*file{f}, std: importer.ForCompiler(positions, "source", nil), done: map[string]*types.Package{},
	}
	info := newInfo()
	if _, err := packages.check("core", info); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, finding := range findings(f, info) {
		lines = append(lines, strings.Split(finding, ":")[1])
	}
	if got, want := strings.Join(lines, " "), "9 10 11 12 13 14 15"; got != want {
		t.Errorf("findings in lines %s, want %s", got, want)
	}
}

func newInfo() *types.Info {
	return &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
}

// packageImporter type-checks the module's own packages from the tree and
// leaves the standard library to std.
type packageImporter struct {
	files []*file
	std   types.Importer
	done  map[string]*types.Package
}

// Import implements types.Importer.
func (p *packageImporter) Import(path string) (*types.Package, error) {
	dir, own := strings.CutPrefix(path, module+"/")
	if !own {
		return p.std.Import(path)
	}
	if pkg, ok := p.done[dir]; ok {
		return pkg, nil
	}
	_, err := p.check(dir, nil)
	return p.done[dir], err
}

// check type-checks the package of a folder, without its tests.
func (p *packageImporter) check(dir string, info *types.Info) ([]*file, error) {
	var files []*file
	var syntax []*ast.File
	for _, f := range p.files {
		if f.dir == dir && !f.test {
			files = append(files, f)
			syntax = append(syntax, f.syntax)
		}
	}
	if len(files) == 0 {
		return nil, nil
	}
	conf := types.Config{Importer: p}
	pkg, err := conf.Check(module+"/"+dir, files[0].positions, syntax, info)
	p.done[dir] = pkg
	return files, err
}

// marks returns the lines that an anyOrder comment covers: its own and the one
// below it.
func marks(f *file) map[int]bool {
	lines := map[int]bool{}
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			if strings.Contains(c.Text, anyOrder) {
				lines[f.line(group.End())] = true
				lines[f.line(group.End())+1] = true
			}
		}
	}
	return lines
}

// purity walks one file of a core.
type purity struct {
	f        *file
	info     *types.Info
	marks    map[int]bool
	findings []string
	// sorted are calls whose results are sorted: they stand directly inside a
	// function that sorts, or in a statement that is followed by one.
	sorted map[ast.Expr]bool
}

func (p *purity) errorf(at token.Pos, format string, args ...any) {
	p.findings = append(p.findings, fmt.Sprintf("%s:%d: "+format, append([]any{p.f.path, p.f.line(at)}, args...)...))
}

// findings returns what is impure in a type-checked file.
func findings(f *file, info *types.Info) []string {
	p := &purity{f: f, info: info, marks: marks(f), sorted: map[ast.Expr]bool{}}
	p.check()
	return p.findings
}

func (p *purity) check() {
	ast.Inspect(p.f.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			p.errorf(n.Pos(), "a core starts no goroutine")
		case *ast.ChanType:
			p.errorf(n.Pos(), "a core has no channel")
		case *ast.RangeStmt:
			if _, isMap := p.typeOf(n.X).(*types.Map); isMap && !p.marks[p.f.line(n.Pos())] {
				p.errorf(n.Pos(), "range over a map has another order on every replica: use slices.Sorted(maps.Keys(m)), "+
					"or say why not with a comment `// ...: %s`", anyOrder)
			}
		case *ast.BlockStmt:
			p.block(n.List)
		case *ast.CaseClause:
			p.block(n.Body)
		case *ast.CallExpr:
			p.call(n)
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				p.changed(left)
			}
		case *ast.IncDecStmt:
			p.changed(n.X)
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				p.changed(n.X)
			}
		}
		return true
	})
}

func (p *purity) typeOf(e ast.Expr) types.Type {
	if tv, ok := p.info.Types[e]; ok {
		return tv.Type.Underlying()
	}
	return nil
}

// block marks the calls of every statement whose next one sorts.
func (p *purity) block(statements []ast.Stmt) {
	for i := range len(statements) - 1 {
		next, ok := statements[i+1].(*ast.ExprStmt)
		if !ok {
			continue
		}
		call, ok := next.X.(*ast.CallExpr)
		if !ok {
			continue
		}
		if pkg, name := p.called(call); pkg == "slices" && strings.HasPrefix(name, "Sort") {
			ast.Inspect(statements[i], func(n ast.Node) bool {
				if e, ok := n.(ast.Expr); ok {
					p.sorted[e] = true
				}
				return true
			})
		}
	}
}

// call reports iterators over maps that are not sorted at once.
func (p *purity) call(n *ast.CallExpr) {
	pkg, name := p.called(n)
	if pkg == "slices" && strings.HasPrefix(name, "Sorted") {
		for _, arg := range n.Args {
			p.sorted[arg] = true
		}
	}
	if pkg == "maps" && (name == "Keys" || name == "Values" || name == "All") && !p.sorted[n] && !p.marks[p.f.line(n.Pos())] {
		p.errorf(n.Pos(), "maps.%s has another order on every replica: put it inside slices.Sorted, "+
			"or say why not with a comment `// ...: %s`", name, anyOrder)
	}
}

// called returns package and name of a called package-level function.
func (p *purity) called(n *ast.CallExpr) (pkg, name string) {
	sel, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	fn, ok := p.info.Uses[sel.Sel].(*types.Func)
	if !ok || fn.Pkg() == nil || fn.Signature().Recv() != nil {
		return "", ""
	}
	return fn.Pkg().Path(), fn.Name()
}

// changed reports an assignment to a package-level variable, or to something
// inside one, and the taking of its address.
func (p *purity) changed(e ast.Expr) {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.Ident:
			v, ok := p.info.Uses[x].(*types.Var)
			if ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
				p.errorf(x.Pos(), "package-level variable %s is changed: state belongs into the object, "+
					"where snapshots, replays and other replicas see it", x.Name)
			}
			return
		default:
			return
		}
	}
}
