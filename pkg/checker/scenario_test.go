package checker_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
)

// TestScenarios asks what the files of testdata ask, of the engine and of the
// second reading.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := checkertest.ParseScenario(text)
			if err != nil {
				t.Fatal(err)
			}
			g := checker.New(roles(&s.World))
			apply(t, g, s.Steps())
			questions(t, g, s, s.Allow, true)
			questions(t, g, s, s.Deny, false)
		})
	}
}

func questions(t *testing.T, g *checker.Graph, s *checkertest.Scenario, lines []string, want bool) {
	t.Helper()
	for _, line := range lines {
		q, err := checkertest.ParseQuery(line)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.Decide(query(q)); got.Allowed != want {
			t.Errorf("%s: the engine says %s, want allowed %t", line, got.Reason, want)
		}
		if got := s.Answer(q); (got == checkertest.Yes) != want {
			t.Errorf("%s: the second reading says %s, want allowed %t", line, got, want)
		}
	}
}

// TestScenario_RoundTrip: what a failing test prints can be kept as a file.
func TestScenario_RoundTrip(t *testing.T) {
	eachWorld(t, 20, func(t *testing.T, gen *checkertest.Generator, g *checker.Graph) {
		s := checkertest.Scenario{World: *gen.World}
		for q, allowed := range ask(gen, g, 20) {
			if q.Token, q.Session = "", ""; allowed {
				s.Allow = append(s.Allow, q.String())
			}
		}
		back, err := checkertest.ParseScenario([]byte(s.YAML()))
		if err != nil {
			t.Fatal(err)
		}
		again := checker.New(roles(&back.World))
		apply(t, again, back.Steps())
		questions(t, again, back, back.Allow, true)
	})
}
