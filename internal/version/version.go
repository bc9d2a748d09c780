// Package version says which build of the project is running.
//
// It owns two strings, stamped by the Makefile through -ldflags -X; a build
// made without it (go install, go run) takes what the Go tool recorded. They
// never change while a process runs, so there is nothing to lose in a crash.
package version

import "runtime/debug"

// Set at link time; read them through String, which knows what to say when they
// are not.
var (
	// Version is what git describe said, or "dev".
	Version = "dev"
	// Commit is the full hash of the commit, or "" when it is not known.
	Commit = ""
)

// shortHash is how much of a commit's hash people read out to each other.
const shortHash = 12

// String returns the version in one word, as users see it and as it goes over
// the wire: "v1.2.0", "v1.2.0-3-gabc1234", or "dev+0123456789ab" when only the
// commit is known.
func String() string {
	info, _ := debug.ReadBuildInfo()
	return describe(Version, Commit, info)
}

// describe is String without the globals. info may be nil.
func describe(version, commit string, info *debug.BuildInfo) string {
	if version != "dev" && version != "" {
		return version
	}
	// go install module@v1.2.0 records the version; a build from a checkout
	// records "(devel)" or a pseudo-version, which says less than the commit.
	if info != nil {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && commit == "" {
				commit = s.Value
			}
		}
		if v := info.Main.Version; commit == "" && v != "" && v != "(devel)" {
			return v
		}
	}
	if commit == "" {
		return "dev"
	}
	return "dev+" + commit[:min(shortHash, len(commit))]
}
