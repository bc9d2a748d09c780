// Package e2e tests the product from outside: the real binaries, real processes,
// real kill -9. It holds no code for the product.
//
// Each test has a world of its own: a scratch workspace, a runtime directory,
// and so a daemon and a supervisor that no other test meets.
package e2e
