package rules

// Keeps is OW-1, OW-3 [ours]: whether a holder of an owner role is one who can remain
// the only owner of a resource. A group is not: its last member may leave it at any
// time, and it be deleted, and nobody would have to look at owners then; it may own
// beside an account. A service account goes with its folder, so it keeps clouds only,
// to which the owners of the organization can appoint others (OW-6).
func Keeps(subjectType, resourceType string) bool {
	switch subjectType {
	case UserAccount, FederatedUser:
		return true
	case ServiceAccount:
		return resourceType == Cloud
	default:
		return false
	}
}
