package notice

import "slices"

// Events of which notices tell, as family and event. An event never changes its
// meaning: webhooks filter by it.
const (
	CloudDeletionScheduled  = "cloud.deletion_scheduled"
	CloudDeletionCancelled  = "cloud.deletion_cancelled"
	CloudDeleted            = "cloud.deleted"
	CloudOwnerAdded         = "cloud.owner_added"
	CloudOwnerRemoved       = "cloud.owner_removed"
	CloudPolicyBound        = "cloud.access_policy_bound"
	FolderDeletionScheduled = "folder.deletion_scheduled"
	FolderDeletionCancelled = "folder.deletion_cancelled"
	FolderDeleted           = "folder.deleted"

	OrganizationOwnerAdded   = "organization.owner_added"
	OrganizationOwnerRemoved = "organization.owner_removed"
	OrganizationPolicyBound  = "organization.access_policy_bound"

	InvitationSent = "invitation.sent"

	AccessRequestCreated             = "access_request.created" // MR-14
	AccessRequestMessage             = "access_request.message"
	AccessRequestCanceled            = "access_request.canceled"
	AccessRequestApproved            = "access_request.approved"
	AccessRequestRejected            = "access_request.rejected"
	AccessRequestRevocationRequested = "access_request.revocation_requested"
	AccessRequestRevoked             = "access_request.revoked"

	RoleRequestCreated  = "role_request.created" // RQ-9
	RoleRequestMessage  = "role_request.message"
	RoleRequestApproved = "role_request.approved"
	RoleRequestRejected = "role_request.rejected"
	RoleRequestCanceled = "role_request.canceled"
	RoleRequestEnded    = "role_request.ended"
	RoleRequestExpired  = "role_request.expired"

	TicketAnswered = "ticket.answered" // ST-5
	TicketClosed   = "ticket.closed"

	MaintenancePlanned = "maintenance.planned" // NT-4
	IncidentReported   = "incident.reported"   // NT-4
	ServiceAnnounced   = "service.announced"

	WebhookDisabled = "webhook.disabled"
)

// Events are all of them.
var Events = []string{
	CloudDeletionScheduled, CloudDeletionCancelled, CloudDeleted, CloudOwnerAdded, CloudOwnerRemoved, CloudPolicyBound,
	FolderDeletionScheduled, FolderDeletionCancelled, FolderDeleted,
	OrganizationOwnerAdded, OrganizationOwnerRemoved, OrganizationPolicyBound,
	AccessRequestCreated, AccessRequestMessage, AccessRequestCanceled, AccessRequestApproved, AccessRequestRejected,
	AccessRequestRevocationRequested, AccessRequestRevoked,
	RoleRequestCreated, RoleRequestMessage, RoleRequestApproved, RoleRequestRejected, RoleRequestCanceled, RoleRequestEnded, RoleRequestExpired,
	TicketAnswered, TicketClosed,
	InvitationSent, MaintenancePlanned, IncidentReported, ServiceAnnounced, WebhookDisabled,
}

// Known reports whether something is an event.
func Known(event string) bool { return slices.Contains(Events, event) }
