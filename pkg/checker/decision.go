package checker

// Query is one question: may the subject do what the permission names to the
// resource, at a time in microseconds. What ends at Now has ended. Token is the
// token by which the subject came, Session the login session that the token came
// from, if they are to be looked at.
type Query struct {
	Subject    Subject
	Permission string
	Resource   Resource
	Now        int64
	Token      TokenID
	Session    TokenID
}

// Decision is the answer. Its zero value is a no.
type Decision struct {
	Allowed  bool
	Reason   Reason
	Revision int64 // of the facts that were looked at
}

// Reason says what the answer rests on.
type Reason uint8

// Reasons, one for each way a decision can end. All but Granted are refusals.
const (
	NoGrant           Reason = iota // nothing on the path grants it (RH-8)
	Granted                         // a binding grants it, no policy denies it
	DeniedByPolicy                  // granted, but an access policy denies it (AP-1)
	SubjectUnknown                  // nobody made the subject known, or its type does not act
	SubjectInactive                 // suspended, deleted, or at its end
	ResourceUnknown                 // the resource, or one above it, was never placed
	ResourceDeleted                 // the resource was removed
	TokenRevoked                    // the token is void, or its session is (TK-5)
	PermissionUnknown               // no such permission in the catalogue
)

// String names the reason in the form of an error reason.
func (r Reason) String() string {
	names := [...]string{
		NoGrant: "NO_GRANT", Granted: "GRANTED", DeniedByPolicy: "DENIED_BY_POLICY",
		SubjectUnknown: "SUBJECT_UNKNOWN", SubjectInactive: "SUBJECT_INACTIVE",
		ResourceUnknown: "RESOURCE_UNKNOWN", ResourceDeleted: "RESOURCE_DELETED",
		TokenRevoked: "TOKEN_REVOKED", PermissionUnknown: "PERMISSION_UNKNOWN",
	}
	return names[r]
}

// Explanation is a decision with everything on the path that bears on it.
type Explanation struct {
	Decision
	Path    []Resource // the resource first, the root of its tree last
	Grants  []Grant    // bindings in force that grant the permission, nearest first
	Denials []Denial   // policies that deny it, nearest first
}

// Grant is a binding that grants.
type Grant struct {
	Role     string
	Resource Resource // that the role is bound on
	Until    int64    // 0 for no end

	// By leads from the subject of the query (first) by its memberships to the
	// identity that the role is bound to (last).
	By []Subject
}

// Denial is an access policy that denies.
type Denial struct {
	Policy   string
	Resource Resource
}
