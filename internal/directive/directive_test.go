package directive

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"--nodes=2":                               "--nodes=2",
		"-N2 -n 4  --gres gpu:2 # four in all":    "--nodes=2 --ntasks=4 --gres=gpu:2",
		"-p gpu -t 04:00:00":                      "--partition=gpu --time=04:00:00",
		"-HN 2":                                   "--hold --nodes=2",
		"--exclusive":                             "--exclusive",
		"--exclusive=user --requeue":              "--exclusive=user --requeue",
		`--comment="for Ada's run" -J 'a b'`:      "--comment=for Ada's run --job-name=a b",
		"--gres=gpu:${GPUS:-1} --time=${T:-1:00}": "--gres=gpu:${GPUS:-1} --time=${T:-1:00}",
		"-o ${LOG_DIR:-${HOME:-/tmp}/a b}/%j.out": "--output=${LOG_DIR:-${HOME:-/tmp}/a b}/%j.out",
		"--container-image=nvcr.io/x:1":           "--container-image=nvcr.io/x:1",
		`--mail-user=ada\@x`:                      "--mail-user=ada@x",
		"":                                        "",
		"# nothing":                               "",
	} {
		got, err := Parse(line)
		if err != nil || shown(got) != want {
			t.Errorf("%q: %q, %v; want %q", line, shown(got), err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for line, words := range map[string]string{
		"nodes=2":                "no option",
		"--nodes":                "has no value",
		"-N":                     "has no value",
		"-z 3":                   "no option",
		"--requeue=1":            "takes no value",
		"${EXTRA}":               "no option",
		"--${EXTRA}=1":           "in a value only",
		"--x${A}=1":              "in a value only",
		"--gres=gpu:${GPUS":      "closing brace",
		`--mail-user="ada`:       "not closed",
		"--plugin-option value":  "write --plugin-option=value",
		`--qos ""`:               "empty word",
		"--partition gpu hetjob": "no option",
	} {
		if got, err := Parse(line); err == nil || !strings.Contains(fmt.Sprint(err), words) {
			t.Errorf("%q: %q, %v; want %q", line, shown(got), err, words)
		}
	}
}

func TestLine(t *testing.T) {
	t.Parallel()
	for line, ok := range map[string]bool{
		"--mail-type=FAIL": true, "--exclusive": true, "--requeue": true, "--of-a-plugin=1": true,
		"--job-name=x": false, "--comment=x": false, "--array=1-3": false, "--wrap=true": false, "--clusters=all": false, "--uid=0": false,
		"-N2": false, "nodes=2": false, "--nodes=2 --array=1": false, "--nodes=2\n#SBATCH --array=1": false, "--x=$(id)": false,
	} {
		if err := Line(line); (err == nil) != ok {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	site, template := parse(t, "-p main -A ada -t 60 --mem=4G --gres=gpu:1"), parse(t, "-t 120 --gpus-per-node=4 --mem-per-cpu=2G -N2 --mail-type=FAIL --mail-type=END")
	ask, last := parse(t, "--gres=gpu:2"), parse(t, "-p urgent")
	if got, want := shown(Merge(site, template, ask, last)), "--account=ada --time=120 --mem-per-cpu=2G --nodes=2 --mail-type=END --gres=gpu:2 --partition=urgent"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := shown(Merge(parse(t, "--requeue"), parse(t, "--no-requeue"))); got != "--no-requeue" {
		t.Error(got)
	}
}

func parse(t *testing.T, line string) []Option {
	t.Helper()
	o, err := Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func shown(all []Option) string {
	var words []string
	for _, o := range all {
		words = append(words, fmt.Sprint(o))
	}
	return strings.Join(words, " ")
}

// FuzzParse: whatever stands in a line, an option that passes the check is one word of
// sbatch's, and reads back as it was.
func FuzzParse(f *testing.F) {
	f.Add("-N2 -p gpu --comment='a b' --time=${T:-${U}} # x")
	f.Add(`--qos=\ "x`)
	f.Fuzz(func(t *testing.T, line string) {
		got, err := Parse(line)
		if err != nil {
			return
		}
		for _, o := range got {
			if o.Check() != nil {
				continue
			}
			again, err := Parse(o.String())
			if err != nil || !slices.Equal(again, []Option{o}) || strings.ContainsAny(o.String(), " \t\n\"'\\#$`") {
				t.Fatalf("%q became %v, %v", o, again, err)
			}
		}
	})
}
