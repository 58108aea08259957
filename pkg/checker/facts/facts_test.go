package facts

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/checker"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

func TestWhatIsEncodedIsDecoded(t *testing.T) {
	on, below, who := checker.Resource{Type: "a.top", ID: "1"}, checker.Resource{Type: "a.thing", ID: "2"}, checker.Subject{Type: "userAccount", ID: "u"}
	policies := func(id string) (Policy, bool) {
		return Policy{Denies: []string{"a.things.update"}, OnParent: []string{"a.tops.delete"}}, id == "known" || id == checker.PayerStopped
	}
	for _, want := range []checker.Change{
		checker.Place{Resource: on}, checker.Place{Resource: below, Parent: on}, checker.Remove{Resource: below},
		checker.Bind{Resource: on, Subject: who, Role: "viewer"}, checker.Bind{Resource: on, Subject: who, Role: "viewer", Until: 1234567},
		checker.Unbind{Resource: on, Subject: who, Role: "viewer"},
		checker.SetSubject{Subject: who, State: checker.Active}, checker.SetSubject{Subject: who, State: checker.Suspended, Until: 7},
		checker.SetSubject{Subject: who, State: checker.Deleted}, checker.SetSubject{Subject: who, State: checker.Unknown},
		checker.Join{Container: on, Subject: who}, checker.Leave{Container: on, Subject: who},
		checker.Revoke{Token: checker.TokenID{1, 2, 3}, Until: 99},
		checker.Deny{Resource: on, Policy: "known", Permissions: []string{"a.things.update"}, OnParent: []string{"a.tops.delete"}},
		checker.Undeny{Resource: on, Policy: "known"},
		checker.Pay{For: below, Payer: on}, checker.Pay{For: below},
		checker.Stop{Payer: on, Stopped: true, Permissions: []string{"a.things.update"}}, checker.Stop{Payer: on},
	} {
		m, err := Encode(want)
		if err != nil {
			t.Fatal(err)
		}
		text, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		sent := new(accessv1.Change)
		if err := proto.Unmarshal(text, sent); err != nil {
			t.Fatal(err)
		}
		got, err := Decode(sent, policies)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%T: %v %s", want, err, d)
		}
	}
}

func TestWhatCannotBeDecoded(t *testing.T) {
	none := func(string) (Policy, bool) { return Policy{}, false }
	for name, c := range map[string]*accessv1.Change{
		"a policy that is not known": {Fact: &accessv1.Change_PolicyBound{PolicyBound: &accessv1.PolicyBound{TemplateId: "p"}}},
		"what a stopped payer takes": {Fact: &accessv1.Change_PayerStopped{PayerStopped: &accessv1.PayerStopped{Stopped: true}}},
		"a short token":              {Fact: &accessv1.Change_TokenRevoked{TokenRevoked: &accessv1.TokenRevoked{TokenId: []byte{1}}}},
	} {
		if got, err := Decode(c, none); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, c := range map[string]*accessv1.Change{
		"nothing":         {},
		"a group's name":  {Fact: &accessv1.Change_GroupChanged{GroupChanged: &accessv1.GroupChanged{Id: "g"}}},
		"nothing at all ": nil,
	} {
		if got, err := Decode(c, none); got != nil || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
