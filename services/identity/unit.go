package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	awsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	workloadv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/identity/oauthclients"
	"github.com/bindery-iam/bindery/services/identity/oslogin"
	"github.com/bindery-iam/bindery/services/identity/outbound"
	"github.com/bindery-iam/bindery/services/identity/saml"
	"github.com/bindery-iam/bindery/services/identity/signin"
)

// Name of the unit, of its schema, and in the names of its kit tables.
const Name = "identity"

// Unit is identity with the default configuration.
func Unit() server.Unit { return Config{}.Unit() }

// Unit is identity.
func (c Config) Unit() server.Unit {
	return server.Unit{
		Name:  Name,
		Needs: []string{"accessbindings", "resourcemanager"},
		Seals: true,
		Migrations: []sqldb.Migrations{
			Migrations(), idempotency.Migrations(Name), jobs.Migrations(Name), audit.Migrations(Name), operation.Migrations(Name),
			secret.Migrations(Name), signin.Migrations(Name), saml.Migrations(Name), oslogin.Migrations(Name), oauthclients.Migrations(Name),
		},
		Build: func(ctx context.Context, base server.Base) (*server.Parts, error) {
			if err := c.Validate(); err != nil {
				return nil, fmt.Errorf("configuration: %w", err)
			}
			s, err := New(ctx, base)
			if err != nil {
				return nil, err
			}
			s.configure(c.withDefaults())
			if err := s.openSignIn(ctx); err != nil {
				return nil, fmt.Errorf("sign-in: %w", err)
			}
			return s.Parts(), nil
		},
	}
}

// configure takes what an operator may change.
func (s *Service) configure(c Config) {
	s.cfg, s.outside = c, outbound.NewClient(c.Issuers)
	s.keySets, s.providers = outbound.NewKeySets(s.outside, s.now), outbound.NewProviders(s.outside, s.now)
}

// Service is the unit at work.
type Service struct {
	cfg        Config
	store      *Store
	operations *operation.Store
	once       *idempotency.Store
	pages      *page.Sealer
	keys       *keyRing
	issuer     *authn.Issuer
	tokens     *authn.Verifier
	jobs       *jobs.Queue
	keyMaker   *keyMaker     // of authorized keys
	address    func() string // that clients are told
	sealer     *secret.Sealer
	catalog    *catalog.Catalog
	resolvers  map[string]authz.Resolver // that rules of the unit's methods name
	handlers   *http.ServeMux            // of WebService, by path
	now        func() time.Time          // to a microsecond, as it is stored
	log        *zap.Logger

	decider  authz.Decider
	subjects accessv1.SubjectServiceClient
	tree     accessv1.ResourceServiceClient
	bindings accessv1.AccessBindingServiceClient
	changes  accessv1.OperationLogServiceClient

	organizations orgv1.OrganizationServiceClient
	clouds        rmv1.CloudServiceClient
	groupList     orgv1.GroupServiceClient
	resourceNames brmv1.ResourceNameServiceClient
	notices       notificationv1.NotificationServiceClient
	limits        *quota.Limits
	places        brmv1.PlaceServiceClient
	removals      *removals
	osLogin       *oslogin.Service
	oauthClients  *oauthclients.Service

	federationKeys singleflight.Group // that are made
	refusals       refusals           // of answers of federations' providers

	outside   *outbound.Client // for what tenants name
	keySets   *outbound.KeySets
	providers *outbound.Providers
	lookupTXT func(ctx context.Context, name string) ([]string, error) // of the name system

	// What else goes when a user is deleted, and when a subject leaves an organization.
	deletions  []func(ctx context.Context, tx *sql.Tx, userID string) error
	departures []func(ctx context.Context, tx *sql.Tx, organizationID, subjectID string) error
}

