package arch

import (
	"go/ast"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTopLevelFolders: the top level reads as one sentence, so it has no room
// for more. proto says the words, api is those words in Go, coordinator decides
// through raftstore, partition keeps the records, client is how you use it, cmd
// starts it, deploy ships it, docs say what it promises.
func TestTopLevelFolders(t *testing.T) {
	t.Parallel()
	folders := []string{"proto", "api", "coordinator", "raftstore", "partition", "client", "internal", "cmd", "deploy", "docs"}
	ignored, err := ignoredFolders()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || slices.Contains(ignored, e.Name()) {
			continue
		}
		if !slices.Contains(folders, e.Name()) {
			t.Errorf("top-level folder %s: everything has its place in one of %s", e.Name(), strings.Join(folders, ", "))
		}
	}
}

// TestPackageNames: a package named after nothing collects everything.
func TestPackageNames(t *testing.T) {
	t.Parallel()
	empty := []string{"util", "utils", "common", "helper", "helpers", "types", "base", "misc", "shared", "lib"}
	for _, f := range tree(t) {
		if name := strings.TrimSuffix(f.syntax.Name.Name, "_test"); slices.Contains(empty, name) {
			t.Errorf("%s: package %s says nothing: name it after what it provides", f.path, name)
		}
	}
}

// TestPackageComments: a package without a comment that says what it is for has
// not been thought through.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	documented := map[string]bool{}
	for _, f := range tree(t) {
		if f.test {
			continue
		}
		doc := f.syntax.Doc.Text()
		name := f.syntax.Name.Name
		begins := strings.HasPrefix(doc, "Package "+name+" ") || name == "main" && strings.HasPrefix(doc, "Command ")
		documented[f.dir] = documented[f.dir] || begins || f.generated
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s: no file has a package comment that begins with \"Package NAME\" (a program: \"Command NAME\")", dir)
		}
	}
}

// TestExportedNamesAreDocumented: an exported name is a promise; the comment is
// what is promised.
func TestExportedNamesAreDocumented(t *testing.T) {
	t.Parallel()
	for _, f := range tree(t) {
		if f.test || f.generated || f.syntax.Name.Name == "main" {
			continue
		}
		for _, d := range f.syntax.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && exportedReceiver(d) {
					t.Errorf("%s:%d: %s is exported and has no comment", f.path, f.line(d.Pos()), functionName(d))
				}
			case *ast.GenDecl:
				for _, name := range undocumented(d) {
					t.Errorf("%s:%d: %s is exported and has no comment", f.path, f.line(name.Pos()), name.Name)
				}
			}
		}
	}
}

// exportedReceiver reports whether a function is no method, or one of an
// exported type. Methods that only fulfil a well-known interface need no words.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	wellKnown := []string{"Error", "Unwrap", "Is", "As", "String", "Len", "Less", "Swap"}
	return ast.IsExported(receiverType(d)) && !slices.Contains(wellKnown, d.Name.Name)
}

// undocumented returns the exported names of a declaration that neither it nor
// their own line says anything about.
func undocumented(d *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
				names = append(names, s.Name)
			}
		case *ast.ValueSpec:
			if s.Doc != nil || s.Comment != nil || d.Doc != nil {
				continue
			}
			for _, name := range s.Names {
				if name.IsExported() {
					names = append(names, name)
				}
			}
		}
	}
	return names
}
