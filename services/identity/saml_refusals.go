package identity

import (
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/id"
)

// Reasons about SAML federations and what belongs to them.
const (
	ReasonFederationNotActive   = "FEDERATION_NOT_ACTIVE"
	ReasonFederationBusy        = "FEDERATION_BUSY" // one change after the other
	ReasonFederationParent      = "PARENT_DELETED"  // what an operation ends with that the organization's deletion overtook
	ReasonNameIDsCollide        = "NAME_IDS_COLLIDE"
	ReasonCertificateNotFound   = "CERTIFICATE_NOT_FOUND"
	ReasonCertificateNameTaken  = "CERTIFICATE_NAME_TAKEN"
	ReasonFederatedUserNotFound = "FEDERATED_USER_NOT_FOUND"
	ReasonDomainNotFound        = "DOMAIN_NOT_FOUND"
	ReasonDomainExists          = "DOMAIN_EXISTS"
	ReasonDomainTaken           = "DOMAIN_TAKEN"
	ReasonTooManyDomains        = "TOO_MANY_DOMAINS"
	ReasonMappingNotFound       = "GROUP_MAPPING_NOT_FOUND"
	ReasonMappingExists         = "GROUP_MAPPING_EXISTS"
	ReasonTooManyItems          = "TOO_MANY_MAPPING_ITEMS"
	ReasonGroupNotFound         = "GROUP_NOT_FOUND"
)

// Every "no" about them.
var (
	errSAMLFederationParentDeleted = apierr.Precondition(ReasonFederationParent, "the organization of the federation was deleted")
	errFederatedUserBusy           = apierr.Conflict(ReasonFederationBusy, "a user of the federation is being added or deleted: try again when it is done")
	errNameIDsCollide              = apierr.Precondition(ReasonNameIDsCollide, "name ids of users of the federation differ in case only")
	errTooManyDomains              = apierr.Precondition(ReasonTooManyDomains, "a federation has %d domains at most", maxDomains)
	errMappingNotFound             = apierr.NotFound(ReasonMappingNotFound, "the federation has no group mapping")
	errMappingExists               = apierr.AlreadyExists(ReasonMappingExists, "the federation has a group mapping")
	errTooManyItems                = apierr.Precondition(ReasonTooManyItems, "a group mapping has %d items at most", maxMappingItems)
	errGroupNotFound               = apierr.NotFound(ReasonGroupNotFound, "group not found")
	errDomainTaken                 = apierr.AlreadyExists(ReasonDomainTaken, "the domain is proven in another federation")
)

// idNotFound repeats an id only when it has the form of one.
func idNotFound(reason, what, text string) *apierr.Error {
	if !id.Valid(text) {
		return apierr.NotFound(reason, "%s not found", what)
	}
	return apierr.NotFound(reason, "%s %s not found", what, text)
}

func errSAMLFederationNotFound(federationID string) *apierr.Error {
	return idNotFound(ReasonFederationNotFound, "federation", federationID)
}

func errSAMLFederationNameTaken(name string) *apierr.Error {
	return apierr.AlreadyExists(ReasonFederationNameTaken, "a federation named %q exists in the organization", name)
}

func errFederationNotActive(f SAMLFederation) *apierr.Error {
	if f.State == Deleting {
		return apierr.Precondition(ReasonBeingDeleted, "federation %s is being deleted", f.ID)
	}
	return apierr.Precondition(ReasonFederationNotActive, "federation %s is %s", f.ID, f.State)
}

func errCertificateNotFound(certificateID string) *apierr.Error {
	return idNotFound(ReasonCertificateNotFound, "certificate", certificateID)
}

func errCertificateNameTaken(name string) *apierr.Error {
	return apierr.AlreadyExists(ReasonCertificateNameTaken, "a certificate named %q exists in the federation", name)
}

func errFederatedUserNotFound(subjectID string) *apierr.Error {
	return idNotFound(ReasonFederatedUserNotFound, "user of the federation", subjectID)
}

func errDomainNotFound(domain string) *apierr.Error {
	return apierr.NotFound(ReasonDomainNotFound, "domain %s not found in the federation", domain)
}

func errDomainExists(domain string) *apierr.Error {
	return apierr.AlreadyExists(ReasonDomainExists, "domain %s is in the federation already", domain)
}
