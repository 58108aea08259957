package identity

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

// How a domain is proven: a TXT record of this name below it holds the challenge.
const (
	challengeLabel  = "_bindery-challenge."
	challengePrefix = "bindery-domain-verification="
)

// Bounds of domains.
const (
	maxDomains    = 100             // of one federation
	lookupTimeout = 5 * time.Second // of one proof
)

// Why a domain could not be proven.
const (
	codeRecordNotFound = "TXT_RECORD_NOT_FOUND" // there is none of the name
	codeRecordOther    = "TXT_RECORD_DIFFERS"   // there are others
	codeLookupFailed   = "LOOKUP_FAILED"        // nobody knows
)

// FederationDomain is a domain whose people sign in through a federation.
type FederationDomain struct {
	FederationID string
	Domain       string // in lower case, without a dot at the end
	Status       samlv1.Domain_Status
	StatusCode   string // why it is not proven
	Challenge    string
	CreatedAt    time.Time
	UpdatedAt    time.Time
	ValidatedAt  time.Time // zero until it is proven
}

// proto is the public message of a domain.
func (d FederationDomain) proto() *samlv1.Domain {
	status := map[samlv1.Domain_Status]samlv1.DomainChallenge_Status{
		samlv1.Domain_NEED_TO_VALIDATE: samlv1.DomainChallenge_PENDING, samlv1.Domain_VALID: samlv1.DomainChallenge_VALID,
		samlv1.Domain_INVALID: samlv1.DomainChallenge_INVALID,
	}
	return &samlv1.Domain{
		Domain: d.Domain, Status: d.Status, StatusCode: d.StatusCode, CreatedAt: timestamppb.New(d.CreatedAt), ValidatedAt: timestamp(d.ValidatedAt),
		Challenges: []*samlv1.DomainChallenge{{
			CreatedAt: timestamppb.New(d.CreatedAt), UpdatedAt: timestamppb.New(d.UpdatedAt), Type: samlv1.DomainChallenge_DNS_TXT, Status: status[d.Status],
			Challenge: &samlv1.DomainChallenge_DnsChallenge{DnsChallenge: &samlv1.DomainChallenge_DnsRecord{
				Name: challengeLabel + d.Domain, Type: samlv1.DomainChallenge_DnsRecord_TXT, Value: challengePrefix + d.Challenge,
			}},
		}},
	}
}

// domainOf reads the name of a domain (RFC 1035, 2.3.1, with digits anywhere): two
// labels at least. Fails: INVALID_ARGUMENT of the field domain.
func domainOf(text string) (string, error) {
	domain := strings.ToLower(strings.TrimSuffix(text, "."))
	labels := strings.Split(domain, ".")
	wrong := len(domain) > 253 || len(labels) < 2
	for _, label := range labels {
		wrong = wrong || len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' })
	}
	if wrong {
		return "", apierr.InvalidField("domain", "must be a domain name of two labels or more, of letters, digits and `-`")
	}
	return domain, nil
}

// GetDomain reads a domain. Fails: DOMAIN_NOT_FOUND.
func (s *samlFederations) GetDomain(ctx context.Context, req *samlv1.GetFederationDomainRequest) (*samlv1.Domain, error) {
	domain, err := domainOf(req.GetDomain())
	if err != nil {
		return nil, err
	}
	d, err := s.store.Domain(ctx, s.store.db, req.GetFederationId(), domain)
	if err != nil {
		return nil, err
	}
	return d.proto(), nil
}

// ListDomains reads one page of the domains of a federation, by name.
func (s *samlFederations) ListDomains(ctx context.Context, req *samlv1.ListFederationDomainsRequest) (*samlv1.ListFederationDomainsResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "domain")
	if err != nil {
		return nil, err
	}
	scope := []string{"federation domains", req.GetFederationId(), f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	rows, err := s.store.DomainsOf(ctx, req.GetFederationId(), after.ID, size+1)
	if err != nil {
		return nil, err
	}
	if f.Field != "" {
		rows = slices.DeleteFunc(rows, func(d FederationDomain) bool { return d.Domain != strings.ToLower(f.Value) })
	}
	resp := new(samlv1.ListFederationDomainsResponse)
	for _, d := range rows {
		resp.Domains = append(resp.Domains, d.proto())
	}
	if fit := page.Fit(min(len(rows), size), func(i int) int { return proto.Size(resp.GetDomains()[i]) }); fit < len(rows) {
		resp.Domains = resp.GetDomains()[:fit]
		resp.NextPageToken, err = s.pages.Seal(page.Position{ID: rows[fit-1].Domain}, scope...)
	}
	return resp, err
}