// New reads the signing keys, making the first ones on the first start.
func New(ctx context.Context, base server.Base) (*Service, error) {
	key, err := secret.Get(ctx, base.DB, Name, "page", page.KeySize)
	if err != nil {
		return nil, err
	}
	pages, err := page.New(key)
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Load()
	if err != nil {
		return nil, err
	}
	peer := base.Peer("accessbindings")
	s := &Service{
		store:      &Store{db: base.DB},
		operations: operation.NewStore(base.DB, Name, id.OperationIdentity, base.Now),
		once:       idempotency.NewStore(base.DB, Name, base.Now),
		pages:      pages,
		keys:       &keyRing{db: base.DB, sealer: base.Sealer, now: base.Now},
		tokens:     base.Tokens,
		jobs:       jobs.New(jobs.Config{DB: base.DB, Unit: Name, Log: base.Log}),
		keyMaker:   newKeyMaker(),
		address:    base.Address,
		resolvers:  map[string]authz.Resolver{"keyHolder": keyHolder},
		sealer:     base.Sealer,
		catalog:    cat,
		handlers:   http.NewServeMux(),
		now:        func() time.Time { return base.Now().Truncate(time.Microsecond) },
		log:        base.Log,
		decider:    authz.NewClient(peer),
		subjects:   accessv1.NewSubjectServiceClient(peer),
		tree:       accessv1.NewResourceServiceClient(peer),
		bindings:   accessv1.NewAccessBindingServiceClient(peer),
		changes:    accessv1.NewOperationLogServiceClient(peer),

		organizations: orgv1.NewOrganizationServiceClient(base.Peer("resourcemanager")),
		clouds:        rmv1.NewCloudServiceClient(base.Peer("resourcemanager")),
		groupList:     orgv1.NewGroupServiceClient(peer),
		resourceNames: brmv1.NewResourceNameServiceClient(base.Peer("resourcemanager")),
		notices:       notificationv1.NewNotificationServiceClient(base.Peer("notifications")),
		limits:        quota.NewLimits(base.Peer("resourcemanager"), base.Now),
		lookupTXT:     net.DefaultResolver.LookupTXT,
		places:        brmv1.NewPlaceServiceClient(base.Peer("resourcemanager")),
	}
	s.resolvers["authorizedKey"] = s.authorizedKey
	s.resolvers["apiKey"], s.resolvers["accessKey"] = s.accountOf(&apiKeyKind), s.accountOf(&accessKeyKind)
	s.removals = &removals{db: base.DB, tree: s.tree, log: base.Log, types: map[string][]letGo{}}
	if err := s.keys.open(ctx); err != nil {
		return nil, err
	}
	if err := errors.Join(s.resealAccessKeys(ctx), s.resealAuthorities(ctx), s.resealFederationKeys(ctx)); err != nil {
		return nil, err
	}
	s.issuer = &authn.Issuer{Key: s.keys.signing, Epoch: s.keys.epoch, Now: base.Now}
	jobs.Register(s.jobs, jobRegister, s.register)
	jobs.Register(s.jobs, jobRevoke, s.revoke)
	s.handleMembers()
	s.handleFederations()
	jobs.Register(s.jobs, jobEndSessions, s.endSessions)
	s.handleAccounts()
	s.handleOsLogin(base, s.limits)
	s.handleOAuthClients(s.limits)
	s.handleWorkloads()
	if err := base.Metrics.Register(s.jobs); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return s, nil
}

// handleAccounts registers what service accounts need.
func (s *Service) handleAccounts() {
	jobs.Register(s.jobs, jobCreateAccount, s.registerAccount)
	jobs.Register(s.jobs, jobStanding, s.putStanding)
	jobs.Register(s.jobs, jobResume, s.resumeAccount)
	jobs.Register(s.jobs, jobDeleteAccount, s.deleteAccount)
	s.removals.on(typeAccount, s.letGoAccounts)
}

// handleWorkloads registers what federations and their credentials need.
func (s *Service) handleWorkloads() {
	jobs.Register(s.jobs, jobCreateFederation, s.registerFederation)
	jobs.Register(s.jobs, jobDeleteFederation, s.deleteFederation)
	jobs.Register(s.jobs, jobEndWorkloadTokens, s.endWorkloadTokens)
	s.resolvers["federatedCredential"] = s.accountOfCredential
	s.removals.on(typeFederation, s.letGoFederations)
}

// handleMembers registers what users, members and invitations need.
func (s *Service) handleMembers() {
	jobs.Register(s.jobs, jobSetState, s.setState)
	jobs.Register(s.jobs, jobDeleteUser, s.deleteUserJob)
	jobs.Register(s.jobs, jobSettle, s.settleJob)
	jobs.Register(s.jobs, jobMail, s.sendMail)
	jobs.Register(s.jobs, jobJoin, s.join)
	jobs.Register(s.jobs, jobLeave, s.leave)
	s.resolvers["invitation"] = s.resolveInvitation
	s.removals.on(typeOrganization, s.letGoInvitations)
}

