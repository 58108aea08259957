package server

import (
	"context"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Unit is one service inside the binary.
type Unit struct {
	// Name in flags, unit credentials and schema names: lower case, no dot.
	Name string

	// Migrations of the unit's own tables and of those that the kit keeps for it.
	// They have run before Build. A unit without any has no database.
	Migrations []sqldb.Migrations

	// Needs are the units that this one cannot do without. Each is in the same
	// process or in Options.Peers; the process is not ready before it has reached
	// them once.
	Needs []string

	// Seals: the unit keeps sealed secrets in its tables, and cannot be served
	// without Options.Sealer.
	Seals bool

	// Build makes the unit. It must not call a peer: nothing is served yet.
	Build func(ctx context.Context, base Base) (*Parts, error)
}

// Base is what a process gives a unit. Every field is set, but for DB of a unit
// without migrations and Sealer of one that does not seal.
type Base struct {
	Log     *zap.Logger           // named after the unit
	Metrics prometheus.Registerer // labels each metric with unit="…"
	DB      *sqldb.DB             // the unit's schema, or the file that all units share
	DataDir string                // for files that the unit keeps
	Now     func() time.Time
	Given   bool // Now is the one of Options, which stands for the clocks of databases too
	Catalog authz.Catalog
	Tokens  *authn.Verifier // verifies IAM tokens that come inside a request
	Sealer  *secret.Sealer  // seals secrets by keys that are not in the database

	// Peer returns the connection to another unit, made at first use. Each call
	// carries this unit's credential, the id of the request under way and the
	// caller's token, unless the context was made by AsUnit.
	Peer func(unit string) grpc.ClientConnInterface

	// Has reports whether a unit is in this process or has an address. Of those in
	// Unit.Needs it is known; of those that this unit only tells things to it is not.
	Has func(unit string) bool

	// Door is the connection that anybody could make: to the process's own public
	// port, without any credential, carrying only what the caller puts into the
	// context. REST goes through it.
	Door *grpc.ClientConn

	// Address is the host:port of gRPC that clients are told. It is known once the
	// process listens, which is before the first call.
	Address func() string
}

// Parts is what a unit gives its process. Register is required, the rest as the
// unit needs it.
type Parts struct {
	// Register registers the unit's services, each with its rules.
	Register func(grpc.ServiceRegistrar)

	// RegisterOperator registers services for the operator socket only.
	RegisterOperator func(grpc.ServiceRegistrar)

	// Decider judges the unit's own methods. Nil means the AccessService of the
	// unit accessbindings.
	Decider authz.Decider

	// Resolvers are those that the rules of the unit's services name.
	Resolvers map[string]authz.Resolver

	// Quiet names services whose successful calls write no log line and get no
	// response headers: the check, which others call on each request of theirs.
	Quiet []string

	// Fast are the fast paths of methods, by full name. The rule of such a method must
	// admit every request that carries an iam_token.
	Fast map[string]Fast

	// Usage counts what resources use of the quotas that the unit owns, by the id of
	// the quota. The UsageService of the process answers for those of all units.
	Usage map[string]quota.Usage

	// Operations are the unit's long-running operations. The OperationService of
	// the process answers for those of all units, by the prefix of the id.
	Operations *operation.Store

	// Keys are the idempotency keys of the unit's writes, which are its methods that
	// return an Operation and those in Keyed. Their handlers make their write by
	// Keys.Operation or Keys.Answer, or leave it to one call of another unit, with
	// idempotency.PassOn. All other methods ignore the header.
	Keys *idempotency.Store

	// Keyed names, in full, further methods that honour idempotency keys.
	Keyed []string

	// Routes are methods of other units that the process passes on to where they
	// run, as they came: for the one unit that official clients know as the address
	// of all. Nil for every other unit.
	Routes *Routes

	// HTTP is served on the HTTP port of the process. One unit at most has it.
	HTTP http.Handler

	// Ready reports why the unit cannot answer yet; nil when it can.
	Ready func(ctx context.Context) error

	// Run does the unit's work beside requests until ctx ends. An error ends the
	// process.
	Run func(ctx context.Context) error

	// Drain ends calls that have no end of their own, such as streams of changes. It is
	// called when the process begins to end, before the calls under way are waited for.
	Drain func()
	// Close frees what Build acquired, after the last request.
	Close func() error
}
