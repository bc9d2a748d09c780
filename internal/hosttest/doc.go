// Package hosttest is for tests with several hosts: a process that takes itself for one on
// a machine of its own, and a conversation with it.
//
// It owns nothing that outlives the test: the namespaces end with their first process.
package hosttest
