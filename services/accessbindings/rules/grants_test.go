package rules

import (
	"testing"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

func TestSC13_SC14_GrantRules(t *testing.T) {
	whole, part := SetOfPermissions{ID: "W", Whole: true}, SetOfPermissions{ID: "P"}
	for _, test := range []struct {
		name   string
		grant  Grant
		at     int
		reason string
	}{
		{"of the organization", Grant{Sets: []SetOfPermissions{whole}, Whole: true}, -1, ""},
		{"of places", Grant{Sets: []SetOfPermissions{part, part}}, -1, ""},
		{"a set of places on the organization", Grant{Sets: []SetOfPermissions{whole, part}, Whole: true}, 1, "PERMISSION_SET_MISPLACED"},
		{"a set of the organization on places", Grant{Sets: []SetOfPermissions{whole}}, 0, "PERMISSION_SET_MISPLACED"},
		{"a condition", Grant{Sets: []SetOfPermissions{part}, Condition: "x"}, -1, "CONDITIONS_UNSUPPORTED"},
	} {
		at, err := GrantFits(test.grant)
		if at != test.at || apierr.ReasonOf(err) != test.reason {
			t.Errorf("%s: %d %v, want %d %s", test.name, at, err, test.at, test.reason)
		}
	}
	for _, test := range []struct {
		who   Subject
		local bool
		ok    bool
	}{
		{Subject{Type: UserAccount, ID: "u"}, true, true},
		{Subject{Type: UserAccount, ID: "u"}, false, false},
		{Subject{Type: System, ID: "group:organization:o:users"}, false, true},
		{Subject{Type: System, ID: "group:organization:p:users"}, false, false},
		{Subject{Type: System, ID: "group:federation:o:users"}, true, false},
		{Subject{Type: System, ID: "allUsers"}, true, false},
	} {
		if err := MayBePrincipal(test.who, "o", test.local); (err == nil) != test.ok {
			t.Errorf("%v, local %v: %v", test.who, test.local, err)
		}
	}
	if GrantNameFree("n", false) != nil || apierr.ReasonOf(GrantNameFree("n", true)) != "GRANT_POLICY_NAME_TAKEN" {
		t.Error("names")
	}
}
