package accessbindings

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// followPermission lets somebody follow an organization.
const followPermission = "organization-manager.accessChanges.follow"

// Bounds of one stream.
const (
	maxSnapshots = 2                // that are read from the store at once
	maxStalled   = 10 * time.Second // that one message may take to leave
	leavingTime  = 2 * time.Second  // for a follower to give its right back at the end
	chunkFacts   = 500              // in one message
)

var (
	errNoStart    = apierr.InvalidField("report", "must not be the first message")
	errTwoStarts  = apierr.InvalidField("start", "must be the first message, and no other one")
	errStalled    = apierr.Unavailable(apierr.ReasonUnavailable, "the follower does not take what it is sent")
	errTokenEnded = apierr.Unauthenticated(apierr.ReasonTokenExpired, "the IAM token has expired, follow again with a new one")
)

// Changes is bindery.access.v1.ChangeService.
type Changes struct {
	accessv1.UnimplementedChangeServiceServer
	committer *committer
	followers *followers
	catalog   *catalog.Catalog
	contents  *accessv1.FollowResponse_Catalog
	decider   authz.Decider
	tokens    *authn.Verifier
	now       func() time.Time
	reading   chan struct{} // has room for those who read a snapshot
}

func newChanges(c *committer, of *catalog.Catalog, d authz.Decider, tokens *authn.Verifier, now func() time.Time) (*Changes, error) {
	contents, err := contentsOf(of)
	if err != nil {
		return nil, err
	}
	return &Changes{
		committer: c, followers: c.graph.followers, catalog: of, contents: contents, decider: d, tokens: tokens, now: now,
		reading: make(chan struct{}, maxSnapshots),
	}, nil
}

// contentsOf is a catalogue as followers read it.
func contentsOf(of *catalog.Catalog) (*accessv1.FollowResponse_Catalog, error) {
	m := new(accessv1.FollowResponse_Catalog)
	number := make(map[string]int32)
	for i, p := range of.Permissions() {
		m.Permissions = append(m.Permissions, p.ID)
		number[p.ID] = int32(i)
	}
	for _, r := range of.Roles() {
		role := &accessv1.FollowResponse_Catalog_Role{Id: r.ID}
		for _, p := range r.Permissions {
			role.Permissions = append(role.Permissions, number[p])
		}
		m.Roles = append(m.Roles, role)
	}
	for _, p := range of.AllEnforced() {
		m.Policies = append(m.Policies, &accessv1.FollowResponse_Catalog_Policy{Id: p.ID, Denies: p.Denies, DeniesOnParent: p.DeniesOnParent})
	}
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode the catalogue: %w", err)
	}
	sum := sha256.Sum256(text)
	m.Fingerprint = sum[:]
	return m, nil
}

// Follow sends facts and their changes. The rules of who may answer by them are those of
// followers.
func (s *Changes) Follow(stream grpc.BidiStreamingServer[accessv1.FollowRequest, accessv1.FollowResponse]) error {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) || err == nil && first.GetStart() == nil {
		return errNoStart
	}
	if err != nil {
		return err
	}
	who := authn.FromContext(stream.Context())
	if who.Unit == "" && first.GetStart().GetOrganizationId() == "" {
		return apierr.InvalidField("start.organization_id", "must not be empty")
	}
	f, err := s.followers.enter(first.GetStart().GetOrganizationId(), who)
	if err != nil {
		return err
	}
	defer s.followers.exit(f)
	c := &feed{
		Changes: s, follower: f, stream: stream, who: who,
		filter: picker{organization: f.organization}, heard: make(chan struct{}, 1), left: make(chan struct{}),
	}
	return c.run(stream.Context(), first.GetStart().GetPosition())
}

// feed is one follower's stream.
type feed struct {
	*Changes
	follower *follower
	filter   picker
	stream   grpc.BidiStreamingServer[accessv1.FollowRequest, accessv1.FollowResponse]
	who      authn.Principal
	heard    chan struct{} // a report has arrived
	left     chan struct{} // closed when the follower released its right after it was asked to leave
	leaving  atomic.Bool
	sending  atomic.Int64 // since when a message waits to leave, by the clock of leases; 0 for none
}

