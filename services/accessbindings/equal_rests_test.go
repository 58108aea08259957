package accessbindings

import (
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"
)

// restOn is what answers are to rest on, so that a comparison shows something about it.
var restOn = []string{
	"a group", "a group in a group", "a system group", "a public group", "a service account", "a binding that ends",
	"a policy that gives", "an access policy", "a stopped payer",
}

// lacking are those that too few answers rest on.
func (e *equal) lacking() []string {
	return slices.DeleteFunc(slices.Clone(restOn), func(what string) bool { return e.rests[what] >= 5 })
}

// rest counts what an answer rests on: a yes on its only binding, a denial on what denies.
func (e *equal) rest(q checkertest.Query, in *checkertest.World, answer string) {
	if answer == checkertest.DeniedByPolicy {
		for _, p := range in.Denials(q) {
			if p.Name == checkertest.PayerStopped {
				e.rests["a stopped payer"]++
			} else {
				e.rests["an access policy"]++
			}
		}
		return
	}
	grants := in.Grants(q)
	if answer != checkertest.Yes || len(grants) != 1 {
		return
	}
	b := grants[0]
	switch holder := b.Subject; {
	case holder.Type() == rules.Group && slices.Contains(in.Members, checkertest.Member{Container: checkertest.Ref(typeGroup + ":" + holder.ID()), Subject: q.Subject}):
		e.rests["a group"]++
	case holder.Type() == rules.Group:
		e.rests["a group in a group"]++
	case holder.Type() == rules.System && rules.Public(holder.ID()):
		e.rests["a public group"]++
	case holder.Type() == rules.System:
		e.rests["a system group"]++
	case holder.Type() == rules.ServiceAccount:
		e.rests["a service account"]++
	}
	if !slices.ContainsFunc(b.Sources, func(s checkertest.Source) bool { return s.Until == 0 }) {
		e.rests["a binding that ends"]++
	}
	if !slices.ContainsFunc(b.Sources, func(s checkertest.Source) bool { return !strings.HasPrefix(s.Kind, "policy") }) {
		e.rests["a policy that gives"]++
	}
}
