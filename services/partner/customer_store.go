package partner

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// customerEmailKey is the constraint by which a partner has one customer of an address.
const customerEmailKey = "partner_customers_partner_id_email_key"

// InsertCustomer adds what is known of the customer of a new subaccount. Fails:
// CUSTOMER_EXISTS.
func (s *Store) InsertCustomer(ctx context.Context, tx *sql.Tx, c Customer) error {
	person, err := encodePerson(c.Person)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO partner_customers (account_id, partner_id, email, open, person, external_id, comment, organization_id,
			creator_type, creator_id, sends, suspended_by, reason)
		VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		c.ID, c.PartnerID, c.Email, person, c.ExternalID, c.Comment, c.Organization, c.CreatorType, c.CreatorID, c.Sends, c.SuspendedBy, c.Reason)
	if sqldb.ConstraintName(err) == customerEmailKey {
		return errCustomerExists
	}
	if err != nil {
		return fmt.Errorf("insert customer: %w", err)
	}
	return nil
}

// UpdateCustomer writes what may change of a subaccount and its customer.
func (s *Store) UpdateCustomer(ctx context.Context, tx *sql.Tx, c Customer) error {
	if err := s.UpdateAccount(ctx, tx, c.Account); err != nil {
		return err
	}
	person, err := encodePerson(c.Person)
	if err != nil {
		return err
	}
	open := 1
	if c.State == Inactive {
		open = 0
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE partner_customers SET open = $2, person = $3, external_id = $4, comment = $5, organization_id = $6, sends = $7,
			suspended_by = $8, reason = $9
		WHERE account_id = $1`, c.ID, open, person, c.ExternalID, c.Comment, c.Organization, c.Sends, c.SuspendedBy, c.Reason)
	if err != nil {
		return fmt.Errorf("update customer: %w", err)
	}
	return nil
}

const selectCustomers = `
	SELECT a.id, a.partner_id, a.organization_id, a.name, a.country_code, a.currency, a.state, a.phase, a.suspended_at, a.created_by,
		a.created_at, a.operation, a.version, a.balance, c.email, c.person, c.external_id, c.comment, c.organization_id, c.creator_type, c.creator_id,
		c.sends, c.suspended_by, c.reason
	FROM partner_accounts a JOIN partner_customers c ON c.account_id = a.id`

// Customer reads a subaccount with its customer. Fails: SUBACCOUNT_NOT_FOUND, for any
// other account too.
func (s *Store) Customer(ctx context.Context, q sqldb.Querier, accountID string) (Customer, error) {
	row := q.QueryRowContext(ctx, selectCustomers+` WHERE a.id = $1`, accountID)
	c, err := scanCustomer(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Customer{}, errSubaccountNotFound(accountID)
	}
	if err != nil {
		return Customer{}, fmt.Errorf("get subaccount %s: %w", accountID, err)
	}
	return c, nil
}

// LockCustomer is Customer that keeps other transactions from changing it until this one
// ends. Fails: SUBACCOUNT_NOT_FOUND, BILLING_ACCOUNT_BUSY while it is being made.
func (s *Store) LockCustomer(ctx context.Context, tx *sql.Tx, accountID string) (Customer, error) {
	if _, err := s.LockAccount(ctx, tx, accountID); err != nil {
		return Customer{}, errSubaccountNotFound(accountID)
	}
	c, err := s.Customer(ctx, tx, accountID)
	if err == nil && (c.Phase != Living || c.Operation != "") {
		err = errAccountBusy(c.Account)
	}
	return c, err
}

// customerFilters are the columns by which customers are listed.
var customerFilters = map[string]string{"state": "a.state", "invitation_email": "c.email", "external_id": "c.external_id", "suspended_by": "c.suspended_by"}

// Customers reads at most limit subaccounts of a partner that follow after, oldest
// first; field is one of customerFilters or "".
func (s *Store) Customers(ctx context.Context, partnerID, field, value string, after page.Position, limit int) ([]Customer, error) {
	text := selectCustomers + ` WHERE a.partner_id = $1 AND (a.created_at, a.id) > ($2, $3)`
	args := []any{partnerID, after.Time, after.ID, limit}
	if column := customerFilters[field]; column != "" {
		text += ` AND ` + column + ` = $5`
		args = append(args, value)
	}
	all, err := s.readCustomers(ctx, text+` ORDER BY a.created_at, a.id LIMIT $4`, args...)
	if err != nil {
		return nil, fmt.Errorf("list subaccounts: %w", err)
	}
	return all, nil
}

// InvitedCustomers reads at most limit subaccounts that wait for the answer of an address
// and follow after, oldest first.
func (s *Store) InvitedCustomers(ctx context.Context, address string, after page.Position, limit int) ([]Customer, error) {
	all, err := s.readCustomers(ctx, selectCustomers+`
		WHERE c.email = $1 AND a.state = 'ACCEPTANCE_REQUIRED' AND a.phase = 'LIVING' AND (a.created_at, a.id) > ($2, $3)
		ORDER BY a.created_at, a.id LIMIT $4`, address, after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	return all, nil
}

func (s *Store) readCustomers(ctx context.Context, query string, args ...any) ([]Customer, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var all []Customer
	for rows.Next() {
		c, err := scanCustomer(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

func scanCustomer(scan func(...any) error) (Customer, error) {
	var c Customer
	var person string
	var err error
	c.Account, err = scanAccount(func(dest ...any) error {
		return scan(append(dest, &c.Email, &person, &c.ExternalID, &c.Comment, &c.Organization, &c.CreatorType, &c.CreatorID,
			&c.Sends, &c.SuspendedBy, &c.Reason)...)
	})
	if err != nil {
		return Customer{}, err
	}
	c.Person, err = decodePerson(person)
	return c, err
}

// Programs are those of a partner (PT-3); both false for an account without partner
// status.
type Programs struct{ VAR, Referral bool }

// Partner reads the programs of an account.
func (s *Store) Partner(ctx context.Context, q sqldb.Querier, accountID string) (p Programs, err error) {
	var v, r int64
	err = q.QueryRowContext(ctx, `SELECT var, referral FROM partner_partners WHERE account_id = $1`, accountID).Scan(&v, &r)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, fmt.Errorf("get partner %s: %w", accountID, err)
	}
	return Programs{VAR: v == 1, Referral: r == 1}, nil
}

// SetPartner writes the programs of an account; with none it is no partner.
func (s *Store) SetPartner(ctx context.Context, tx *sql.Tx, accountID string, p Programs) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM partner_partners WHERE account_id = $1`, accountID); err != nil {
		return fmt.Errorf("set partner: %w", err)
	}
	if p == (Programs{}) {
		return nil
	}
	number := map[bool]int{true: 1}
	_, err := tx.ExecContext(ctx, `INSERT INTO partner_partners (account_id, var, referral) VALUES ($1, $2, $3)`,
		accountID, number[p.VAR], number[p.Referral])
	if err != nil {
		return fmt.Errorf("set partner: %w", err)
	}
	return nil
}

// PartnerAccounts reads at most limit ACTIVE accounts with partner status that follow
// after, oldest first.
func (s *Store) PartnerAccounts(ctx context.Context, after page.Position, limit int) ([]Account, error) {
	all, err := s.readAccounts(ctx, s.db, `
		SELECT `+accountColumns+` FROM partner_accounts
		WHERE (created_at, id) > ($1, $2) AND phase = 'LIVING' AND state = 'ACTIVE' AND id IN (SELECT account_id FROM partner_partners)
		ORDER BY created_at, id LIMIT $3`, after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list partners: %w", err)
	}
	return all, nil
}