// run serves a follower until it goes, does not report or does not take what it is sent.
// The two directions run beside it: its return ends both.
func (c *feed) run(ctx context.Context, from *accessv1.Position) error {
	if err := c.begin(ctx, from); err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- c.receive(ctx) }()
	go func() { ended <- c.sends(ctx, from == nil) }()
	terms := c.followers.terms
	tick := time.NewTicker(terms.Renew)
	defer tick.Stop()
	last := c.followers.clock()
	for {
		select {
		case err := <-ended:
			return err
		case <-c.heard:
			last = c.followers.clock()
		case <-tick.C:
			now := c.followers.clock()
			if begun := c.sending.Load(); begun != 0 && now-time.Duration(begun) > maxStalled {
				return errStalled
			}
			if now-last > maxStalled+terms.Duration {
				return errSilent
			}
		}
	}
}

// begin says what follows: a snapshot, or the changes after a position that is in the
// history of the store.
func (c *feed) begin(ctx context.Context, from *accessv1.Position) error {
	if from == nil {
		return c.send(c.beginning(true))
	}
	err := c.read(ctx, func(ctx context.Context, q sqldb.Querier) error {
		h, err := c.committer.store.head(ctx, q, false)
		if err != nil {
			return err
		}
		if h.Epoch != from.GetEpoch() || from.GetRevision() > h.Revision || string(from.GetCatalog()) != string(c.contents.GetFingerprint()) {
			return errLineLost
		}
		line, err := c.committer.store.lineAt(ctx, q, from.GetRevision())
		switch {
		case err != nil:
			return err
		case line == "" || h.Revision-from.GetRevision() > maxWindow:
			return errTooOld
		case line != from.GetLine():
			return errLineLost
		}
		c.filter.foreign, err = c.committer.store.foreign(ctx, q, c.filter.organization, nil)
		return err
	})
	if err != nil {
		return err
	}
	c.followers.resume(c.follower, from.GetRevision())
	return c.send(c.beginning(false))
}

func (c *feed) beginning(snapshot bool) *accessv1.FollowResponse {
	b := &accessv1.FollowResponse_Begin{
		Epoch: c.committer.graph.now().Epoch, Snapshot: snapshot, ReportEveryMicros: c.followers.terms.Renew.Microseconds(),
	}
	if snapshot {
		b.Catalog = c.contents
	}
	return &accessv1.FollowResponse{Event: &accessv1.FollowResponse_Begin_{Begin: b}}
}

// send sends one message; run ends a follower that does not take it.
func (c *feed) send(m *accessv1.FollowResponse) error {
	c.sending.Store(int64(c.followers.clock()))
	defer c.sending.Store(0)
	return c.stream.Send(m)
}

// receive hears reports.
func (c *feed) receive(ctx context.Context) error {
	for {
		m, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		r := m.GetReport()
		if r == nil {
			return errTwoStarts
		}
		wake(c.heard)
		if r.GetReleased() {
			c.followers.released(c.follower)
			if c.leaving.Load() {
				close(c.left)
				return errStopped
			}
			continue
		}
		if err := c.mayFollow(ctx); err != nil {
			return err
		}
		if err := c.followers.note(ctx); err != nil {
			c.committer.log.Debug("a follower is granted nothing: its process could not note that it has one")
		}
		c.followers.report(c.follower, r.GetSequence(), r.GetRevision(), nowMicros(c.now))
	}
}

// mayFollow asks again, for each report, whether this process answers and whether the
// caller may still follow: its token may have ended and its role may be gone.
func (c *feed) mayFollow(ctx context.Context) error {
	if err := c.committer.graph.lost(); err != nil {
		return err
	}
	if c.follower.of != c.committer.graph.now() {
		return errLineLost
	}
	if c.who.Unit != "" {
		return nil
	}
	if _, err := c.tokens.Verify(ctx, c.who.Token); err != nil {
		return errTokenEnded.WithCause(err)
	}
	err := c.decider.Authorize(ctx, c.who, followPermission, authz.Resource{Type: typeOrganization, ID: c.filter.organization})
	if apierr.CodeOf(err) == codes.Unavailable { // this process has no right to answer, and grants none
		return nil
	}
	return err
}
