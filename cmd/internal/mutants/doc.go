// Command mutants plants bugs in the shipping code, one at a time, and hunts
// each with the simulator: a simulator that does not find them would not find
// the next real one either.
//
// A mutant is a text file in the folder planted. Nothing is planted in the
// sources themselves: the compiler is given an overlay in which one or two files
// differ, and builds the program ./victim from it, which runs seeds of
// cmd/internal/sim and nothing else. The mutant is killed by the first seed that
// shows a violation of one of the invariants that it names. A seed that fails
// without the mutant, too, does not count, and fails the run.
//
//	go run ./cmd/internal/mutants                 # all, up to 1,000 seeds each
//	go run ./cmd/internal/mutants -run lso -v     # those with such names; say what was seen
//	go run ./cmd/internal/mutants -hits 10        # how many seeds in how many find it
//	go run ./cmd/internal/mutants -note           # next time begin with the seeds that found them
//	go run ./cmd/internal/mutants -build          # do they still apply and compile?
//
// # The format
//
// The file's name, less .mutant, is the mutant's. Fields come first, one to a
// line, which indented lines continue; edits follow:
//
//	stands for: F1, Redpanda 3036
//	bug:        the last stable offset includes the first undecided record
//	expect:     I3, I8
//	@ partition/pstate/visible.go
//	 	if p.open.head != nil {
//	-		return End(p.open.head.first)
//	+		return End(p.open.head.first + 1)
//
// An edit names a file and shows whole lines of it as a diff does: "-" are taken
// away, "+" are added, " " stay. The lines that are there now must occur exactly
// once, else the mutant is stale: somebody has changed the code under it, and
// must say anew what the bug would look like.
//
// The fields:
//
//	stands for  hazard, issue or rule that it is an instance of
//	bug         what the code does wrong, in a sentence
//	expect      what may report it: invariants of protocol.md section 10, or words
//	            of the simulator such as "panic" or "node stopped", where that is how
//	            such a bug shows. Anything else that a seed reports is noted, and the
//	            hunt goes on
//	seeds       the limit, if it is not 1,000
//	seen at     a seed that has found it, with which the hunt begins: for one that
//	            is found late. -note writes it. When the code changes, seeds
//	            become other worlds, and the hunt goes on with all of them
//	script      how to change each seed's plan, for a bug that random plans meet too
//	            seldom: the name of one of the scripts of ./victim
//	test        package whose tests must fail, instead of seeds, for a defence that no
//	            honest client needs; expect names the tests
package main
