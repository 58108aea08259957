package access

import (
	"testing"

	"google.golang.org/grpc/metadata"
)

func TestAtLeast(t *testing.T) {
	out, _ := metadata.FromOutgoingContext(AtLeast(t.Context(), "1.2.3"))
	if got := out.Get(AtLeastHeader); len(got) != 1 || got[0] != "1.2.3" {
		t.Errorf("a check carries %q", got)
	}
}
