package e2e

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
)

// step is one entry of testdata/scenario_tree.yaml, where the fields are explained.
type step struct {
	Name     string            `yaml:"step"`
	Restart  bool              `yaml:"restart"`
	Platform []string          `yaml:"platform"`
	REST     bool              `yaml:"rest"`
	As       string            `yaml:"as"`
	Call     string            `yaml:"call"`
	Request  map[string]any    `yaml:"request"`
	All      bool              `yaml:"all"`
	Wait     *bool             `yaml:"wait"`
	Code     string            `yaml:"code"`
	Reason   string            `yaml:"reason"`
	Fields   []string          `yaml:"fields"`
	Answer   map[string]any    `yaml:"answer"`
	Has      map[string]any    `yaml:"has"`
	Save     map[string]string `yaml:"save"`
	Lack     []string          `yaml:"lack"`
}

// scenarios are the files, each a world of its own: what organizations, clouds and
// folders are for, who acts in them, and who pays.
var scenarios = []string{"tree", "subjects", "billing"}

func loadScenario(t *testing.T, name string) []step {
	t.Helper()
	text, err := os.ReadFile("testdata/scenario_" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var steps []step
	if err := yaml.UnmarshalWithOptions(text, &steps, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return steps
}

// play goes through the steps at one door. It fails the test at the first step
// that goes otherwise than written, and returns what every call gave, with what
// differs from run to run replaced by what it is.
func play(t *testing.T, s *server, name string, d door, steps []step) []result {
	t.Helper()
	p := newPlayer(t, s)
	var given []result
	for _, st := range steps {
		if st.Restart {
			s.stop()
			s.start()
		}
		if slices.Contains(st.Lack, name) {
			given = append(given, result{})
			continue
		}
		if st.Platform != nil {
			p.operate(st.Platform)
			given = append(given, result{})
			continue
		}
		through := d
		if st.REST {
			through = newREST(s)
		}
		got, err := p.perform(through, st)
		if err != nil {
			t.Fatalf("%s: %s: %v", st.Name, st.Call, err)
		}
		if diff := p.judge(st, got); diff != "" {
			t.Fatalf("%s: %s as %s: %s\n%s", st.Name, st.Call, st.As, got.Error, diff)
		}
		for name, path := range st.Save {
			value, ok := lookup(got.Message, path).(string)
			if !ok || value == "" {
				t.Fatalf("%s: no %s in %v", st.Name, path, got.Message)
			}
			p.vars[name] = value
		}
		got.Error = ""
		given = append(given, got)
	}
	for i := range given {
		given[i].Message, _ = p.neutral(given[i].Message).(map[string]any)
	}
	return given
}

// player holds the people and the names of one run.
type player struct {
	server *server
	users  map[string]user
	vars   map[string]string
}

// newPlayer makes users that no other run has, with logins of the same length,
// so that nothing but the names differs.
func newPlayer(t *testing.T, s *server) *player {
	t.Helper()
	p := &player{server: s, users: map[string]user{}, vars: map[string]string{}}
	parts := strings.Split(strings.ToLower(t.Name()), "/") // …/door/scenario
	run := parts[len(parts)-2] + "-" + parts[len(parts)-1]
	for _, name := range []string{"ann", "bob"} {
		u := s.createUser(name + "-" + run)
		p.users[name] = u
		p.vars[name], p.vars[name+"_login"], p.vars[name+"_oauth"] = u.ID, u.Login, u.OAuthToken
	}
	return p
}

// operate runs a command of the operator about the unit partner.
func (p *player) operate(words []string) {
	p.server.t.Helper()
	args := []string{}
	for _, word := range words {
		filled, _ := p.fill(word).(string)
		args = append(args, filled)
	}
	command(p.server.t, append(args, "--data-dir", p.server.deskOf("partner"))...)
}

// isRead tells the calls that return no operation.
var isRead = regexp.MustCompile(`^(token|role|user|operation)\.|^(key|apiKey|accessKey)\.create$|\.(get|incoming|list\w*)$`)

// perform makes the call of a step. After a restart a client may find its
// connection broken once; it is asked again, as its user would.
func (p *player) perform(d door, st step) (result, error) {
	what := call{Name: st.Call, All: st.All, Wait: !isRead.MatchString(st.Call)}
	if st.Wait != nil {
		what.Wait = *st.Wait
	}
	if u, ok := p.users[st.As]; ok {
		what.Session.OAuthToken = u.OAuthToken
	} else if account, ok := strings.CutPrefix(st.As, "key of "); ok {
		what.Session.AccountKey = &accountKey{p.vars[account+"_key"], p.vars[account], p.vars[account+"_private"]}
	} else {
		what.Session.IAMToken, _ = p.fill(st.As).(string)
	}
	what.Message = map[string]any{}
	for field, value := range st.Request {
		what.Message[field] = p.fill(value)
	}
	got, err := d.do(what)
	for deadline := time.Now().Add(20 * time.Second); st.Restart && got.Code == "UNAVAILABLE" && time.Now().Before(deadline); {
		time.Sleep(100 * time.Millisecond)
		got, err = d.do(what)
	}
	return got, err
}

// judge compares what a call gave with what the step wants.
func (p *player) judge(st step, got result) string {
	want := result{Code: st.Code, Reason: st.Reason, Fields: st.Fields}
	if want.Code == "" {
		want.Code = "OK"
	}
	seen := result{Code: got.Code}
	if want.Reason != "" {
		seen.Reason = got.Reason
	}
	if want.Fields != nil {
		seen.Fields = got.Fields
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		return diff
	}
	message := neat(got.Message)
	if err := holds(p.fill(toAny(st.Answer)), message, true); err != nil {
		return fmt.Sprintf("answer%v\nin %v", err, message)
	}
	if err := holds(p.fill(toAny(st.Has)), message, false); err != nil {
		return fmt.Sprintf("answer%v\nin %v", err, message)
	}
	return ""
}

func toAny(m map[string]any) any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

var variable = regexp.MustCompile(`\$[a-z_]+`)

// fill replaces $names in all strings of a value.
func (p *player) fill(value any) any {
	switch v := value.(type) {
	case string:
		return variable.ReplaceAllStringFunc(v, func(name string) string {
			switch name {
			case "$now":
				return time.Now().UTC().Format(time.RFC3339)
			case "$in_an_hour":
				return time.Now().UTC().Add(time.Hour).Format(time.RFC3339)
			}
			known, ok := p.vars[name[1:]]
			if !ok {
				return "unknown name " + name
			}
			return known
		})
	case map[string]any:
		filled := map[string]any{}
		for key, item := range v {
			filled[key] = p.fill(item)
		}
		return filled
	case []any:
		filled := make([]any, 0, len(v))
		for _, item := range v {
			filled = append(filled, p.fill(item))
		}
		return filled
	default:
		return v
	}
}

// holds says where a value lacks what is wanted of it. Items of lists may come in
// any order; if whole is set there may be no more of them than wanted.
func holds(want, got any, whole bool) error {
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok && got != nil { // an absent message is one without fields
			return fmt.Errorf(": want %v, got %v", w, got)
		}
		for key, item := range w {
			if err := holds(item, g[key], whole); err != nil {
				return fmt.Errorf(".%s%w", key, err)
			}
		}
	case []any:
		g, _ := got.([]any)
		if whole && len(g) != len(w) {
			return fmt.Errorf(": want %d items, got %d", len(w), len(g))
		}
		rest := slices.Clone(g)
		for _, item := range w {
			i := slices.IndexFunc(rest, func(r any) bool { return holds(item, r, whole) == nil })
			if i < 0 {
				return fmt.Errorf(": no item like %v", item)
			}
			rest = slices.Delete(rest, i, i+1)
		}
	default:
		if want != got {
			return fmt.Errorf(": want %v, got %v", want, got)
		}
	}
	return nil
}

// lookup follows a path of fields joined by dots.
func lookup(value any, path string) any {
	for field := range strings.SplitSeq(path, ".") {
		m, _ := value.(map[string]any)
		value = m[field]
	}
	return value
}
