package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// module is the path before every file in a profile.
const module = "github.com/oncelog/oncelog/"

// block is a run of statements that are carried out together.
type block struct {
	first, last int // lines
	statements  int
	reached     bool
	excused     bool
}

// source is one file.
type source struct {
	name   string // within the module
	lines  []string
	funcs  []function
	blocks []*block
}

// function is where a function is: Name, or Type.Name.
type function struct {
	name        string
	first, last int
}

// profile is what was reached, by file.
type profile struct {
	files map[string]*source
	names []string // of files, in order
}

// parse reads a profile in the text format, and the files that it is about.
func parse(root, text string) (*profile, error) {
	p := &profile{files: map[string]*source{}}
	type place struct {
		file  string
		where string
	}
	seen := map[place]*block{}
	for in := bufio.NewScanner(strings.NewReader(text)); in.Scan(); {
		line := in.Text()
		if strings.HasPrefix(line, "mode:") {
			continue
		}
		at, where, ok := strings.Cut(line, ":")
		var firstLine, firstColumn, lastLine, lastColumn, statements, count int
		if _, err := fmt.Sscanf(where, "%d.%d,%d.%d %d %d", &firstLine, &firstColumn, &lastLine, &lastColumn, &statements, &count); err != nil || !ok {
			return nil, fmt.Errorf("a profile with the line %q", line)
		}
		name := strings.TrimPrefix(at, module)
		f := p.files[name]
		if f == nil {
			var err error
			if f, err = readSource(root, name); err != nil {
				return nil, err
			}
			p.files[name] = f
			p.names = append(p.names, name)
		}
		key := place{name, where[:strings.LastIndexByte(where, ' ')]}
		b := seen[key]
		if b == nil {
			b = &block{first: firstLine, last: lastLine, statements: statements}
			seen[key] = b
			f.blocks = append(f.blocks, b)
		}
		b.reached = b.reached || count > 0
	}
	slices.Sort(p.names)
	for _, f := range p.files {
		slices.SortFunc(f.blocks, func(a, b *block) int { return a.first - b.first })
	}
	return p, nil
}

// readSource reads a file and finds its functions.
func readSource(root, name string) (*source, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	f := &source{name: name, lines: strings.Split(string(text), "\n")}
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, d := range tree.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok {
			f.funcs = append(f.funcs, function{
				name: functionName(fn), first: set.Position(fn.Pos()).Line, last: set.Position(fn.End()).Line,
			})
		}
	}
	return f, nil
}

// functionName returns Type.Method or Function.
func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	t := fn.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if generic, ok := t.(*ast.IndexExpr); ok {
		t = generic.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name + "." + fn.Name.Name
	}
	return fn.Name.Name
}

// in returns the function that a line is in.
func (f *source) in(line int) string {
	for _, fn := range f.funcs {
		if fn.first <= line && line <= fn.last {
			return fn.name
		}
	}
	return ""
}

// counts are the figures of a package.
type counts struct{ statements, reached, excused int }

// raw is the share that was reached, in percent.
func (c counts) raw() float64 { return 100 * float64(c.reached) / float64(c.statements) }

// reachable is the share of what can be reached, in percent.
func (c counts) reachable() float64 {
	return 100 * float64(c.reached) / float64(max(c.statements-c.excused, 1))
}

// counts adds up the files of one folder.
func (p *profile) counts(dir string) (c counts) {
	for _, name := range p.names {
		if path.Dir(name) != dir {
			continue
		}
		for _, b := range p.files[name].blocks {
			c.statements += b.statements
			switch {
			case b.reached:
				c.reached += b.statements
			case b.excused:
				c.excused += b.statements
			}
		}
	}
	return c
}

// listMissing prints what was not reached and should have been.
func (p *profile) listMissing(out io.Writer, dir string) {
	for _, name := range p.names {
		f := p.files[name]
		for _, b := range f.blocks {
			if path.Dir(name) == dir && !b.reached && !b.excused && b.statements > 0 {
				_, _ = fmt.Fprintf(out, "  %s:%s %s: %s\n", name, strconv.Itoa(b.first), f.in(b.first), strings.TrimSpace(f.lines[b.first-1]))
			}
		}
	}
}
