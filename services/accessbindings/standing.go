package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// standing is where a subject stands. The zero value is that of one that nobody made
// known.
type standing struct {
	State   State
	End     int64 // when it ends to act, in microseconds UTC; 0 for never
	Version int64 // which change of its owner this is; 0 when the owner does not count
}

// lasts reports whether the subject acts and goes on so by itself: such a holder of
// an owner role is one who remains (OW-1).
func (s standing) lasts() bool { return s.State == stateActive && s.End == 0 }

func standingOf(c *accessv1.SubjectChanged) standing {
	return standing{State: c.GetState(), End: micros(c.GetExpiresAt()), Version: c.GetVersion()}
}

// standingOf reads where a subject stands.
func (s *store) standingOf(ctx context.Context, q sqldb.Querier, who Subject) (standing, error) {
	var is standing
	err := q.QueryRowContext(ctx, `SELECT state, expires_at, version FROM access_subjects WHERE type = $1 AND id = $2`, who.Type, who.ID).
		Scan(&is.State, &is.End, &is.Version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return standing{}, fmt.Errorf("read subject: %w", err)
	}
	return is, nil
}

// lasting says which holders of an owner role of a resource are among those of whom
// one must remain (OW-1): who is active, has no end, and is of a type that keeps it.
func (on *state) lasting(ctx context.Context, r Ref, bindings []Binding) (map[Subject]bool, error) {
	lasting := make(map[Subject]bool, len(bindings))
	for _, b := range bindings {
		if _, asked := lasting[b.Subject]; asked {
			continue
		}
		is, err := on.standingOf(ctx, on.tx, b.Subject)
		if err != nil {
			return nil, err
		}
		lasting[b.Subject] = is.lasts() && rules.Keeps(b.Subject.Type, r.Type)
	}
	return lasting, nil
}
