package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/facts"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Bounds of following.
const (
	firstPause  = 50 * time.Millisecond // before another attempt to follow
	longPause   = 2 * time.Second
	silence     = 10 * time.Second     // of a server that is gone
	goodbyeTime = time.Second          // for the server to hear that the replica ends
	reportEvery = time.Second          // until the server says how often
	reportSoon  = 2 * time.Millisecond // after a revision while others follow it at once
	maxAhead    = 64                   // messages that were received and not handled
	maxAsked    = 256                  // reports whose answer may still come
)

// errLeave says that the server is about to end.
var errLeave = errors.New("the server is about to end")

// run follows until ctx ends, from where it is.
func (r *Replica) run(ctx context.Context) {
	defer r.drop()
	for pause := firstPause; ctx.Err() == nil; {
		began := r.clock()
		err := r.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		switch code := apierr.CodeOf(apierr.FromRPC(err)); {
		case errors.Is(err, errLeave):
			pause = firstPause
		case code == codes.FailedPrecondition || code == codes.OutOfRange || errors.As(err, new(*contradiction)):
			r.at.Store(nil) // begin anew
			r.cfg.Log.Info("the facts of the checker are read anew", zap.Error(err))
			pause = firstPause
		default:
			r.cfg.Log.Warn("the checker cannot be followed, trying again", zap.Error(err), zap.Duration("pause", pause))
		}
		r.tell(err)
		if r.clock()-began > silence {
			pause = firstPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)): //nolint:gosec // spreads the attempts, no secret
		}
		pause = min(2*pause, longPause)
	}
}

// contradiction is an error for which the facts are no good any more.
type contradiction struct{ cause error }

func (c *contradiction) Error() string {
	return fmt.Sprintf("the facts contradict each other: %v", c.cause)
}

func (c *contradiction) Unwrap() error { return c.cause }

// session is one stream.
type session struct {
	*Replica
	stream grpc.BidiStreamingClient[accessv1.FollowRequest, accessv1.FollowResponse]
	every  time.Duration
	policy map[string]facts.Policy
	parts  []checker.Change // of a revision that is not whole
	fresh  bool             // a revision is in force and not reported

	mu       sync.Mutex // of what is sent
	sequence int64
	asked    map[int64]time.Duration // when each report was about to leave, by its number
}

// follow follows over one stream until it ends.
func (r *Replica) follow(ctx context.Context) error {
	within, cancel := context.WithCancel(context.WithoutCancel(ctx)) // it ends after the goodbye
	defer cancel()
	client := accessv1.NewChangeServiceClient(r.cfg.Conn)
	stream, err := client.Follow(within)
	if err != nil {
		return err
	}
	start := &accessv1.FollowRequest_Start{OrganizationId: r.cfg.Organization}
	if r.graph.Load() != nil {
		start.Position = r.at.Load()
	}
	if err := stream.Send(&accessv1.FollowRequest{Message: &accessv1.FollowRequest_Start_{Start: start}}); err != nil && !errors.Is(err, io.EOF) {
		return err // otherwise what is received tells
	}
	s := &session{Replica: r, stream: stream, every: reportEvery, asked: make(map[int64]time.Duration)}
	frames, ended := make(chan *accessv1.FollowResponse, maxAhead), make(chan error, 1)
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case frames <- m:
			case <-within.Done():
				return
			}
		}
	}()
	return s.serve(ctx, frames, ended)
}

// serve handles what comes, reports, and notices a server that is silent.
func (s *session) serve(ctx context.Context, frames <-chan *accessv1.FollowResponse, ended <-chan error) error {
	next := s.receiver(ctx, frames, ended)
	for {
		m, err := next()
		if err != nil {
			return err
		}
		if err := s.handle(m, next); err != nil {
			return err
		}
	}
}

// receiver returns a function that returns the next message, and reports while it waits.
func (s *session) receiver(ctx context.Context, frames <-chan *accessv1.FollowResponse, ended <-chan error) func() (*accessv1.FollowResponse, error) {
	last, due := s.clock(), s.clock()+s.every
	var told time.Duration // when the last report left
	timer := time.NewTimer(s.every)
	return func() (*accessv1.FollowResponse, error) {
		for {
			now := s.clock()
			if s.fresh && (len(frames) == 0 || now-told > reportSoon) || now >= due {
				s.report(false)
				s.fresh, told, due = false, now, now+s.every
			}
			timer.Reset(due - now)
			select {
			case m := <-frames:
				last = s.clock()
				return m, nil
			case err := <-ended:
				return nil, fmt.Errorf("follow: %w", err)
			case <-ctx.Done():
				return nil, s.goodbye(frames, ended)
			case <-timer.C:
				if s.clock()-last > silence {
					return nil, errors.New("follow: the server is silent")
				}
			}
		}
	}
}

// goodbye gives the right back, so that no write waits for this process, and waits until
// the server has heard it.
func (s *session) goodbye(frames <-chan *accessv1.FollowResponse, ended <-chan error) error {
	s.drop()
	s.report(true)
	_ = s.stream.CloseSend() // the end of the stream tells
	timeout := time.After(goodbyeTime)
	for {
		select {
		case <-frames:
		case err := <-ended:
			return errors.Join(context.Canceled, err)
		case <-timeout:
			return context.Canceled
		}
	}
}