// AddDomain adds a domain with a challenge to prove it. Fails: DOMAIN_EXISTS,
// TOO_MANY_DOMAINS above maxDomains, FEDERATION_NOT_ACTIVE, BEING_DELETED.
func (s *samlFederations) AddDomain(ctx context.Context, req *samlv1.AddFederationDomainRequest) (*operationpb.Operation, error) {
	domain, err := domainOf(req.GetDomain())
	if err != nil {
		return nil, err
	}
	now := s.now()
	d := FederationDomain{
		FederationID: req.GetFederationId(), Domain: domain, Status: samlv1.Domain_NEED_TO_VALIDATE, Challenge: rand.Text(), CreatedAt: now, UpdatedAt: now,
	}
	return s.onFederation(ctx, d.FederationID, func(ctx context.Context, tx *sql.Tx, f SAMLFederation) (op operation.Operation, err error) {
		n, err := s.store.count(ctx, tx, `SELECT COUNT(*) FROM identity_saml_domains WHERE federation_id = $1`, f.ID)
		if err != nil {
			return op, err
		}
		if n >= maxDomains {
			return op, errTooManyDomains
		}
		if err := s.store.InsertDomain(ctx, tx, d); err != nil {
			return op, err
		}
		return s.domainDone(ctx, tx, f, "Add domain", "saml.AddFederationDomain", domain, &samlv1.AddFederationDomainMetadata{FederationId: f.ID, Domain: domain}, d.proto())
	})
}

// ValidateDomain looks for the proof of a domain and says what it found. Fails:
// DOMAIN_NOT_FOUND, DOMAIN_TAKEN, FEDERATION_NOT_ACTIVE, BEING_DELETED.
func (s *samlFederations) ValidateDomain(ctx context.Context, req *samlv1.ValidateFederationDomainRequest) (*operationpb.Operation, error) {
	domain, err := domainOf(req.GetDomain())
	if err != nil {
		return nil, err
	}
	known, err := s.store.Domain(ctx, s.store.db, req.GetFederationId(), domain)
	if err != nil {
		return nil, err
	}
	code := s.proofOf(ctx, known) // asked before the transaction
	return s.onFederation(ctx, known.FederationID, func(ctx context.Context, tx *sql.Tx, f SAMLFederation) (op operation.Operation, err error) {
		d, err := s.store.Domain(ctx, tx, f.ID, domain)
		if err != nil {
			return op, err
		}
		d.StatusCode, d.UpdatedAt = code, s.now()
		switch {
		case code == "" && d.Challenge == known.Challenge:
			if d.Status = samlv1.Domain_VALID; d.ValidatedAt.IsZero() {
				d.ValidatedAt = d.UpdatedAt
			}
		default:
			d.Status, d.ValidatedAt = samlv1.Domain_INVALID, time.Time{}
		}
		if err := s.store.UpdateDomain(ctx, tx, d); err != nil {
			return op, err
		}
		return s.domainDone(ctx, tx, f, "Validate domain", "saml.ValidateFederationDomain", domain, &samlv1.ValidateFederationDomainMetadata{FederationId: f.ID, Domain: domain}, d.proto())
	})
}

// proofOf looks for the record of a challenge; it returns why there is none, "" when
// there is.
func (s *Service) proofOf(ctx context.Context, d FederationDomain) string {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	texts, err := s.lookupTXT(ctx, challengeLabel+d.Domain+".")
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return codeRecordNotFound
	case err != nil:
		return codeLookupFailed
	case !slices.Contains(texts, challengePrefix+d.Challenge):
		return codeRecordOther
	}
	return ""
}

// DeleteDomain takes a domain from a federation. Fails: DOMAIN_NOT_FOUND,
// FEDERATION_NOT_ACTIVE, BEING_DELETED.
func (s *samlFederations) DeleteDomain(ctx context.Context, req *samlv1.DeleteFederationDomainRequest) (*operationpb.Operation, error) {
	domain, err := domainOf(req.GetDomain())
	if err != nil {
		return nil, err
	}
	return s.onFederation(ctx, req.GetFederationId(), func(ctx context.Context, tx *sql.Tx, f SAMLFederation) (op operation.Operation, err error) {
		if err := s.store.DeleteDomain(ctx, tx, f.ID, domain); err != nil {
			return op, err
		}
		return s.domainDone(ctx, tx, f, "Delete domain", "saml.DeleteFederationDomain", domain, &samlv1.DeleteFederationDomainMetadata{FederationId: f.ID, Domain: domain}, new(emptypb.Empty))
	})
}

