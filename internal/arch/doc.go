// Package arch holds the rules about the code base as a whole, as tests. It has
// no code of its own and nothing imports it.
//
//   - imports_test.go: who may import whom, and which outside modules are fenced
//     into which packages;
//   - state_test.go: nothing outside internal/task writes a task's state;
//   - goroutines_test.go: which packages start goroutines, and who waits for them;
//   - habits_test.go: no sleeping in tests, no reading of error texts.
//
// The tests read every .go file of the module from disk, whatever its build
// tags, so that a rule holds on systems this one is not. They need neither the
// network nor a package that compiles.
//
// A rule is a row of a table with a reason beside it. To change one, change its
// row and say why; a change of the arrows themselves is a decision for docs/adr.
package arch
