// Package services makes of the configuration what env-manager keeps: the built-in
// services with what a site says about them, and those that it adds.
//
// It owns nothing and does nothing but read values. What is wrong is reported all at
// once, in the form of the configuration's own mistakes: each names its key and the line
// that it stands in. There is nothing to recover after a crash.
package services
