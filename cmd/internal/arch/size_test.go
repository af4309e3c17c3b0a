package arch

import (
	"go/ast"
	"testing"
)

// Lengths. Medians are alike everywhere; code bases differ in the tail, and
// there is where readers get lost.
const (
	maxFileLines     = 800
	maxFunctionLines = 80
)

// longer lists what may be longer, with the length that it has and the reason.
// The number only ever goes down.
var longer = map[string]struct {
	lines int
	why   string
}{}

func TestFilesAreShort(t *testing.T) {
	t.Parallel()
	for _, f := range tree(t) {
		if f.generated {
			continue
		}
		checkLength(t, f.path, f.lines, maxFileLines, "split it by meaning")
	}
}

// TestFunctionsAreShort leaves tests alone: a long table is easy to read.
func TestFunctionsAreShort(t *testing.T) {
	t.Parallel()
	for _, f := range tree(t) {
		if f.generated || f.test {
			continue
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			lines := f.line(fn.End()) - f.line(fn.Pos()) + 1
			checkLength(t, f.path+":"+functionName(fn), lines, maxFunctionLines, "name its parts as functions")
		}
	}
}

func checkLength(t *testing.T, what string, lines, limit int, advice string) {
	t.Helper()
	exception, excepted := longer[what]
	switch {
	case excepted && lines <= limit:
		t.Errorf("%s has %d lines: it needs no exception any more, remove it from the list", what, lines)
	case excepted && lines > exception.lines:
		t.Errorf("%s has grown from %d to %d lines (it is an exception: %s)", what, exception.lines, lines, exception.why)
	case !excepted && lines > limit:
		t.Errorf("%s has %d lines, more than %d: %s", what, lines, limit, advice)
	}
}

// functionName returns Type.Method or Function.
func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil || len(fn.Recv.List) == 0 {
		return fn.Name.Name
	}
	return receiverType(fn) + "." + fn.Name.Name
}

// receiverType returns the name of a method's type, without pointer and type
// parameters.
func receiverType(fn *ast.FuncDecl) string {
	e := fn.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}
