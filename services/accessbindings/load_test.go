package accessbindings

import (
	"errors"
	"testing"

	"github.com/bindery-iam/bindery/pkg/checker"
)

// TestAhead: all facts come, in order; the error comes last; and who stops leaves no
// goroutine that still reads.
func TestAhead(t *testing.T) {
	const count = 10*aheadBatch + 7
	broken := errors.New("connection lost")
	for name, row := range map[string]struct {
		failAt, stopAt, want int
	}{
		"to the end": {-1, -1, count}, "an error": {3*aheadBatch + 1, -1, 3*aheadBatch + 1},
		"an error at once": {0, -1, 0}, "stopped": {-1, 5, 5}, "stopped late": {-1, 9 * aheadBatch, 9 * aheadBatch},
	} {
		t.Run(name, func(t *testing.T) {
			reading := true
			facts := ahead(func(yield func(checker.Change, error) bool) {
				defer func() { reading = false }()
				for n := range count {
					if n == row.failAt {
						yield(nil, broken)
						return
					}
					if !yield(checker.Bind{Until: int64(n)}, nil) {
						return
					}
				}
			})
			got, failed := 0, error(nil)
			for c, err := range facts {
				if err != nil {
					failed = err
					continue
				}
				if b, _ := c.(checker.Bind); b.Until != int64(got) {
					t.Fatalf("fact %d is %v", got, c)
				}
				if got++; got == row.stopAt {
					break
				}
			}
			if got != row.want || errors.Is(failed, broken) != (row.failAt >= 0) || reading {
				t.Errorf("%d facts, error %v, still reading %t; want %d", got, failed, reading, row.want)
			}
		})
	}
}
