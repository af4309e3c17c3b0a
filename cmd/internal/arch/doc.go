// Package arch holds the rules of the house as tests: which package may import
// which, what a pure core may contain, how long files and functions may be,
// what must be documented, and which modules the product depends on. Every rule
// carries its reason; a failure prints it.
//
// # File map
//
//	tree_test.go     reads and parses the tree, once
//	imports_test.go  the table of import directions
//	purity_test.go   the pure cores: no goroutine, channel, map order or changing variable
//	waiting_test.go  simulated code waits through internal/task only
//	size_test.go     lengths of files and functions, with a ratchet for exceptions
//	names_test.go    package comments, exported names, package names, top-level folders
//	modules_test.go  direct dependencies, each with a reason
//	docs_test.go     code and links in docs
//
// What a linter knows is left to golangci-lint (.golangci.yml).
package arch
