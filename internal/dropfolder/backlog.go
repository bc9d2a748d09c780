package dropfolder

import "github.com/dspy-agent/dspy-agent/internal/envelope"

// Backlog is what waits in a drop folder for somebody who owns the queue.
type Backlog struct {
	Pending  int // files to be taken, half-written ones among them
	Taken    int // files that were not submitted yet, or whose outcome is to be written
	Requests int
}

// Any says whether there is anything.
func (b Backlog) Any() bool { return b != Backlog{} }

// GoesOn says of the task with that id whether it came from the file with that ticket,
// and has not ended: then nothing is to be done about the file.
type GoesOn func(id, ticket string) bool

// Waiting counts what waits in a drop folder. It changes nothing; a folder that is not
// there has nothing. One that is not safe is an error. Without goesOn every file that was
// taken counts.
func Waiting(root string, goesOn GoesOn) (b Backlog, err error) {
	d, err := openDir(nil, root)
	if notThere(err) {
		return b, nil
	}
	if err != nil {
		return b, err
	}
	defer d.f.Close()
	if b.Pending, err = count(d, pendingName, nil); err != nil {
		return b, err
	}
	if b.Requests, err = count(d, requestsName, nil); err != nil {
		return b, err
	}
	b.Taken, err = count(d, takenDirName, goesOn)
	return b, err
}

// RejectedFiles counts what lies in the drop folder and could not become a task. It changes
// nothing; a folder that is not there has nothing.
func RejectedFiles(root string) (n int, err error) {
	d, err := openDir(nil, root)
	if notThere(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer d.f.Close()
	return count(d, rejectedName, nil)
}

// Check says why a drop folder cannot be used; nil = it can, or is not there yet.
func Check(root string) error {
	d, err := openDir(nil, root)
	if notThere(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.f.Close()
	if err := checkSelf(d); err != nil {
		return err
	}
	for _, name := range []string{pendingName, takenDirName, doneName, rejectedName, requestsName} {
		below, err := openChecked(d, name)
		switch {
		case err == nil:
			_ = below.f.Close() // it was only looked at
		case !notThere(err):
			return err
		}
	}
	return nil
}

// count counts the files of a directory that may be tasks, but for those of which the
// tasks go on.
func count(root *dir, name string, goesOn GoesOn) (n int, err error) {
	d, err := openChecked(root, name)
	if notThere(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer d.f.Close()
	err = d.each(func(name string) bool {
		if eligible(name) && (goesOn == nil || !taskGoesOn(d, name, goesOn)) {
			n++
		}
		return true
	})
	return n, err
}

// taskGoesOn looks for the task of a file in taken/: under the file's ticket, else under
// the id that it gives itself. What cannot be read is for the owner of the queue.
func taskGoesOn(d *dir, name string, goesOn GoesOn) bool {
	ticket, _, ok := splitTaken(name)
	if !ok {
		return false
	}
	if goesOn(ticket, ticket) {
		return true
	}
	file, err := d.open(name)
	if err != nil {
		return false
	}
	defer file.Close()
	content, err := readAll(file, 0, DefaultMaxFileBytes)
	if err != nil {
		return false
	}
	sub, err := envelope.File.Read(content)
	return err == nil && sub.ID != "" && goesOn(sub.ID, ticket)
}
