// Package taskfiles is about the files of attempts: where they are (Layout), how
// a payload is written for a program, how its result is read (ReadResult), and how
// its output is read while it grows, and kept within bounds (Log, CutLog).
//
// A program may put anything in the place of its files: a link, a FIFO, a folder.
// Nothing here follows, or waits for, any of them. The package owns no file:
// backends make and remove them. After a crash a payload is whole or not there, and
// what was to be cut out of an output is noted before it goes.
package taskfiles
