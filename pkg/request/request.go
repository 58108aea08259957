package request

import (
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Ref names a thing or a subject.
type Ref struct{ Type, ID string }

// Step is one step of approval. All that are needed at a step approve before the
// next one begins.
type Step struct {
	Name string `json:"name,omitempty"` // for the unit, which knows who may decide at it
	Need int    `json:"need"`           // how many must approve
}

// Request is one request. Zero times are times that have not come.
type Request struct {
	ID        string
	Thing     Ref
	Aspect    string // what of the thing is asked for; "" for the thing itself
	Scope     string // of lists that go over many things; the unit's own
	Requester Ref
	Reason    string
	State     State
	Steps     []Step
	Step      int // the one under way, from 0 on
	CreatedAt time.Time

	PendingUntil time.Time     // it expires by then when nobody decides; zero for never
	Lasts        time.Duration // for how long what is approved is given; 0 for no end
	EndsAt       time.Time     // when that ends, once approved

	DecidedBy          Ref    // who approved last, or rejected
	Decision           string // with which words
	DecidedAt          time.Time
	PleaBy, Plea       string // who asked that it be revoked, and why
	PleaAt             time.Time
	EndedBy, EndReason string // who revoked, cancelled or expired it, and why; "" for the platform itself
	EndedAt            time.Time

	Settled bool   // the last decision is in force
	Body    []byte // the unit's own
}

// At is the request as it stands at a time: Expired once its time is over, before
// anybody has noted that.
func (r Request) At(now time.Time) Request {
	over := func(end time.Time) bool { return !end.IsZero() && !end.After(now) }
	switch {
	case r.State == Pending && over(r.PendingUntil):
		r.State, r.EndedAt = Expired, r.PendingUntil
	case r.State == Approved && over(r.EndsAt):
		r.State, r.EndedAt = Expired, r.EndsAt
	}
	return r
}

// Granted reports whether it was ever approved, so that there may be something to
// withdraw.
func (r Request) Granted() bool {
	return r.State == Approved || r.State == Revoked || r.State == Expired && !r.DecidedAt.IsZero()
}

// Position is where a request stands in lists.
func (r Request) Position() page.Position {
	return page.Position{Time: sqldb.Micros(r.CreatedAt), ID: r.ID}
}

// Act is one action on a request.
type Act struct {
	Action Action
	Side   Side
	By     Ref    // the subject; zero for the platform itself
	Text   string // the reason of a decision, a plea or an end
}
