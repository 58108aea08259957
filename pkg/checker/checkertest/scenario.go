package checkertest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// Scenario is a world with questions that are to be answered yes, and others that
// are to be answered no. A question is a line "subject permission resource", with
// " @time" behind it if the time matters.
type Scenario struct {
	World `yaml:",inline"`
	Allow []string `yaml:"allow,omitempty"`
	Deny  []string `yaml:"deny,omitempty"`
}

// ParseScenario reads a scenario; unknown fields are errors.
func ParseScenario(text []byte) (*Scenario, error) {
	s := new(Scenario)
	if err := yaml.UnmarshalWithOptions(text, s, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("parse scenario: %w", err)
	}
	return s, nil
}

// YAML writes the scenario, to be kept as a file of testdata.
func (s *Scenario) YAML() string {
	text, err := yaml.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// ParseQuery reads a question.
func ParseQuery(line string) (Query, error) {
	words := strings.Fields(line)
	if len(words) != 3 && len(words) != 4 {
		return Query{}, fmt.Errorf("parse query %q: want subject permission resource [@time]", line)
	}
	q := Query{Subject: Ref(words[0]), Permission: words[1], Resource: Ref(words[2])}
	if len(words) == 4 {
		now, err := strconv.ParseInt(strings.TrimPrefix(words[3], "@"), 10, 64)
		if err != nil {
			return Query{}, fmt.Errorf("parse query %q: %w", line, err)
		}
		q.Now = now
	}
	return q, nil
}

// String writes a question as ParseQuery reads it, without its token.
func (q Query) String() string {
	return fmt.Sprintf("%s %s %s @%d", q.Subject, q.Permission, q.Resource, q.Now)
}