// domainDone ends a write on a domain: its operation, done, and its audit record.
func (s *Service) domainDone(ctx context.Context, tx *sql.Tx, f SAMLFederation, description, name, domain string, metadata, response proto.Message) (operation.Operation, error) {
	op, err := s.insertFederationOperation(ctx, tx, f, description, metadata, response)
	if err != nil {
		return op, err
	}
	return op, s.recordFederation(ctx, tx, f, federationEvent{
		name: name, status: audit.Done, permission: permUpdateFederation, operation: op.ID, details: map[string]any{"domain": domain},
	})
}

const domainColumns = `federation_id, domain, status, status_code, challenge, created_at, updated_at, validated_at`

// InsertDomain adds a domain that is not proven. Fails: DOMAIN_EXISTS.
func (s *Store) InsertDomain(ctx context.Context, tx *sql.Tx, d FederationDomain) error {
	res, err := tx.ExecContext(ctx, `INSERT INTO identity_saml_domains (`+domainColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		d.FederationID, d.Domain, d.Status.String(), d.StatusCode, d.Challenge, sqldb.Micros(d.CreatedAt), sqldb.Micros(d.UpdatedAt), sqldb.Micros(d.ValidatedAt))
	if err != nil {
		return fmt.Errorf("insert domain: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return fmt.Errorf("insert domain: %w", err)
	} else if n == 0 {
		return errDomainExists(d.Domain)
	}
	return nil
}

// UpdateDomain writes whether a domain is proven. Fails: DOMAIN_TAKEN.
func (s *Store) UpdateDomain(ctx context.Context, tx *sql.Tx, d FederationDomain) error {
	claimed := sql.NullString{String: d.Domain, Valid: d.Status == samlv1.Domain_VALID}
	_, err := tx.ExecContext(ctx, `
		UPDATE identity_saml_domains SET claimed = $3, status = $4, status_code = $5, updated_at = $6, validated_at = $7
		WHERE federation_id = $1 AND domain = $2`,
		d.FederationID, d.Domain, claimed, d.Status.String(), d.StatusCode, sqldb.Micros(d.UpdatedAt), sqldb.Micros(d.ValidatedAt))
	if sqldb.ConstraintName(err) == domainClaims {
		return errDomainTaken
	}
	if err != nil {
		return fmt.Errorf("update domain: %w", err)
	}
	return nil
}

// domainClaims keeps a domain proven in one federation at a time.
const domainClaims = "identity_saml_domains_claimed_key"

// DeleteDomain removes a domain. Fails: DOMAIN_NOT_FOUND.
func (s *Store) DeleteDomain(ctx context.Context, tx *sql.Tx, federationID, domain string) error {
	res, err := tx.ExecContext(ctx, `DELETE FROM identity_saml_domains WHERE federation_id = $1 AND domain = $2`, federationID, domain)
	if err != nil {
		return fmt.Errorf("delete domain: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return fmt.Errorf("delete domain: %w", err)
	} else if n == 0 {
		return errDomainNotFound(domain)
	}
	return nil
}

// Domain reads a domain of a federation. Fails: DOMAIN_NOT_FOUND.
func (s *Store) Domain(ctx context.Context, q sqldb.Querier, federationID, domain string) (FederationDomain, error) {
	d, err := scanDomain(q.QueryRowContext(ctx, `SELECT `+domainColumns+` FROM identity_saml_domains WHERE federation_id = $1 AND domain = $2`, federationID, domain))
	if errors.Is(err, sql.ErrNoRows) {
		return FederationDomain{}, errDomainNotFound(domain)
	}
	if err != nil {
		return FederationDomain{}, fmt.Errorf("read domain: %w", err)
	}
	return d, nil
}

// DomainsOf reads at most limit domains of a federation that follow after, by name.
func (s *Store) DomainsOf(ctx context.Context, federationID, after string, limit int) ([]FederationDomain, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+domainColumns+` FROM identity_saml_domains WHERE federation_id = $1 AND domain > $2 ORDER BY domain LIMIT $3`,
		federationID, after, limit)
	return collect(rows, err, scanDomain)
}

func scanDomain(r row) (FederationDomain, error) {
	var d FederationDomain
	var status string
	var created, updated, validated int64
	err := r.Scan(&d.FederationID, &d.Domain, &status, &d.StatusCode, &d.Challenge, &created, &updated, &validated)
	d.Status = samlv1.Domain_Status(samlv1.Domain_Status_value[status])
	d.CreatedAt, d.UpdatedAt, d.ValidatedAt = sqldb.Time(created), sqldb.Time(updated), sqldb.Time(validated)
	return d, err
}
