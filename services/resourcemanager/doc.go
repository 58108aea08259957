// Package resourcemanager is the unit that owns organizations, clouds and folders:
// their data, their names, their quotas and their deletion. Who has access to them
// is a fact of accessbindings, which this unit tells of every resource it makes.
//
// Tables: resourcemanager_resources; those of quotas; those of package tickets, which is
// support tickets under clouds and organizations; of the kit resourcemanager_operations,
// _idempotency, _audit, _secrets, _threads and the queue goqite.
//
// RPCs: yandex.cloud.resourcemanager.v1.CloudService and FolderService,
// yandex.cloud.organizationmanager.v1.OrganizationService (the access methods are
// passed on to accessbindings), bindery.resourcemanager.v1.OrganizationService and
// DeletionService, bindery.support.v1.TicketService (package tickets), and to other units
// ResourceNameService.
//
// The life of a resource, the same for the three kinds:
//
//	CREATING ──register──▶ ACTIVE ◀─cancel── PENDING_DELETION ──purge──▶ DELETING ──▶ gone
//	                          └──────────────delete later──▲                 ▲
//	                          └──────────────delete now──────────────────────┘
//
// A call writes the row, the operation, the audit record and a durable job in one
// transaction; the job talks to the tree (register, remove) and then, in a second
// transaction, ends the operation. It is executed at once, so that the call
// returns an operation that is done; after a crash, or while accessbindings is
// away, a worker does it.
//
// Rules by number: CR-1 to CR-4, CR-6, CR-9, CR-11 (who makes what and becomes its
// owner; the permission part is in the method options), NM-1 to NM-8 (names, labels,
// lists, masks; patterns are in the protos), DL-1 to DL-9, DL-12, DL-14, DL-15
// (deletion), QL-2 (quotas), AU-1, AU-4, AU-8 (audit). Every refusal stands in
// refusals.go.
package resourcemanager
