package api_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

const httpDoc = "../../docs/http.md"

// TestHTTPDocs does what docs/http.md says, in order, against a server: each curl
// in a sh block is sent, and the http block behind it is what has to come back. A
// hidden comment, <!-- test: ... -->, is what happens to a task in between.
func TestHTTPDocs(t *testing.T) {
	text, err := os.ReadFile(httpDoc)
	if err != nil {
		t.Fatal(err)
	}
	f := setupHTTP(t)
	f.info.StartedAt = time.Now().Add(-time.Hour)
	steps := docSteps(string(text))
	if len(steps) < 30 {
		t.Fatalf("only %d steps were found in %s", len(steps), httpDoc)
	}
	var got answer
	for _, s := range steps {
		where := fmt.Sprintf("%s:%d", httpDoc, s.line)
		switch s.kind {
		case "test":
			f.docEvent(s.text)
		case "sh":
			got = f.docCurl(where, s.text)
		case "http":
			if problem := docDiffers(s.text, got); problem != "" {
				t.Errorf("%s: %s", where, problem)
			}
		}
	}
}

// TestHTTPDocsNameEveryPath holds that no call is left out.
func TestHTTPDocsNameEveryPath(t *testing.T) {
	text, err := os.ReadFile(httpDoc)
	if err != nil {
		t.Fatal(err)
	}
	f := setupHTTP(t)
	detail, _ := f.ask("GET", "/", "").json["detail"].(string)
	_, list, _ := strings.Cut(detail, "there are ")
	for path := range strings.SplitSeq(list, ", ") {
		first := "/" + strings.Split(path, "/")[1]
		if !strings.Contains(string(text), path+"`") && !strings.Contains(string(text), "`"+first+"`") {
			t.Errorf("%s does not mention %s", httpDoc, path)
		}
	}
}

// docStep is a block, or a hidden comment.
type docStep struct {
	kind, text string
	line       int
}

func docSteps(doc string) (steps []docStep) {
	lines := strings.Split(doc, "\n")
	for i := 0; i < len(lines); i++ {
		if event, ok := strings.CutPrefix(lines[i], "<!-- test: "); ok {
			steps = append(steps, docStep{"test", strings.TrimSuffix(event, " -->"), i + 1})
			continue
		}
		kind, ok := strings.CutPrefix(lines[i], "```")
		if !ok {
			continue
		}
		begin := i + 1
		for i++; i < len(lines) && lines[i] != "```"; i++ {
		}
		steps = append(steps, docStep{kind, strings.Join(lines[begin:i], "\n"), begin + 1})
	}
	return steps
}

// docEvent runs a task, or makes the daemon ill.
func (f *httpFixture) docEvent(text string) {
	f.t.Helper()
	words := strings.SplitN(text, " ", 4)
	switch words[0] {
	case "run":
		exit, err := strconv.Atoi(words[2])
		if err != nil {
			f.t.Fatal(err)
		}
		result := ""
		if len(words) > 3 {
			result = words[3]
		}
		f.begin(words[1])
		f.end(words[1], exit, result)
	case "ill":
		f.info.Services = map[string]string{words[1]: strings.Join(words[2:], " ")}
		f.ill.Store(true)
	default:
		f.t.Fatalf("no such event: %s", text)
	}
}

// docCurl sends what a simple curl command sends: -d, -X and one address, words
// and texts in single quotes.
func (f *httpFixture) docCurl(where, command string) answer {
	f.t.Helper()
	method, body, path := "GET", "", ""
	var headers []string
	words := docWords(command)
	for i := 1; i < len(words); i++ {
		switch w := words[i]; w {
		case "-d":
			i++
			method, body = "POST", words[i]
			headers = append(headers, "Content-Type: application/x-www-form-urlencoded")
		case "-X":
			i++
			method = words[i]
		default:
			var ok bool
			if path, ok = strings.CutPrefix(w, "http://127.0.0.1:9097"); !ok {
				f.t.Fatalf("%s: cannot do %q", where, w)
			}
		}
	}
	return f.ask(method, path, body, headers...)
}

func docWords(command string) (words []string) {
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

// docDiffers says in what an answer is not what the document says; "" = it is.
func docDiffers(want string, got answer) string {
	head, body, _ := strings.Cut(want, "\n\n")
	lines := strings.Split(head, "\n")
	if !strings.HasPrefix(lines[0], fmt.Sprintf("HTTP/1.1 %d ", got.status)) {
		return fmt.Sprintf("got %d %s", got.status, got.body)
	}
	for _, h := range lines[1:] {
		if name, value, _ := strings.Cut(h, ": "); got.header.Get(name) != value {
			return fmt.Sprintf("%s is %q", name, got.header.Get(name))
		}
	}
	if !strings.HasPrefix(body, "{") {
		for line := range strings.SplitSeq(body, "\n") {
			if !strings.Contains(got.body, "\n"+line+"\n") {
				return "the body has no line " + line
			}
		}
		return ""
	}
	var wanted map[string]any
	if err := json.Unmarshal([]byte(body), &wanted); err != nil {
		return err.Error()
	}
	if !docAlike("", wanted, got.json) {
		return "got " + got.body
	}
	return ""
}

// docAlike compares values. Some are different each time; "..." is any text.
func docAlike(key string, want, got any) bool {
	switch want := want.(type) {
	case map[string]any:
		got, _ := got.(map[string]any)
		for k := range got {
			if _, ok := want[k]; !ok {
				return false
			}
		}
		for k, v := range want {
			if !docAlike(k, v, got[k]) {
				return false
			}
		}
		return true
	case float64:
		n, ok := got.(float64)
		return ok && (n == want || key == "duration_ms" || key == "uptime_seconds")
	case string:
		s, ok := got.(string)
		return ok && (s == want || want == "..." && s != "")
	default:
		return reflect.DeepEqual(want, got)
	}
}
