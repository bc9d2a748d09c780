package slurm

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

// The claim of an attempt is a file that is made with link(2), by the job that works or by
// us, who then know that none ever will. See wrapper.sh.
const (
	claimFile = "claim"
	voidWord  = "void"
)

// takeClaim makes the claim, so that no job can work any more. taken is false when a job
// was first, or may have been.
func (f folder) takeClaim() (taken bool, err error) {
	if err := os.MkdirAll(f.layout.JobDir(f.ref), 0o700); err != nil {
		return false, err
	}
	if err := f.put(claimFile+"."+voidWord, []byte(voidWord+"\n")); err != nil {
		return false, err
	}
	err = os.Link(f.path(claimFile+"."+voidWord), f.path(claimFile))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	// What follows from the claim must not be on disk before it.
	if err := syncDir(f.layout.JobDir(f.ref)); err != nil {
		return false, err
	}
	return f.voided(), nil // on NFS an answer that was lost looks like a refusal
}

// voided says whether the claim is ours.
func (f folder) voided() bool {
	b, err := os.ReadFile(f.path(claimFile))
	return err == nil && strings.TrimSpace(string(b)) == voidWord
}

// claimed says whether a job has the claim.
func (f folder) claimed() bool {
	b, err := os.ReadFile(f.path(claimFile))
	return err == nil && strings.TrimSpace(string(b)) != voidWord
}
