package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the top of the repository.
const root = "../../.."

// groups are all groups of the catalogue of rules, with how many rules each has: those of
// the domain, C which are the conflicts between its sources, and our own (BI-9, EX, NM-9, MR
// from 19 on, RQ, ST, WI, SC-21, SC-22, US).
var groups = map[string]int{"RH": 10, "SU": 11, "PG": 5, "AB": 13, "C": 10, "PR": 7, "MF": 1, "NT": 5, "AS": 20, "CR": 11, "OW": 8, "GR": 6, "DL": 15, "NM": 9, "QL": 4, "SK": 9, "IM": 3, "AP": 10, "TK": 7, "AU": 8, "BI": 9, "EX": 10, "MR": 25, "RQ": 10, "ST": 6, "WI": 4, "PT": 47, "SC": 22, "US": 6}

// rule is one row of the index in the README.
type rule struct {
	id, says, where string
	tests           []string
	unbuilt         string // why there is no test
}

// TestIndexOfRules holds the README's index to the tree: every rule has one row,
// every file and test that a row names exists, and no test of a rule is left out.
func TestIndexOfRules(t *testing.T) {
	tests := testsOfTree(t)
	index := readIndex(t)
	for group, n := range groups {
		for i := 1; i <= n; i++ {
			if id := fmt.Sprintf("%s-%d", group, i); index[id].id == "" {
				t.Errorf("rule %s has no row in the index of rules: say what it is, where it is enforced and by which test", id)
			}
		}
	}
	for id, r := range index {
		if words := len(strings.Fields(r.says)); words > 12 {
			t.Errorf("%s says it in %d words, at most 12 are read", id, words)
		}
		for _, name := range r.tests {
			if tests[name] == "" {
				t.Errorf("%s names %s, and there is no such test", id, name)
			}
		}
		if r.unbuilt != "" {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, r.where))
		switch {
		case err != nil:
			t.Errorf("%s: %v", id, err)
		case len(r.tests) == 0:
			t.Errorf("%s has neither a test nor a reason for having none", id)
		case !mentions(string(text), id) && !slices.ContainsFunc(r.tests, func(name string) bool { return slices.Contains(rulesOf(name), id) }):
			t.Errorf("%s is found by grep neither in %s nor in the name of a test", id, r.where)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		for _, id := range rulesOf(name) {
			if !slices.Contains(index[id].tests, name) {
				t.Errorf("%s (%s) is a test of %s: name it in that row of the index", name, tests[name], id)
			}
		}
	}
}

// mentions reports whether a text has the number of a rule, which is not the
// beginning of another one.
func mentions(text, id string) bool {
	return regexp.MustCompile(`\b` + id + `\b`).MatchString(text)
}

var (
	testPattern  = regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)
	partPattern  = regexp.MustCompile(`^(RH|SU|PG|AB|AS|CR|OW|GR|DL|NM|NT|QL|AP|PR|MF|SK|IM|TK|AU|BI|EX|MR|RQ|ST|WI|PT|SC|US)(\d+)$`)
	indexPattern = regexp.MustCompile(`^\| ([A-Z]{1,2}-\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`)
)

// rulesOf returns the rules that the name of a test carries: TestDL3_DL5_Pending
// is of DL-3 and DL-5.
func rulesOf(name string) []string {
	var ids []string
	for part := range strings.SplitSeq(strings.TrimPrefix(strings.TrimPrefix(name, "Test"), "Fuzz"), "_") {
		if m := partPattern.FindStringSubmatch(part); m != nil {
			ids = append(ids, m[1]+"-"+m[2])
		}
	}
	return ids
}

// testsOfTree returns the file of every test function of the three modules.
func testsOfTree(t *testing.T) map[string]string {
	t.Helper()
	tests := make(map[string]string)
	for _, module := range []string{"pkg", "proto", "services"} {
		err := filepath.WalkDir(filepath.Join(root, module), func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "gen" || d.Name() == "node_modules"):
				return filepath.SkipDir
			case !strings.HasSuffix(path, "_test.go"):
				return nil
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range testPattern.FindAllStringSubmatch(string(text), -1) {
				tests[m[1]] = strings.TrimPrefix(path, root+"/")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tests
}

// readIndex reads the rows below the heading of the index.
func readIndex(t *testing.T) map[string]rule {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Index of rules\n")
	if !found {
		t.Fatal("the README has no section: Index of rules")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	index := make(map[string]rule)
	for line := range strings.Lines(section) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| rule ") || strings.HasPrefix(line, "| --- ") {
			continue
		}
		m := indexPattern.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%q is no row of the index: | rule | says | where | test |", line)
		}
		if index[m[1]].id != "" {
			t.Fatalf("rule %s has two rows in the index", m[1])
		}
		r := rule{id: m[1], says: m[2], where: strings.Trim(m[3], "`")}
		if cell := strings.Trim(m[4], "` "); strings.HasPrefix(cell, "not yet built") || strings.HasPrefix(cell, "a fact") || strings.HasPrefix(cell, "not applicable") {
			r.unbuilt = cell
		} else {
			for name := range strings.SplitSeq(m[4], ",") {
				r.tests = append(r.tests, strings.Trim(name, "` "))
			}
		}
		index[r.id] = r
	}
	return index
}
