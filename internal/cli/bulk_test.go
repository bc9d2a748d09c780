package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// some submits three tasks that run and two that have ended, of two classes.
func some(t *testing.T, env Env) {
	t.Helper()
	for _, args := range []string{
		"--id s1 --class cpu_short -- sleep", "--id l1 --class cpu_long -- sleep", "--id l2 --class cpu_long -- sleep",
		"--id ok --class cpu_long -- true", "--id bad --class cpu_short -- false",
	} {
		expect(t, env, exitDone, "\n", "", append([]string{"submit"}, strings.Fields(args)...)...)
	}
}

func TestCancelMany(t *testing.T) {
	f, env := startFake(t)
	some(t, env)
	expect(t, env, exitDone, "l2 is running and would be cancelled\nl1 is running and would be cancelled\n", "would cancel 2\n", "cancel", "--class", "cpu_long", "--dry-run")
	expect(t, env, exitDone, "ok has succeeded already\n", "would cancel 1, already ended 1\n", "cancel", "--dry-run", "l1", "ok")
	if got := f.find("l1").GetState(); got != "running" {
		t.Fatalf("a dry run left l1 %s", got)
	}
	// What waits for others comes first: newest before oldest.
	expect(t, env, exitDone, "l2 cancelled\nl1 cancelled\n", "cancelled 2\n", "cancel", "--class", "cpu_long")
	expect(t, env, exitDone, "", "no tasks of class cpu_long that have not ended in workspace "+env.Cwd+"\n", "cancel", "--class", "cpu_long")
	expect(t, env, exitDone, "l1 was cancelled already\n", "cancelled 1, already ended 3\n", "cancel", "s1", "l1", "ok", "bad", "s1")
	expect(t, env, exitDone, `"id":"ok"`, "already ended 1\n", "cancel", "--state", "completed", "--json")
}

func TestIDsFromAFile(t *testing.T) {
	_, env := startFake(t)
	some(t, env)
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(env.Cwd, "ids"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("s1\n\n  l1\r\nl1\n")
	expect(t, env, exitDone, "l2 cancelled\ns1 cancelled\nl1 cancelled\n", "cancelled 3\n", "cancel", "l2", "--from-file", "ids")
	expect(t, env, exitCancelled, "s1\tcancelled\t125", "cancelled 2\n", "wait", "--from-file", "ids")
	env.Stdin = strings.NewReader("ok\nbad\n")
	expect(t, env, 1, "bad\tfailed\t1", "succeeded 1, failed 1\n", "wait", "--from-file", "-")
	write("ok\nnot an id\n")
	expect(t, env, exitUsage, "", "line 2: id \"not an id\"", "cancel", "--from-file", "ids")
	write("")
	expect(t, env, exitDone, "", "", "cancel", "--from-file", "ids")
}

func TestRetryMany(t *testing.T) {
	_, env := startFake(t)
	some(t, env)
	expect(t, env, exitDone, "next\n", "", "submit", "--id", "next", "--after", "bad", "--", "false")
	// What it waits for has failed still: trying again cannot help, and it says so.
	expect(t, env, exitRefused, "", "next: it waits for bad to succeed, but that failed\n", "retry", "next")
	expect(t, env, exitDone, "bad is failed and would be tried again, attempt 2\nnext is failed and would be tried again", "would try again 2\n", "retry", "--state", "failed", "--dry-run")
	expect(t, env, exitDone, "bad is tried again, attempt 2\nnext is tried again", "tried again 2\n", "retry", "--class", "cpu_short")
	expect(t, env, exitRefused, "", "ok: task ok is succeeded\n", "retry", "ok")
}

func TestWaitForMany(t *testing.T) {
	_, env := startFake(t)
	some(t, env)
	expect(t, env, exitDone, "l1 is running and would be waited for\nl2 is running", "", "wait", "--class", "cpu_long", "--dry-run")
	expect(t, env, 1, "bad\tfailed\t1", "failed 1\n", "wait", "--state", "failed")
	expect(t, env, exitDone, "", "no tasks that are lost in workspace "+env.Cwd+"\n", "wait", "--state", "lost")
}
