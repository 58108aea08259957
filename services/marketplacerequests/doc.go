// Package marketplacerequests is the unit of the marketplace: publishers, their
// products, requests for access to products, and what is installed.
//
// Tables: marketplacerequests_publishers, _products, _slugs, _instances, _removals; of
// the kit marketplacerequests_requests, _request_votes, _threads, _thread_messages,
// _thread_reads, _operations, _idempotency, _audit, _secrets and the queue goqite.
//
// RPCs: bindery.marketplace.v1 PublisherService (publishers.go), ProductService
// (products.go, listings.go), ProductAccessRequestService (requests.go, messages.go),
// ProductInstanceService (instances.go), and OperatorService on the operator socket
// (operators.go).
//
// Whether somebody may install a product is a fact of the checker: the role
// marketplace.products.user on the product, given by a grant of this unit
// (bindery.access.v1.GrantService), to whoever's request was approved and, for what is
// available to all, to everybody. So CheckAccess is a check, and what was
// acknowledged is enforced wherever it is asked. Each decision is made in a
// transaction here and made true by a durable job; package request has the states, the
// sides and the order of things, and knows nothing of products.
//
// Publishers are roots of trees of their own, with products below them; installed
// products stand below folders.
//
// Rules by number: MR-1 to MR-4 in products.go and publishers.go, MR-5 to MR-15 in
// requests.go and grid.go, MR-12 and MR-13 in instances.go, MR-14 in tell.go, MR-16
// and MR-17 in publisher_users.go, MR-19 to MR-25 beside what they are about.
package marketplacerequests
