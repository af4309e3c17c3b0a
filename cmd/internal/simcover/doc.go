// Command simcover tells how much of the code the simulator reaches by itself.
//
// It builds the program with counters, runs simulated worlds in it, and prints for
// each package how many of its statements were carried out:
//
//	go run ./cmd/internal/simcover [-start N] [-seeds N] [-v]
//
// What no world can reach is listed in unreachable.txt, with the reason, and
// counted apart. Below the minimum of a package it fails, and prints what was not
// reached; so it does with -v. An entry of the list that fits nothing any more is a
// failure, too.
//
//	main.go         what is run, and what is printed
//	profile.go      the counters, by package
//	unreachable.go  the list
package main
