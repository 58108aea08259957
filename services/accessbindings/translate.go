package accessbindings

import (
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	checkerfacts "github.com/bindery-iam/bindery/pkg/checker/facts"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// fact is an entry of the log as a graph of the catalogue takes it; nil for an entry
// that changes no fact.
func fact(of *catalog.Catalog, c *accessv1.Change) (checker.Change, error) {
	return checkerfacts.Decode(c, func(id string) (checkerfacts.Policy, bool) {
		t, ok := of.Enforced(id)
		return checkerfacts.Policy{Denies: t.Denies, OnParent: t.DeniesOnParent}, ok
	})
}

// denyFact is what a policy denies by the catalogue. One that the catalogue does not
// name could not be enforced: whoever needs it does not start, or stops.
func denyFact(of *catalog.Catalog, on checker.Resource, template string) (checker.Change, error) {
	return fact(of, &accessv1.Change{Fact: &accessv1.Change_PolicyBound{
		PolicyBound: &accessv1.PolicyBound{Resource: Ref(on).proto(), TemplateId: template},
	}})
}

func stateFact(s State) checker.State { return checkerfacts.State(s) }

func subjectFact(s *accessv1.Subject) checker.Subject { return checker.Subject(subjectOf(s)) }
