package revision

import (
	"context"
	"testing"
)

func TestRevision(t *testing.T) {
	for _, text := range []string{"0.0.0", "1.2.3", "3.1.9223372036854775807"} {
		if r, ok := Parse(text); !ok || r.String() != text {
			t.Errorf("%q is read as %v, %v", text, r, ok)
		}
	}
	for _, text := range []string{"", "1", "1.2", "1.2.3.4", "1.2.-3", "1.2.03", "1.2.+3", "1.2.9223372036854775808", "a.b.c", "1.2.3 "} {
		if r, ok := Parse(text); ok {
			t.Errorf("%q is read as %v", text, r)
		}
	}
}

// The latest of what is noted counts, by epoch, line and number.
func TestNotes(t *testing.T) {
	notes := new(Notes)
	ctx := NewContext(t.Context(), notes)
	if r, ok := notes.Latest(); ok {
		t.Errorf("nothing was noted: %v", r)
	}
	for _, step := range []struct{ note, latest Revision }{
		{Revision{1, 1, 5}, Revision{1, 1, 5}}, {Revision{1, 1, 4}, Revision{1, 1, 5}}, {Revision{1, 2, 3}, Revision{1, 2, 3}},
		{Revision{1, 1, 9}, Revision{1, 2, 3}}, {Revision{2, 1, 1}, Revision{2, 1, 1}}, {Revision{2, 1, 2}, Revision{2, 1, 2}},
	} {
		Note(ctx, step.note)
		if r, ok := notes.Latest(); !ok || r != step.latest {
			t.Errorf("after %v the latest is %v, want %v", step.note, r, step.latest)
		}
	}
	Note(context.Background(), Revision{9, 9, 9}) // of nobody's call
	if r, _ := notes.Latest(); r != (Revision{2, 1, 2}) {
		t.Errorf("another call noted %v", r)
	}
}
