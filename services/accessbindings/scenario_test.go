package accessbindings

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
)

// TestScenarios plays the worlds of testdata through the unit and asks what they
// say is allowed and denied, the RPC and the second reading of the rules alike.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	forEach(t, func(t *testing.T, w *world) {
		for n, file := range files {
			text, err := os.ReadFile(file)
			w.must(err)
			s, err := checkertest.ParseScenario(text)
			w.must(err)
			s.Roles, _ = testCatalog(t).Matrix()
			o := &oracle{
				world: w, prefix: filepath.Base(file)[:1] + "-", base: time.Now().Truncate(time.Microsecond),
				gen: &checkertest.Generator{World: &s.World}, placed: map[checkertest.Ref]bool{}, ids: map[string]string{},
			}
			w.clock.set(o.base)
			o.play(found(&s.World))
			asked := o.expect(file, s.Allow, true) + o.expect(file, s.Deny, false)
			w.clock.set(time.Time{})
			if asked == 0 {
				t.Errorf("%s (%d) asks nothing", file, n)
			}
		}
	})
}

func (o *oracle) expect(file string, lines []string, allowed bool) int {
	o.t.Helper()
	for _, line := range lines {
		q, err := checkertest.ParseQuery(line)
		o.must(err)
		o.clock.set(o.at(q.Now))
		_, err = o.authorize(o.who(q.Subject), q.Permission, o.ref(q.Resource))
		if reason := apierr.ReasonOf(err); (err == nil) != allowed || err != nil && reason != "PERMISSION_DENIED" && reason != "RESOURCE_NOT_FOUND" {
			o.t.Errorf("%s: %s: got %v, want allowed %v", file, line, err, allowed)
		}
		if got := o.gen.World.Answer(q); (got == checkertest.Yes) != allowed {
			o.t.Errorf("%s: %s: the second reading says %s, the file %v", file, line, got, allowed)
		}
	}
	return len(lines)
}
