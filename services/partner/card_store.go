package partner

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// accountCard is a card with the account that it is of, of which the id, the name and the
// time are read.
type accountCard struct {
	account Account
	card    *partnerv1.PartnerCard
}

func (c accountCard) position() page.Position { return c.account.position() }

// Card reads the card of an account; an empty one for an account that has none.
func (s *Store) Card(ctx context.Context, q sqldb.Querier, accountID string) (*partnerv1.PartnerCard, error) {
	var text string
	err := q.QueryRowContext(ctx, `SELECT card FROM partner_cards WHERE account_id = $1`, accountID).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return new(partnerv1.PartnerCard), nil
	}
	if err != nil {
		return nil, fmt.Errorf("get partner card: %w", err)
	}
	return decodeCard(text)
}

// PutCard writes the card of an account, whose lock is held.
func (s *Store) PutCard(ctx context.Context, tx *sql.Tx, accountID string, card *partnerv1.PartnerCard) error {
	raw, err := protojson.Marshal(card)
	if err != nil {
		return fmt.Errorf("encode partner card: %w", err)
	}
	text, err := json.Marshal(json.RawMessage(raw)) // protojson spaces at random
	if err != nil {
		return fmt.Errorf("encode partner card: %w", err)
	}
	published := 0
	if card.GetPublished() {
		published = 1
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO partner_cards (account_id, published, card, updated_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (account_id) DO UPDATE SET published = excluded.published, card = excluded.card, updated_at = excluded.updated_at`,
		accountID, published, string(text), sqldb.Micros(card.GetUpdatedAt().AsTime()))
	if err != nil {
		return fmt.Errorf("write partner card: %w", err)
	}
	return nil
}

// PublishedCards reads at most limit cards that follow after, oldest account first, of
// partners whose accounts are ACTIVE (PT-2).
func (s *Store) PublishedCards(ctx context.Context, q sqldb.Querier, after page.Position, limit int) (all []accountCard, err error) {
	rows, err := q.QueryContext(ctx, `
		SELECT a.id, a.name, a.created_at, c.card
		FROM partner_cards c JOIN partner_accounts a ON a.id = c.account_id JOIN partner_partners p ON p.account_id = a.id
		WHERE c.published = 1 AND a.phase = 'LIVING' AND a.state = 'ACTIVE' AND (a.created_at, a.id) > ($1, $2)
		ORDER BY a.created_at, a.id LIMIT $3`, after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list partner cards: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var c accountCard
		var created int64
		var text string
		if err := rows.Scan(&c.account.ID, &c.account.Name, &created, &text); err != nil {
			return nil, fmt.Errorf("list partner cards: %w", err)
		}
		c.account.CreatedAt = sqldb.Time(created)
		if c.card, err = decodeCard(text); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, rows.Err()
}

func decodeCard(text string) (*partnerv1.PartnerCard, error) {
	card := new(partnerv1.PartnerCard)
	if err := protojson.Unmarshal([]byte(text), card); err != nil {
		return nil, fmt.Errorf("read partner card: %w", err)
	}
	return card, nil
}
