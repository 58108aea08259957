package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestUsageIsDocumented holds the README's usage to the command line: it names every
// command, and every flag of serve, and no other.
func TestUsageIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## The program\n")
	_, section, _ = strings.Cut(section, "```\n")
	usage, _, found := strings.Cut(section, "```\n")
	if !found {
		t.Fatal("the README has no usage below The program")
	}
	parser, err := kong.New(new(cli), grammar()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, group := range parser.Model.Children {
		if !regexp.MustCompile(`\b` + group.Name + `\b`).MatchString(usage) {
			t.Errorf("the usage has no %s", group.Name)
		}
		for _, command := range group.Children {
			if !regexp.MustCompile(group.Name + `.*\b` + command.Name + `\b`).MatchString(usage) {
				t.Errorf("the usage has no %s %s", group.Name, command.Name)
			}
		}
	}
	serve, _, _ := strings.Cut(usage, "\nbindery migrate")
	var named, have []string
	for _, m := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(serve, -1) {
		named = append(named, m[1])
	}
	for _, child := range parser.Model.Children {
		if child.Name != "serve" {
			continue
		}
		for _, flag := range child.Flags {
			have = append(have, flag.Name)
		}
	}
	slices.Sort(named)
	slices.Sort(have)
	if !slices.Equal(named, have) {
		t.Errorf("the usage of serve names\n%v, and it has\n%v", named, have)
	}
}
