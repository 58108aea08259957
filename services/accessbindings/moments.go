package accessbindings

import (
	"context"
	"database/sql"
	"strconv"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// moment is a revision and the time at which ends are judged.
type moment struct {
	revision, now int64
	view          *checker.View // nil when the graph has gone on: the history tells
}

// Refusals of moments (EX-9).
const (
	ReasonHistoryForgotten = "HISTORY_FORGOTTEN"
	ReasonNotYet           = "NOT_YET"
)

var (
	errForgotten = apierr.New(codes.OutOfRange, ReasonHistoryForgotten, "the history does not reach back so far")
	errNotYet    = apierr.New(codes.OutOfRange, ReasonNotYet, "that moment has not come")
)

// present is what the graph has.
func (s *Permissions) present() (moment, error) {
	if err := s.graph.fault(); err != nil {
		return moment{}, err
	}
	v := s.graph.View()
	return moment{v.Revision(), nowMicros(s.now), v}, nil
}

// moment reads which one is asked about. Fails: OUT_OF_RANGE.
func (s *Permissions) moment(ctx context.Context, at *accessv1.Moment) (moment, error) {
	if at.GetMoment() == nil {
		return s.present()
	}
	head, err := s.committer.store.head(ctx, s.committer.db, false)
	if err != nil {
		return moment{}, err
	}
	_, kept, err := s.history.head(ctx, s.committer.db, "")
	if err != nil {
		return moment{}, err
	}
	var m moment
	switch at := at.GetMoment().(type) {
	case *accessv1.Moment_Revision:
		m.revision = at.Revision
		switch {
		case m.revision > head.Revision:
			return moment{}, named(errNotYet.Withf("revision %d has not come, the last one is %d", m.revision, head.Revision), "at.revision")
		case m.revision < kept:
			return moment{}, named(errForgotten.Withf("the history is kept from revision %d on", kept), "at.revision")
		case m.revision > 0:
			if m.now, err = s.history.made(ctx, m.revision); err != nil {
				return moment{}, err
			}
		}
	case *accessv1.Moment_Time:
		if !at.Time.IsValid() {
			return moment{}, apierr.InvalidField("at.time", "is not a time")
		}
		if m.now = micros(at.Time); m.now > nowMicros(s.now) {
			return moment{}, named(errNotYet, "at.time")
		}
		if m.revision, err = s.history.at(ctx, m.now, kept, head.Revision); err != nil {
			return moment{}, err
		}
		if m.revision < kept {
			return moment{}, named(errForgotten, "at.time")
		}
	}
	return s.again(m.revision, m.now), nil
}

// again is a moment that was asked about before.
func (s *Permissions) again(revision, now int64) moment {
	m := moment{revision: revision, now: now}
	if v := s.graph.View(); v.Revision() == revision && s.graph.fault() == nil {
		m.view = v
	}
	return m
}

// state is the view of a moment; read gathers what the question is about when the
// history has to tell. Fails: HISTORY_FORGOTTEN.
func (s *Permissions) state(ctx context.Context, m moment, read func(*past) error) (*checker.View, error) {
	if m.view != nil {
		return m.view, nil
	}
	if err := s.history.upTo(ctx, m.revision); err != nil {
		return nil, err
	}
	p := &past{revision: m.revision, catalog: s.graph.catalog, seen: make(map[factKey]bool)}
	err := sqldb.Snapshot(ctx, s.committer.db, func(ctx context.Context, tx *sql.Tx) error {
		_, kept, err := s.history.head(ctx, tx, "")
		if err != nil {
			return err
		}
		if m.revision < kept {
			return errForgotten
		}
		p.q = tx
		return read(p)
	})
	if err != nil {
		return nil, err
	}
	return p.view(s.graph.strand.Load().Graph)
}

// granted reads who made facts what they were at a revision, and when. Facts that were
// made before that was recorded have no author.
func (s *Permissions) granted(ctx context.Context, revision int64, keys map[factKey]bool) (map[factKey]*span, error) {
	found := make(map[factKey]*span, len(keys))
	if len(keys) == 0 {
		return found, nil
	}
	if err := s.history.upTo(ctx, revision); err != nil {
		return nil, err
	}
	var rows [][]any
	for k := range keys {
		rows = append(rows, []any{k.kind, k.about.Type, k.about.ID, k.who.Type, k.who.ID, k.name})
	}
	for len(rows) > 0 {
		some := rows[:min(len(rows), historyRows)]
		rows = rows[len(some):]
		args := make([]any, 0, 6*len(some)+1)
		for _, r := range some {
			args = append(args, r...)
		}
		args = append(args, revision)
		last := "$" + strconv.Itoa(len(args))
		all, err := spans(ctx, s.committer.db, `(kind, about_type, about_id, who_type, who_id, name) IN (VALUES `+rowsOf(some)+`)
			AND began <= `+last+` AND (ended = 0 OR ended > `+last+`)`, args...)
		if err != nil {
			return nil, err
		}
		for _, one := range all {
			found[one.factKey] = one
		}
	}
	return found, nil
}