// report says what is applied, and asks for the right to answer or gives it back. The
// reading of the clock comes before the report leaves.
func (s *session) report(released bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sequence++
	if !released {
		s.asked[s.sequence] = s.clock()
		delete(s.asked, s.sequence-maxAsked)
	}
	_ = s.stream.Send(&accessv1.FollowRequest{Message: &accessv1.FollowRequest_Report_{Report: &accessv1.FollowRequest_Report{
		Sequence: s.sequence, Revision: s.Revision(), Released: released,
	}}}) // what is wrong with the stream its messages tell
}

// handle does what a message says.
func (s *session) handle(m *accessv1.FollowResponse, next func() (*accessv1.FollowResponse, error)) error {
	switch e := m.GetEvent().(type) {
	case *accessv1.FollowResponse_Begin_:
		if every := time.Duration(e.Begin.GetReportEveryMicros()) * time.Microsecond; every > 0 {
			s.every = every
		}
		if e.Begin.GetSnapshot() {
			return s.load(e.Begin, next)
		}
		s.policy = s.policies
		s.report(false)
		return nil
	case *accessv1.FollowResponse_Revision_:
		return s.apply(e.Revision)
	case *accessv1.FollowResponse_Grant_:
		s.granted(e.Grant)
		return nil
	case *accessv1.FollowResponse_Leave_:
		s.drop()
		s.report(true)
		return errLeave
	case *accessv1.FollowResponse_Facts_:
		return errors.New("follow: facts of no snapshot")
	default:
		return &contradiction{fmt.Errorf("an event of kind %T is not known", e)}
	}
}

// granted notes the right that answers a report of this stream.
func (s *session) granted(g *accessv1.FollowResponse_Grant) {
	s.mu.Lock()
	asked, ok := s.asked[g.GetSequence()]
	for n := range s.asked {
		if n <= g.GetSequence() {
			delete(s.asked, n)
		}
	}
	s.mu.Unlock()
	if ok {
		s.extend(asked, time.Duration(g.GetDurationMicros())*time.Microsecond, g.GetTime().AsTime().UnixMicro())
	}
}

// load gives the right to answer up, takes a snapshot, and puts it in place of what there
// was. Its parts are all that may come meanwhile.
func (s *session) load(b *accessv1.FollowResponse_Begin, next func() (*accessv1.FollowResponse, error)) error {
	s.drop()
	s.at.Store(nil)
	s.parts = nil
	s.report(true)
	roles, policy := catalog(b.GetCatalog())
	g := checker.New(roles)
	var at *accessv1.Position
	find := func(id string) (facts.Policy, bool) { p, ok := policy[id]; return p, ok }
	err := g.Load(1, func(yield func(checker.Change, error) bool) {
		for at == nil {
			m, err := next()
			if err == nil && m.GetFacts() == nil {
				err = fmt.Errorf("follow: a message of kind %T within a snapshot", m.GetEvent())
			}
			if err != nil {
				yield(nil, err)
				return
			}
			for _, c := range m.GetFacts().GetChanges() {
				f, err := facts.Decode(c, find)
				if f == nil && err == nil {
					continue
				}
				if !yield(f, err) {
					return
				}
			}
			at = m.GetFacts().GetPosition()
		}
	})
	if err != nil {
		return err
	}
	s.policies, s.policy = policy, policy
	s.graph.Store(g)
	s.at.Store(at)
	s.tell(nil)
	s.report(false)
	return nil
}

// apply puts a revision in force. One that has changed something is reported soon.
func (s *session) apply(e *accessv1.FollowResponse_Revision) error {
	for _, c := range e.GetChanges() {
		f, err := facts.Decode(c, func(id string) (facts.Policy, bool) { p, ok := s.policy[id]; return p, ok })
		if err != nil {
			s.drop()
			return &contradiction{err}
		}
		if f != nil {
			s.parts = append(s.parts, f)
		}
	}
	if e.GetMore() {
		return nil
	}
	changes := s.parts
	s.parts = nil
	if len(changes) > 0 {
		g := s.graph.Load()
		if err := g.Apply(g.Revision()+1, changes...); err != nil {
			s.drop()
			return &contradiction{err}
		}
	}
	s.at.Store(e.GetPosition())
	s.tell(nil)
	s.fresh = s.fresh || len(changes) > 0
	return nil
}

// catalog is what the server says of roles and access policies.
func catalog(c *accessv1.FollowResponse_Catalog) (checker.Roles, map[string]facts.Policy) {
	roles := checker.Roles{Permissions: c.GetPermissions(), Roles: make(map[string][]string)}
	for _, r := range c.GetRoles() {
		held := make([]string, 0, len(r.GetPermissions()))
		for _, p := range r.GetPermissions() {
			if int(p) >= 0 && int(p) < len(roles.Permissions) {
				held = append(held, roles.Permissions[p])
			}
		}
		roles.Roles[r.GetId()] = held
	}
	policies := make(map[string]facts.Policy)
	for _, p := range c.GetPolicies() {
		policies[p.GetId()] = facts.Policy{Denies: p.GetDenies(), OnParent: p.GetDeniesOnParent()}
	}
	return roles, policies
}