// registerServices registers what the unit serves.
func (s *Service) registerServices(r grpc.ServiceRegistrar) {
	iamv1.RegisterIamTokenServiceServer(r, &tokens{Service: s})
	iamv1.RegisterRefreshTokenServiceServer(r, &refreshTokens{Service: s})
	identityv1.RegisterSessionServiceServer(r, &sessions{Service: s})
	iamv1.RegisterKeyServiceServer(r, &authorizedKeys{Service: s})
	iamv1.RegisterServiceAccountServiceServer(r, &accounts{
		Service: s, Bindings: access.Bindings{Client: s.bindings, Type: typeAccount},
	})
	iamv1.RegisterUserAccountServiceServer(r, &users{Service: s})
	iamv1.RegisterYandexPassportUserAccountServiceServer(r, &logins{Service: s})
	iamv1.RegisterApiKeyServiceServer(r, &apiKeys{Service: s})
	awsv1.RegisterAccessKeyServiceServer(r, &accessKeys{Service: s})
	awsv1.RegisterTemporaryAccessKeyServiceServer(r, &temporaryKeys{Service: s})
	identityv1.RegisterApiKeyTokenServiceServer(r, &apiKeyTokens{Service: s})
	identityv1.RegisterCredentialServiceServer(r, &credentials{Service: s})
	identityv1.RegisterDirectoryServiceServer(r, &directory{Service: s})
	iamv1.RegisterSubjectDetailsServiceServer(r, &details{Service: s})
	samlv1.RegisterFederationServiceServer(r, &samlFederations{Service: s})
	orgv1.RegisterGroupMappingServiceServer(r, &groupMappings{Service: s})
	samlv1.RegisterCertificateServiceServer(r, &samlCertificates{Service: s})
	orgv1.RegisterUserServiceServer(r, &members{Service: s})
	identityv1.RegisterInvitationServiceServer(r, &invitations{Service: s})
	identityv1.RegisterSigningKeyServiceServer(r, &signingKeys{Service: s})
	identityv1.RegisterWebServiceServer(r, &web{Service: s})
	s.osLogin.Register(r)
	s.oauthClients.Register(r)
	oidcv1.RegisterFederationServiceServer(r, &federations{
		Service: s, Bindings: access.Bindings{Client: s.bindings, Type: typeFederation},
	})
	workloadv1.RegisterFederatedCredentialServiceServer(r, &federatedCredentials{Service: s})
	identityv1.RegisterTokenExchangeServiceServer(r, &tokenExchange{Service: s})
}

// Parts is what the unit gives its process.
func (s *Service) Parts() *server.Parts {
	return &server.Parts{
		Register: s.registerServices,
		RegisterOperator: func(r grpc.ServiceRegistrar) {
			identityv1.RegisterOperatorServiceServer(r, &operators{Service: s})
		},
		Resolvers:  s.resolvers,
		Operations: s.operations,
		Keys:       s.once,
		Keyed: append([]string{
			awsv1.AccessKeyService_Create_FullMethodName,
			awsv1.TemporaryAccessKeyService_CreateEphemeral_FullMethodName,
			iamv1.ApiKeyService_Create_FullMethodName,
			identityv1.OperatorService_CreateUser_FullMethodName,
			identityv1.OperatorService_RotateSigningKey_FullMethodName,
			identityv1.SessionService_CreateSession_FullMethodName,
			identityv1.SessionService_RefreshSession_FullMethodName,
			iamv1.KeyService_Create_FullMethodName,
		}, oauthclients.Keyed...),
		Usage: map[string]quota.Usage{
			quotaInvites:                 s.invitesOf,
			catalog.QuotaOsLoginProfiles: s.osLogin.ProfilesOf,
			catalog.QuotaOAuthClients:    s.oauthClients.ClientsOf,
			catalog.QuotaFederations:     s.federationsIn,
			catalog.QuotaCertificates:    s.certificatesIn,
			catalog.QuotaFederatedUsers:  s.federatedUsersIn,
			catalog.QuotaServiceAccounts: s.accountsOf,
			catalog.QuotaAuthorizedKeys:  s.authorizedKeysIn,
			catalog.QuotaAPIKeys:         s.keysOfCloud(&apiKeyKind),
			catalog.QuotaAccessKeys:      s.keysOfCloud(&accessKeyKind),

			catalog.QuotaWorkloadFederations:  s.federationsOf,
			catalog.QuotaFederatedCredentials: s.keysOfCloud(&federatedCredentialKind),
		},
		Ready: func(context.Context) error {
			if s.keys.signing().Private == nil {
				return errors.New("no signing key")
			}
			return nil
		},
		Run: s.run,
	}
}

// run executes jobs and follows rotations by other processes, until ctx ends.
func (s *Service) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.jobs.Run(ctx) })
	g.Go(func() error { return s.removals.run(ctx) })
	g.Go(func() error {
		tick := time.NewTicker(followEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if err := s.keys.follow(ctx); err != nil && ctx.Err() == nil {
					s.log.Warn("signing keys were not read", zap.Error(err))
				}
			}
		}
	})
	g.Go(func() error {
		tick := time.NewTicker(dropEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
				if err := s.dropSessions(ctx); err != nil && ctx.Err() == nil {
					s.log.Warn("ended sessions were not dropped", zap.Error(err))
				}
			}
		}
	})
	return g.Wait()
}
