package accessbindings

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
)

// followWorlds is how many random worlds followers are compared in, for each engine;
// BINDERY_FOLLOW_WORLDS says it otherwise.
const followWorlds = 12

// TestFollowersAnswerAsTheOracle compares what followers know with the second reading of
// the rules in checkertest, on random worlds and histories that are written through the
// unit while others write: a follower of everything, and one of an organization of each
// world, which knows nothing of others.
func TestFollowersAnswerAsTheOracle(t *testing.T) {
	worlds, err := strconv.ParseUint(os.Getenv("BINDERY_FOLLOW_WORLDS"), 10, 32)
	if err != nil {
		worlds = followWorlds
	}
	seed := seedOf(t)
	forEach(t, func(t *testing.T, w *world) {
		o := &oracle{world: w, start: time.Now(), answers: map[string]int{}}
		all := w.follow("", Subject{})
		w.ready(all)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { // others write
			for ctx.Err() == nil {
				_, _ = w.update(adam, folder1, add(viewer, vera))
				_, _ = w.update(adam, folder1, remove(viewer, vera)) // it ends with the test
			}
		}()
		compared, foreign := 0, 0
		for n := range worlds {
			o.begin(rand.New(rand.NewPCG(seed, n)), fmt.Sprintf("f%d-", n), oracleRoles, oracleTemplates)
			organization := o.anOrganization()
			one := w.follow(organization, Subject{})
			for range oracleRounds {
				o.clock.set(o.base)
				for range 5 {
					o.play(o.gen.Step())
				}
				for range oracleQuestions {
					q := o.gen.Query()
					if o.isIn(q.Resource, organization) {
						o.follower(one, q)
						compared++
					} else if answer := o.told(one, q); answer == checkertest.Yes {
						t.Errorf("%s: a follower of %s says yes about another organization", q, organization)
					} else {
						foreign++
					}
					o.follower(all, q)
					compared++
				}
			}
			one.stop()
			o.clock.set(time.Time{})
			if t.Failed() {
				t.Fatalf("world %d of seed %d", n, seed)
			}
		}
		t.Logf("%d answers compared, %d about other organizations, at revision %d: %v", compared, foreign, all.Revision(), o.answers)
		if o.answers[checkertest.Yes] < 50 || o.answers[checkertest.DeniedByPolicy] < 5 {
			t.Errorf("too few answers of a kind to tell: %v", o.answers)
		}
	})
}

// anOrganization is one of the world's; of a world without any it is none.
func (o *oracle) anOrganization() string {
	for _, r := range o.gen.World.Resources {
		if r.Name.Type() == typeOrganization && !r.Removed {
			return o.ref(r.Name).ID
		}
	}
	return "none"
}

// isIn reports whether a resource stands in an organization now.
func (o *oracle) isIn(r checkertest.Ref, organization string) bool {
	return rootIn(o.service.committer.graph.View())(checker.Resource(o.ref(r))) == organization
}

// told is what a follower knows, once it may answer.
func (o *oracle) told(e *elsewhere, q checkertest.Query) string {
	o.t.Helper()
	o.ready(e)
	return e.Facts().Decide(checker.Query{
		Subject: checker.Subject(o.who(q.Subject)), Permission: q.Permission,
		Resource: checker.Resource(o.ref(q.Resource)), Now: o.at(q.Now).UnixMicro(),
	}).Reason.String()
}

// follower compares one answer.
func (o *oracle) follower(e *elsewhere, q checkertest.Query) {
	o.t.Helper()
	want := o.gen.World.Answer(q)
	o.answers[want]++
	if got := o.told(e, q); got != want {
		o.t.Errorf("%s: %v", q, errors.Join(fmt.Errorf("a follower says %s, want %s", got, want),
			errors.New((&checkertest.Scenario{World: *o.gen.World}).YAML())))
	}
}
