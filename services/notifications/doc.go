// Package notifications is the unit that tells people what becomes of what is
// theirs: owners of a cloud, and subscribers of an organization, cloud or folder, by
// mail and by webhook.
//
// Tables: notifications_notices, notifications_deliveries, notifications_subscribers,
// notifications_removals; of the kit
// notifications_operations, _idempotency, _audit, _secrets and the queue goqite.
//
// RPCs: bindery.notification.v1.SubscriptionService (NT-3) for everybody, and
// bindery.notification.v1.NotificationService for the other units, which call
// it through their outbox (pkg/notice); bindery.notification.v1.OperatorService on
// the operator socket (NT-4).
//
// A notice on its way, each arrow a durable job:
//
//	Notify ──route──▶ one delivery for each recipient ──deliver──▶ DELIVERED
//	                                     ▲     │ failed
//	                                     └─────┘ later, ever later; after GiveUpAfter DEAD
//
// Each step is repeated until it is recorded as done, so a recipient is told at least
// once: a crash between a mail's acceptance and its mark sends it again, with the same
// Message-ID. Ids are made before the first attempt and never change: a notice has the
// id of its caller, a delivery one of its own.
//
// A webhook gets requests as Standard Webhooks has them (webhook_sender.go). Where they
// lead is judged when the address is dialed (newGuard): a customer names a URL, and the
// unit stands where private networks can be reached. One that takes nothing for
// days is disabled, and people are told of it.
//
// Recipients are found when a notice is routed (recipients.go): whoever is suspended,
// deleted or has left the organization by then is told nothing.
//
// Rules by number: NT-1 to NT-3 in recipients.go and in accessbindings' audience.go,
// NT-4 in
// operators.go, NT-5 in compose.go, AU-4 in audit.go.
package notifications
